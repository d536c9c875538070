//! Qwen2 (arXiv:2407.10671), also 2.5, has biases on queries, keys and values alone; Qwen3 (arXiv:2505.09388) norms
//! queries and keys head by head instead, and may have experts for an MLP.

use super::Architecture;
use super::design::{Biased, Design, Names, QueryKeyNorm};
use crate::checkpoint::Config;

pub const QWEN2: Architecture = Architecture {
    name: "Qwen2ForCausalLM",
    caches: |c| qwen2(c).caches(c),
    load: |c, loader| qwen2(c).load(c, loader),
};

pub const QWEN3: Architecture = Architecture {
    name: "Qwen3ForCausalLM",
    caches: |c| qwen3(c).caches(c),
    load: |c, loader| qwen3(c).load(c, loader),
};

pub const QWEN3_MOE: Architecture = Architecture {
    name: "Qwen3MoeForCausalLM",
    caches: |c| qwen3_moe(c).caches(c),
    load: |c, loader| qwen3_moe(c).load(c, loader),
};

fn qwen2(c: &Config) -> Design {
    Design { biased: Biased { qkv: true, attention_output: false, mlp: false }, ..Design::llama(c) }
}

fn qwen3(c: &Config) -> Design {
    Design { query_key_norm: Some(QueryKeyNorm::ByHead), ..Design::llama(c) }
}

fn qwen3_moe(c: &Config) -> Design {
    Design {
        names: Names {
            experts: ("mlp.gate", "mlp.experts"),
            up: &["gate_proj", "up_proj"],
            down: "down_proj",
            ..Names::LLAMA
        },
        experts: Some((c.num_experts_per_tok, c.norm_topk_prob)),
        ..qwen3(c)
    }
}
