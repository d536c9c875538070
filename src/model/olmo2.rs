//! OLMo 2 (arXiv:2501.00656): norms after attention and MLP, `x + norm(attention(x))`, none before; queries and keys are
//! normed over all heads together.

use super::Architecture;
use super::design::{Design, Names, QueryKeyNorm};
use crate::checkpoint::Config;

pub const OLMO2: Architecture = Architecture {
    name: "Olmo2ForCausalLM",
    caches: |c| olmo2(c).caches(c),
    load: |c, loader| olmo2(c).load(c, loader),
};

fn olmo2(c: &Config) -> Design {
    Design {
        names: Names {
            before_attention: None,
            after_attention: Some("post_attention_layernorm"),
            before_mlp: None,
            after_mlp: Some("post_feedforward_layernorm"),
            ..Names::LLAMA
        },
        query_key_norm: Some(QueryKeyNorm::Whole),
        ..Design::llama(c)
    }
}
