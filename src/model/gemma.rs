//! Gemma 2 (arXiv:2408.00118) and the text model of Gemma 3 (arXiv:2503.19786): norms with a weight of one plus what is
//! stored, before and after attention and MLP; embeddings times the root of their width; GeGLU; windows in some layers.
//! Gemma 2 caps scores and logits softly; Gemma 3 norms queries and keys head by head, and its layers with a window
//! rotate with another base.

use super::Architecture;
use super::design::{Design, Names, NormKind, QueryKeyNorm};
use crate::checkpoint::Config;
use crate::kernels::Scale;

pub const GEMMA2: Architecture = Architecture {
    name: "Gemma2ForCausalLM",
    caches: |c| gemma2(c).caches(c),
    load: |c, loader| gemma2(c).load(c, loader),
};

pub const GEMMA3: Architecture = Architecture {
    name: "Gemma3ForCausalLM",
    caches: |c| gemma3(c).caches(c),
    load: |c, loader| gemma3(c).load(c, loader),
};

/// The text model of a checkpoint that has one for images too.
pub const GEMMA3_MULTIMODAL: Architecture = Architecture { name: "Gemma3ForConditionalGeneration", ..GEMMA3 };

fn gemma2(c: &Config) -> Design {
    let cap = |cap: Option<f64>| cap.unwrap_or(0.0) as f32;
    let scale = c.query_pre_attn_scalar.unwrap_or(c.head_dim as f64).sqrt().recip() as f32;
    Design {
        names: Names {
            after_attention: Some("post_attention_layernorm"),
            before_mlp: Some("pre_feedforward_layernorm"),
            after_mlp: Some("post_feedforward_layernorm"),
            ..Names::LLAMA
        },
        norm: NormKind::RmsOnePlus,
        // In 32 bits, which is what is computed in here; transformers rounds it to the type that it computes in.
        embedding_scale: (c.hidden_size as f64).sqrt() as f32,
        scores: Scale { scale, cap: cap(c.attn_logit_softcapping) },
        logits: Scale { scale: 1.0, cap: cap(c.final_logit_softcapping) },
        ..Design::llama(c)
    }
}

fn gemma3(c: &Config) -> Design {
    Design { query_key_norm: Some(QueryKeyNorm::ByHead), ..gemma2(c) }
}
