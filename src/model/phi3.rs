//! Phi-3 (arXiv:2404.14219), also 3.5 and 4: Llama with queries, keys and values stored as one matrix, gate and up as
//! another, and heads that may rotate in part.

use super::Architecture;
use super::design::{Design, Names};
use crate::checkpoint::Config;

pub const PHI3: Architecture = Architecture {
    name: "Phi3ForCausalLM",
    caches: |c| phi3(c).caches(c),
    load: |c, loader| phi3(c).load(c, loader),
};

fn phi3(c: &Config) -> Design {
    Design {
        names: Names { qkv: &["self_attn.qkv_proj"], up: &["mlp.gate_up_proj"], ..Names::LLAMA },
        ..Design::llama(c)
    }
}
