//! What sets the configurations of one architecture apart from those of another: names, defaults, and which settings
//! its forward pass honours. A setting that it does not honour must be absent, or say what it would be without.

use super::fields::{Fields, found};
use serde_json::Value;

/// An architecture's configurations.
pub(super) struct Family {
    /// As in `architectures`.
    name: &'static str,
    /// Fields that are called otherwise here: (what they are called elsewhere, here).
    pub aliases: &'static [(&'static str, &'static str)],
    /// What `hidden_act` may be, the default first.
    pub activations: &'static [&'static str],
    /// What `tie_word_embeddings` is if left out.
    pub tied: bool,
    /// What `rope_theta` is if left out.
    pub rope_theta: f64,
    /// The field with what is added under the root of a norm.
    pub eps: &'static str,
    /// Settings that mean something here, of those in [`NUMBERS`] and [`SWITCHES`].
    pub honours: &'static [&'static str],
    /// What they are if left out, where that is not what they would be without.
    numbers: &'static [(&'static str, f64)],
    switches: &'static [(&'static str, bool)],
    /// Whether the MLP is made of experts.
    experts: bool,
    /// What `sliding_window` is if left out; `null` says that there is none.
    pub window: Option<usize>,
    /// Which layers `sliding_window` is for where `layer_types` does not say.
    pub windows: Windows,
}

/// Which layers have a window.
pub(super) enum Windows {
    /// All of them.
    All,
    /// Those from `max_window_layers` on, which is this if left out, if `use_sliding_window`.
    Later(u64),
    /// Those that do not rotate queries and keys, if `use_sliding_window`.
    Still,
    /// Every second one, from the first on.
    Alternating,
    /// All but each last of `sliding_window_pattern`, 6 if left out.
    Pattern,
}

/// Settings with a number, and what it is where they are not honoured; none where they then mean nothing.
const NUMBERS: &[(&str, Option<f64>)] = &[
    ("partial_rotary_factor", Some(1.0)),
    ("rope_local_base_freq", None),
    ("query_pre_attn_scalar", None),
    ("attn_logit_softcapping", None),
    ("final_logit_softcapping", None),
    ("embedding_multiplier", Some(1.0)),
    ("residual_multiplier", Some(1.0)),
    ("attention_multiplier", None),
    ("logits_scaling", Some(1.0)),
    ("logit_scale", None),
    ("clip_qkv", None),
];

/// Settings that are on or off, and what they are where they are not honoured.
const SWITCHES: &[(&str, bool)] = &[
    ("attention_bias", false),
    ("mlp_bias", false),
    ("use_qkv_bias", false),
    ("use_parallel_residual", false),
    ("norm_topk_prob", false),
    ("qk_layernorm", false),
    ("use_qk_norm", false),
    ("use_bidirectional_attention", false),
    ("add_cross_attention", false),
    ("scale_attn_weights", true),
    ("scale_attn_by_inverse_layer_idx", false),
];

const SILU: &[&str] = &["silu", "swish"];
const GELUS: &[&str] = &["gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast"];

const LLAMA: Family = Family {
    name: "LlamaForCausalLM",
    aliases: &[],
    activations: SILU,
    tied: false,
    rope_theta: 10_000.0,
    eps: "rms_norm_eps",
    honours: &["attention_bias", "mlp_bias"],
    numbers: &[],
    switches: &[],
    experts: false,
    window: None,
    windows: Windows::All,
};

const GEMMA2: Family = Family {
    name: "Gemma2ForCausalLM",
    aliases: &[("hidden_act", "hidden_activation")],
    activations: &["gelu_pytorch_tanh"],
    tied: true,
    honours: &[
        "attention_bias",
        "query_pre_attn_scalar",
        "attn_logit_softcapping",
        "final_logit_softcapping",
    ],
    numbers: &[
        ("query_pre_attn_scalar", 256.0),
        ("attn_logit_softcapping", 50.0),
        ("final_logit_softcapping", 30.0),
    ],
    window: Some(4096),
    windows: Windows::Alternating,
    ..LLAMA
};

const GEMMA3: Family = Family {
    name: "Gemma3ForCausalLM",
    rope_theta: 1e6,
    honours: &["attention_bias", "query_pre_attn_scalar", "final_logit_softcapping", "rope_local_base_freq"],
    numbers: &[("query_pre_attn_scalar", 256.0), ("rope_local_base_freq", 10_000.0)],
    windows: Windows::Pattern,
    ..GEMMA2
};

/// Every architecture that differs from Llama.
const FAMILIES: &[Family] = &[
    Family { name: "MistralForCausalLM", window: Some(4096), ..LLAMA },
    Family {
        name: "Qwen2ForCausalLM",
        // It has biases on q, k and v whatever its configuration says.
        honours: &["attention_bias"],
        window: Some(4096),
        windows: Windows::Later(28),
        ..LLAMA
    },
    Family {
        name: "Qwen3ForCausalLM",
        honours: &["attention_bias"],
        window: Some(4096),
        windows: Windows::Later(28),
        ..LLAMA
    },
    Family {
        name: "Qwen3MoeForCausalLM",
        aliases: &[("intermediate_size", "moe_intermediate_size")],
        honours: &["attention_bias", "norm_topk_prob"],
        experts: true,
        window: Some(4096),
        windows: Windows::Later(0),
        ..LLAMA
    },
    Family {
        name: "MixtralForCausalLM",
        aliases: &[("num_experts", "num_local_experts")],
        rope_theta: 1e6,
        honours: &["norm_topk_prob"],
        switches: &[("norm_topk_prob", true)],
        experts: true,
        ..LLAMA
    },
    Family {
        name: "SmolLM3ForCausalLM",
        tied: true,
        rope_theta: 2e6,
        honours: &["attention_bias", "mlp_bias", "no_rope_layers"],
        windows: Windows::Still,
        ..LLAMA
    },
    Family { name: "Olmo2ForCausalLM", honours: &["attention_bias"], ..LLAMA },
    Family {
        name: "GraniteForCausalLM",
        honours: &[
            "attention_bias",
            "mlp_bias",
            "embedding_multiplier",
            "residual_multiplier",
            "attention_multiplier",
            "logits_scaling",
        ],
        numbers: &[("attention_multiplier", 1.0)],
        ..LLAMA
    },
    Family { name: "Phi3ForCausalLM", honours: &["partial_rotary_factor"], ..LLAMA },
    GEMMA2,
    GEMMA3,
    // With a model that reads images beside it.
    Family { name: "Gemma3ForConditionalGeneration", ..GEMMA3 },
    Family {
        name: "StableLmForCausalLM",
        eps: "layer_norm_eps",
        honours: &["partial_rotary_factor", "use_qkv_bias"],
        numbers: &[("partial_rotary_factor", 0.25)],
        ..LLAMA
    },
    Family {
        name: "GPTNeoXForCausalLM",
        aliases: &[("rope_theta", "rotary_emb_base"), ("partial_rotary_factor", "rotary_pct")],
        activations: GELUS,
        eps: "layer_norm_eps",
        honours: &["partial_rotary_factor", "use_parallel_residual", "attention_bias"],
        numbers: &[("partial_rotary_factor", 0.25)],
        switches: &[("use_parallel_residual", true), ("attention_bias", true)],
        ..LLAMA
    },
    Family {
        name: "GPT2LMHeadModel",
        aliases: &[
            ("hidden_size", "n_embd"),
            ("num_hidden_layers", "n_layer"),
            ("num_attention_heads", "n_head"),
            ("max_position_embeddings", "n_positions"),
            ("intermediate_size", "n_inner"),
            ("hidden_act", "activation_function"),
        ],
        activations: &["gelu_new", "gelu", "gelu_pytorch_tanh", "gelu_fast"],
        tied: true,
        eps: "layer_norm_epsilon",
        honours: &[],
        ..LLAMA
    },
];

impl Family {
    /// The family of an architecture; Llama's for one that is not known.
    pub fn of(architecture: &str) -> &'static Family {
        FAMILIES.iter().find(|family| family.name == architecture).unwrap_or(&LLAMA)
    }

    /// Whether an architecture's configurations are known.
    pub fn knows(architecture: &str) -> bool {
        let names = FAMILIES.iter().map(|family| family.name);
        names.chain([LLAMA.name]).any(|name| name == architecture)
    }

    /// Refuses settings that mean something elsewhere, and that this architecture would ignore.
    pub fn refuse_others(&self, fields: &Fields) -> Result<(), String> {
        for (name, without) in NUMBERS.iter().filter(|(name, _)| !self.honours.contains(name)) {
            if let Some(value) = fields.get(name).filter(|value| value.as_f64() != *without) {
                let expected = without.map_or("no such setting".to_owned(), |number| number.to_string());
                return Err(found(name, Some(value), &format!("{expected} in this architecture")));
            }
        }
        for (name, without) in SWITCHES.iter().filter(|(name, _)| !self.honours.contains(name)) {
            if let Some(value) = fields.get(name).filter(|value| **value != Value::Bool(*without)) {
                return Err(found(name, Some(value), &format!("{without} in this architecture")));
            }
        }
        Ok(())
    }

    /// A setting of [`NUMBERS`]; `null` says that there is none, which is not the same as leaving it out.
    pub fn number(&self, fields: &Fields, name: &str, [min, max]: [f64; 2]) -> Result<Option<f64>, String> {
        let default = |list: &[(&str, f64)]| list.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
        let without = NUMBERS.iter().find(|(n, _)| *n == name).and_then(|(_, v)| *v);
        match self.honours.contains(&name) {
            true if fields.get(name).is_some() => fields.number(name, min, max, None).map(Some),
            true if !fields.has(name) => Ok(default(self.numbers).or(without)),
            _ => Ok(without),
        }
    }

    /// A setting of [`SWITCHES`].
    pub fn switch(&self, fields: &Fields, name: &str) -> Result<bool, String> {
        let default = |list: &[(&str, bool)]| list.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
        let without = default(SWITCHES).unwrap_or(false);
        match self.honours.contains(&name) {
            true => fields.flag(name, default(self.switches).unwrap_or(without)),
            false => Ok(without),
        }
    }

    /// For each layer, whether it does not rotate: where `no_rope_layers` has a 0, or else one of every
    /// `no_rope_layer_interval`.
    pub fn no_rope_layers(&self, fields: &Fields, layers: usize) -> Result<Vec<bool>, String> {
        let honoured = self.honours.contains(&"no_rope_layers");
        let Some(value) = fields.get("no_rope_layers") else {
            let interval = fields.size("no_rope_layer_interval", 1000, Some(4))?;
            return Ok((0..layers).map(|i| honoured && (i + 1) % interval == 0).collect());
        };
        let expected = format!("0 or 1 for each of {layers} layers");
        let wrong = || fields.wrong("no_rope_layers", &expected);
        let list = value.as_array().filter(|list| list.len() == layers).ok_or_else(wrong)?;
        let still = list.iter().map(|rotates| match rotates.as_u64() {
            Some(0) if honoured => Ok(true),
            Some(1) => Ok(false),
            Some(0) => Err(fields.wrong("no_rope_layers", "1 for each layer in this architecture")),
            _ => Err(wrong()),
        });
        still.collect()
    }

    /// `num_experts` and `num_experts_per_tok`; 0 where the MLP is not made of experts.
    pub fn experts(&self, fields: &Fields, hidden: usize, inner: usize) -> Result<(usize, usize), String> {
        if !self.experts {
            return Ok((0, 0));
        }
        let experts = fields.size("num_experts", 1024, None)?;
        let active = fields.size("num_experts_per_tok", 64.min(experts), None)?;
        // Rows of all experts together are counted in 32 bits, and so are the numbers of a tile's columns.
        if (experts * 2 * inner.max(hidden)) as u64 > u64::from(u32::MAX) {
            return Err(format!("{} experts of {hidden} × {inner} are more than kernels can count", experts));
        }
        // Layers that differ in whether they have experts are not supported.
        if fields.size("decoder_sparse_step", 1000, Some(1))? != 1 {
            return Err(fields.wrong("decoder_sparse_step", "1"));
        }
        if fields.get("mlp_only_layers").is_some_and(|list| list.as_array().is_none_or(|l| !l.is_empty())) {
            return Err(fields.wrong("mlp_only_layers", "none"));
        }
        Ok((experts, active))
    }
}
