//! Mixtral (arXiv:2401.04088): Mistral with experts for an MLP, of which each token goes through two.

use super::Architecture;
use super::design::{Design, Names};
use crate::checkpoint::Config;

pub const MIXTRAL: Architecture = Architecture {
    name: "MixtralForCausalLM",
    caches: |c| mixtral(c).caches(c),
    load: |c, loader| mixtral(c).load(c, loader),
};

fn mixtral(c: &Config) -> Design {
    Design {
        names: Names {
            experts: ("block_sparse_moe.gate", "block_sparse_moe.experts"),
            up: &["w1", "w3"],
            down: "w2",
            ..Names::LLAMA
        },
        experts: Some((c.num_experts_per_tok, c.norm_topk_prob)),
        ..Design::llama(c)
    }
}
