//! GPT-NeoX (arXiv:2204.06745), Pythia: layer norms, biases everywhere, an MLP without gate, heads that rotate in part
//! and are stored one after another with query, key and value. Attention and MLP mostly read the same residual stream.

use super::Architecture;
use super::design::{Biased, Design, Names, NormKind};
use crate::checkpoint::Config;
use crate::kernels::Heads;

pub const GPT_NEOX: Architecture = Architecture {
    name: "GPTNeoXForCausalLM",
    caches: |c| gpt_neox(c).caches(c),
    load: |c, loader| gpt_neox(c).load(c, loader),
};

fn gpt_neox(c: &Config) -> Design {
    Design {
        names: Names {
            root: "gpt_neox.",
            embedding: "embed_in",
            qkv: &["attention.query_key_value"],
            attention_output: "attention.dense",
            up: &["mlp.dense_h_to_4h"],
            down: "mlp.dense_4h_to_h",
            last_norm: "final_layer_norm",
            output: "embed_out",
            ..Names::LLAMA
        },
        norm: NormKind::Layer,
        biased: Biased { qkv: c.attention_bias, attention_output: c.attention_bias, mlp: true },
        heads: Heads::ByHead,
        parallel: c.use_parallel_residual,
        gated: false,
        ..Design::llama(c)
    }
}
