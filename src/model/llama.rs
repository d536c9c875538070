//! The Llama family: Llama 1 to 3.2 (arXiv:2302.13971), SmolLM2, TinyLlama, and Mistral (arXiv:2310.06825), which adds a
//! sliding window.
//!
//! Pre-norm transformer with grouped-query attention, rotary positions and SwiGLU.

use super::Architecture;
use super::design::{Design, LayerDesign};
use crate::checkpoint::Config;

pub const LLAMA: Architecture = Architecture {
    name: "LlamaForCausalLM",
    caches: |c| llama(c).caches(c),
    load: |c, loader| llama(c).load(c, loader),
};

pub const MISTRAL: Architecture = Architecture {
    name: "MistralForCausalLM",
    caches: |c| Design::llama(c).caches(c),
    load: |c, loader| Design::llama(c).load(c, loader),
};

/// Llama has no windows; a configuration that mentions one was another model's.
fn llama(c: &Config) -> Design {
    let layers = vec![LayerDesign { window: None, rope: Some(c.rope) }; c.num_hidden_layers];
    Design { layers, ..Design::llama(c) }
}
