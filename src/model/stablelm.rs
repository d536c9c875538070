//! StableLM 2 (arXiv:2402.17834): Llama with layer norms, and heads that rotate in part.

use super::Architecture;
use super::design::{Biased, Design, NormKind};
use crate::checkpoint::Config;

pub const STABLELM: Architecture = Architecture {
    name: "StableLmForCausalLM",
    caches: |c| stablelm(c).caches(c),
    load: |c, loader| stablelm(c).load(c, loader),
};

fn stablelm(c: &Config) -> Design {
    Design {
        norm: NormKind::Layer,
        biased: Biased { qkv: c.use_qkv_bias, attention_output: false, mlp: false },
        ..Design::llama(c)
    }
}
