//! GPT-2 (Radford et al., 2019): learned positions, layer norms, biases everywhere, an MLP without gate, and matrices
//! stored the other way around.

use super::design::{Biased, Design, LayerDesign, Names, NormKind};
use super::{Architecture, Loader};
use crate::checkpoint::Config;

pub const GPT2: Architecture = Architecture {
    name: "GPT2LMHeadModel",
    caches: |c| gpt2(c, "", true).caches(c),
    load: |c, loader| gpt2(c, root(loader), transposed(c, loader)).load(c, loader),
};

/// The first checkpoints have no root.
fn root(loader: &Loader<'_>) -> &'static str {
    if loader.checkpoint.get("wte.weight").is_some() { "" } else { "transformer." }
}

/// GGUF files have matrices as all other models do.
fn transposed(c: &Config, loader: &Loader<'_>) -> bool {
    let qkv = loader.checkpoint.get(&format!("{}h.0.attn.c_attn.weight", root(loader)));
    qkv.is_none_or(|info| info.shape != [3 * c.hidden_size, c.hidden_size])
}

fn gpt2(c: &Config, root: &'static str, transposed: bool) -> Design {
    Design {
        names: Names {
            root,
            embedding: "wte",
            positions: Some("wpe"),
            layers: "h",
            qkv: &["attn.c_attn"],
            attention_output: "attn.c_proj",
            up: &["mlp.c_fc"],
            down: "mlp.c_proj",
            before_attention: Some("ln_1"),
            before_mlp: Some("ln_2"),
            last_norm: "ln_f",
            ..Names::LLAMA
        },
        norm: NormKind::Layer,
        biased: Biased { qkv: true, attention_output: true, mlp: true },
        transposed,
        gated: false,
        layers: vec![LayerDesign { window: None, rope: None }; c.num_hidden_layers],
        ..Design::llama(c)
    }
}
