//! The architectures that GGUF files hold, and what they call their tensors and settings.

/// An architecture as GGUF files name it.
pub(super) struct Family {
    /// `general.architecture`
    pub name: &'static str,
    /// As in `architectures` of a config.json.
    pub architecture: &'static str,
    /// What layers' tensors begin with, before their number.
    pub layers: &'static str,
    /// Names of tensors outside of layers that differ from those of [`MODEL`], or are there in addition.
    pub model: &'static [(&'static str, &'static str)],
    /// Names of a layer's tensors that differ from those of [`LAYER`], or are there in addition.
    pub layer: &'static [(&'static str, &'static str)],
    /// Whether the rows of queries and keys lie in turn.
    pub turned: bool,
    /// What is added under the root of a norm: its key, and what it is called in a config.json.
    pub eps: (&'static str, &'static str),
    /// Tensors of the first layer, and the setting of a config.json that says whether they are there.
    pub settings: &'static [(&'static str, &'static str)],
    /// Whether the rows of queries, keys and values in one are all queries, then all keys, then all values, where a Hugging
    /// Face checkpoint has them head by head.
    pub by_kind: bool,
    /// Whether 1 was added to the weights of norms.
    pub plus_one: bool,
    /// Numbers of the metadata that only this family has, and what they are called in a config.json.
    pub numbers: &'static [(&'static str, &'static str)],
    /// Where MLPs are made of experts: what those begin with before their number, and their gate, up and down.
    pub experts: Option<(&'static str, [&'static str; 3])>,
    /// The divisor of scores, squared, is the width over the heads (and not the size of a head) in the model of so many
    /// layers: files do not say it.
    pub wide_scores: Option<u64>,
}

const LLAMA: Family = Family {
    name: "llama",
    architecture: "LlamaForCausalLM",
    layers: "model.layers",
    model: &[],
    layer: &[],
    turned: true,
    by_kind: false,
    eps: ("attention.layer_norm_rms_epsilon", "rms_norm_eps"),
    settings: &[("attn_q.bias", "attention_bias"), ("ffn_up.bias", "mlp_bias")],
    plus_one: false,
    numbers: &[],
    experts: None,
    wide_scores: None,
};

/// Norms before and after attention and MLP.
const FOUR_NORMS: &[(&str, &str)] = &[
    ("post_attention_norm", "post_attention_layernorm"),
    ("ffn_norm", "pre_feedforward_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
];

/// A tensor of a layer in which the matrices of all experts lie one after another, `[experts, rows, cols]`, in the order of
/// [`Family::experts`].
pub(super) const EXPERTS: [&str; 3] = ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"];

/// More than any model has, and than a configuration may say.
pub(super) const MAX_EXPERTS: usize = 1024;

/// Every architecture that can be read from a GGUF file. (Mistral's models are `llama` there, those with experts too.)
pub(super) const FAMILIES: &[Family] = &[
    LLAMA,
    Family {
        architecture: "MixtralForCausalLM",
        layer: &[("ffn_gate_inp", "block_sparse_moe.gate")],
        experts: Some(("block_sparse_moe.experts", ["w1", "w3", "w2"])),
        ..LLAMA
    },
    Family { name: "qwen2", architecture: "Qwen2ForCausalLM", turned: false, ..LLAMA },
    Family { name: "qwen3", architecture: "Qwen3ForCausalLM", turned: false, ..LLAMA },
    Family {
        name: "qwen3moe",
        architecture: "Qwen3MoeForCausalLM",
        turned: false,
        layer: &[("ffn_gate_inp", "mlp.gate")],
        experts: Some(("mlp.experts", ["gate_proj", "up_proj", "down_proj"])),
        ..LLAMA
    },
    Family { name: "olmo2", architecture: "Olmo2ForCausalLM", turned: false, layer: FOUR_NORMS, ..LLAMA },
    Family {
        name: "granite",
        architecture: "GraniteForCausalLM",
        numbers: &[
            ("embedding_scale", "embedding_multiplier"),
            ("residual_scale", "residual_multiplier"),
            ("attention.scale", "attention_multiplier"),
            ("logit_scale", "logits_scaling"),
        ],
        ..LLAMA
    },
    Family {
        name: "phi3",
        architecture: "Phi3ForCausalLM",
        turned: false,
        layer: &[("attn_qkv", "self_attn.qkv_proj"), ("ffn_up", "mlp.gate_up_proj")],
        ..LLAMA
    },
    Family {
        name: "gemma2",
        architecture: "Gemma2ForCausalLM",
        turned: false,
        plus_one: true,
        layer: FOUR_NORMS,
        numbers: &[
            ("attn_logit_softcapping", "attn_logit_softcapping"),
            ("final_logit_softcapping", "final_logit_softcapping"),
        ],
        wide_scores: Some(46),
        ..LLAMA
    },
    Family {
        name: "gemma3",
        architecture: "Gemma3ForCausalLM",
        turned: false,
        plus_one: true,
        layer: FOUR_NORMS,
        numbers: &[("rope.freq_base_swa", "rope_local_base_freq")],
        wide_scores: Some(62),
        ..LLAMA
    },
    Family {
        name: "stablelm",
        architecture: "StableLmForCausalLM",
        turned: false,
        eps: ("attention.layer_norm_epsilon", "layer_norm_eps"),
        settings: &[("attn_q.bias", "use_qkv_bias"), ("attn_q_norm.weight", "qk_layernorm")],
        ..LLAMA
    },
    Family {
        name: "gptneox",
        architecture: "GPTNeoXForCausalLM",
        layers: "gpt_neox.layers",
        model: &[
            ("token_embd", "gpt_neox.embed_in"),
            ("output_norm", "gpt_neox.final_layer_norm"),
            ("output", "embed_out"),
        ],
        layer: &[
            ("attn_qkv", "attention.query_key_value"),
            ("attn_output", "attention.dense"),
            ("ffn_up", "mlp.dense_h_to_4h"),
            ("ffn_down", "mlp.dense_4h_to_h"),
        ],
        turned: false,
        by_kind: true,
        eps: ("attention.layer_norm_epsilon", "layer_norm_eps"),
        settings: &[("attn_qkv.bias", "attention_bias")],
        ..LLAMA
    },
    Family {
        name: "gpt2",
        architecture: "GPT2LMHeadModel",
        layers: "transformer.h",
        model: &[
            ("token_embd", "transformer.wte"),
            ("position_embd", "transformer.wpe"),
            ("output_norm", "transformer.ln_f"),
        ],
        layer: &[
            ("attn_norm", "ln_1"),
            ("attn_qkv", "attn.c_attn"),
            ("attn_output", "attn.c_proj"),
            ("ffn_norm", "ln_2"),
            ("ffn_up", "mlp.c_fc"),
            ("ffn_down", "mlp.c_proj"),
        ],
        turned: false,
        eps: ("attention.layer_norm_epsilon", "layer_norm_epsilon"),
        settings: &[],
        ..LLAMA
    },
];

/// Tensors outside of layers: their names here and there.
pub(super) const MODEL: &[(&str, &str)] =
    &[("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];

/// Tensors of a layer.
pub(super) const LAYER: &[(&str, &str)] = &[
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];
