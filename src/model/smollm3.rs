//! SmolLM3: Llama in which every fourth layer does not rotate queries and keys (after arXiv:2501.18795).

use super::Architecture;
use super::design::Design;

pub const SMOLLM3: Architecture = Architecture {
    name: "SmolLM3ForCausalLM",
    caches: |c| Design::llama(c).caches(c),
    load: |c, loader| Design::llama(c).load(c, loader),
};
