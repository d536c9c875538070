//! What a family's decoder is made of. All the decoders here are one: attention and an MLP in turn, each adding to the
//! residual stream. A family is a [`Design`], mostly Llama's with a few things changed.

use super::CacheShape;
use crate::checkpoint::{Config, Rope, RopeScaling};
use crate::kernels::{Activation, Heads, Scale};

/// A decoder, before its weights are read.
pub(super) struct Design {
    /// What its tensors are called.
    pub names: Names,
    /// Which norm it has.
    pub norm: NormKind,
    /// What queries and keys go through before they are rotated, if anything.
    pub query_key_norm: Option<QueryKeyNorm>,
    /// Which projections have biases.
    pub biased: Biased,
    /// How queries, keys and values lie in the rows of their projection.
    pub heads: Heads,
    /// Whether matrices are stored as `[inputs, outputs]`.
    pub transposed: bool,
    /// Whether attention and MLP read the same residual stream: `x + attention(norm(x)) + mlp(norm'(x))`.
    pub parallel: bool,
    /// Whether the MLP is `down(act(gate(x)) · up(x))`, and not `down(act(up(x)))`.
    pub gated: bool,
    /// Where the MLP is made of experts, how many of them a token goes through, and whether their weights add up to 1.
    pub experts: Option<(usize, bool)>,
    /// What the MLP does in between.
    pub activation: Activation,
    /// What is added under the root of a norm.
    pub eps: f32,
    /// What embeddings are multiplied with.
    pub embedding_scale: f32,
    /// What scores of attention go through.
    pub scores: Scale,
    /// What logits go through.
    pub logits: Scale,
    /// The layers.
    pub layers: Vec<LayerDesign>,
}

/// What layers may differ in.
#[derive(Clone, Copy)]
pub(super) struct LayerDesign {
    /// How far back attention sees; none for all the way.
    pub window: Option<usize>,
    /// How queries and keys are rotated by their positions, if they are.
    pub rope: Option<Rope>,
}

/// The names of a decoder's tensors, less `.weight` and `.bias`.
#[derive(Clone, Copy)]
pub(super) struct Names {
    /// What all but the output matrix begin with, up to and with the dot.
    pub root: &'static str,
    pub embedding: &'static str,
    /// The table of learned positions, if there is one.
    pub positions: Option<&'static str>,
    /// What the layers' tensors begin with, before their number.
    pub layers: &'static str,
    /// Queries, keys and values, or all of them in one.
    pub qkv: &'static [&'static str],
    pub query_norm: &'static str,
    pub key_norm: &'static str,
    pub attention_output: &'static str,
    /// Gate and up, or both in one; just up where there is no gate.
    pub up: &'static [&'static str],
    pub down: &'static str,
    /// Where the MLP is made of experts, the matrix that chooses among them, and what theirs begin with before their
    /// number; `up` and `down` are then named after that.
    pub experts: (&'static str, &'static str),
    /// The norms of a layer; those that it has.
    pub before_attention: Option<&'static str>,
    pub after_attention: Option<&'static str>,
    pub before_mlp: Option<&'static str>,
    pub after_mlp: Option<&'static str>,
    pub last_norm: &'static str,
    /// The output matrix, where it is not the embedding.
    pub output: &'static str,
}

/// A norm of the residual stream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum NormKind {
    /// RMS norm.
    Rms,
    /// RMS norm with a weight that is stored as what it differs from 1.
    RmsOnePlus,
    /// Layer norm with weight and bias.
    Layer,
}

/// An RMS norm of queries and keys.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum QueryKeyNorm {
    /// Each head by itself.
    ByHead,
    /// All heads together.
    Whole,
}

/// Which projections have biases.
#[derive(Clone, Copy)]
pub(super) struct Biased {
    pub qkv: bool,
    pub attention_output: bool,
    pub mlp: bool,
}

impl Names {
    /// Those of Llama, and of most others.
    pub const LLAMA: Names = Names {
        root: "model.",
        embedding: "embed_tokens",
        positions: None,
        layers: "layers",
        qkv: &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
        query_norm: "self_attn.q_norm",
        key_norm: "self_attn.k_norm",
        attention_output: "self_attn.o_proj",
        up: &["mlp.gate_proj", "mlp.up_proj"],
        down: "mlp.down_proj",
        experts: ("", ""),
        before_attention: Some("input_layernorm"),
        after_attention: None,
        before_mlp: Some("post_attention_layernorm"),
        after_mlp: None,
        last_norm: "norm",
        output: "lm_head",
    };
}

impl Design {
    /// Llama's: norms before attention and MLP, rotary positions, SwiGLU; every layer as the configuration has it.
    pub fn llama(c: &Config) -> Design {
        Design {
            names: Names::LLAMA,
            norm: NormKind::Rms,
            query_key_norm: None,
            biased: Biased { qkv: c.attention_bias, attention_output: c.attention_bias, mlp: c.mlp_bias },
            heads: Heads::ByKind,
            transposed: false,
            parallel: false,
            gated: true,
            experts: None,
            activation: activation(&c.hidden_act),
            eps: c.norm_eps,
            embedding_scale: 1.0,
            scores: Scale::by((c.head_dim as f32).sqrt().recip()),
            logits: Scale::NONE,
            layers: c
                .windows
                .iter()
                .zip(&c.no_rope_layers)
                .map(|(&window, &still)| LayerDesign { window, rope: (!still).then(|| rope_of(c, window)) })
                .collect(),
        }
    }

    /// The layers' caches.
    pub fn caches(&self, c: &Config) -> Vec<CacheShape> {
        let shape = |layer: &LayerDesign| CacheShape {
            heads: c.num_attention_heads,
            kv_heads: c.num_key_value_heads,
            head_dim: c.head_dim,
            window: layer.window.unwrap_or(0),
            scores: self.scores,
        };
        self.layers.iter().map(shape).collect()
    }
}

/// The rotary embedding of a layer: layers with a window may have a base of their own, and no scaling with it.
fn rope_of(c: &Config, window: Option<usize>) -> Rope {
    match c.rope_local_base_freq.filter(|_| window.is_some()) {
        Some(rope_theta) => Rope { rope_theta, rope_scaling: RopeScaling::None, ..c.rope },
        None => c.rope,
    }
}

/// By the name in a configuration, which has been checked to be one that the architecture knows.
pub fn activation(name: &str) -> Activation {
    match name {
        "gelu" => Activation::Gelu,
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
        _ => Activation::Silu,
    }
}
