//! A GGUF file as a Hugging Face checkpoint: names of tensors, and the files beside them.

use super::header::{Header, Value};
use super::tokenizer;
use crate::checkpoint::files::Held;
use crate::checkpoint::{Change, QUOTE, TensorInfo, clip};
use serde_json::{Map, Value as Json, json};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// An architecture as GGUF files name it.
pub(super) struct Family {
    /// `general.architecture`
    pub name: &'static str,
    /// As in `architectures` of a config.json.
    pub architecture: &'static str,
    /// Names of a layer's tensors that differ from those of [`LAYER`], or are there in addition.
    pub layer: &'static [(&'static str, &'static str)],
    /// Whether the rows of queries and keys lie in turn.
    pub turned: bool,
    /// Whether 1 was added to the weights of norms.
    plus_one: bool,
    /// Numbers of the metadata that only this family has, and what they are called in a config.json.
    numbers: &'static [(&'static str, &'static str)],
    /// Where MLPs are made of experts: what those begin with before their number, and their gate, up and down.
    pub experts: Option<(&'static str, [&'static str; 3])>,
    /// The divisor of scores, squared, is the width over the heads (and not the size of a head) in the model of so many
    /// layers: files do not say it.
    wide_scores: Option<u64>,
}

const LLAMA: Family = Family {
    name: "llama",
    architecture: "LlamaForCausalLM",
    layer: &[],
    turned: true,
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
const EXPERTS: [&str; 3] = ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"];

/// More than any model has, and than a configuration may say.
const MAX_EXPERTS: usize = 1024;

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
        wide_scores: Some(62),
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

/// The keys of a header, with errors that name them.
pub(super) struct Metadata<'a>(pub &'a BTreeMap<String, Value>);

impl<'a> Metadata<'a> {
    fn wrong(&self, key: &str, expected: &str) -> String {
        match self.0.get(key) {
            Some(found) => {
                format!("its key {key} is {}, expected {expected}", clip(&format!("{found:?}"), QUOTE))
            }
            None => format!("has no key {key}, expected {expected}"),
        }
    }

    pub fn text(&self, key: &str) -> Result<Option<&'a str>, String> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "a text")),
        }
    }

    pub fn texts(&self, key: &str) -> Result<Option<&'a [String]>, String> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Texts(texts)) => Ok(Some(texts)),
            Some(_) => Err(self.wrong(key, "a list of texts")),
        }
    }

    pub fn numbers(&self, key: &str) -> Result<Option<&'a [f64]>, String> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Numbers(numbers)) => Ok(Some(numbers)),
            Some(_) => Err(self.wrong(key, "a list of numbers")),
        }
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Flag(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    pub fn integer(&self, key: &str) -> Result<Option<u64>, String> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Integer(n)) => {
                u64::try_from(*n).map(Some).map_err(|_| self.wrong(key, "an integer from 0"))
            }
            // A number for each layer, which must all be the same.
            Some(Value::Numbers(each)) => match each.first() {
                Some(&n) if n >= 0.0 && n.fract() == 0.0 && each.iter().all(|&other| other == n) => {
                    Ok(Some(n as u64))
                }
                _ => Err(self.wrong(key, "the same integer for every layer")),
            },
            Some(_) => Err(self.wrong(key, "an integer")),
        }
    }

    pub fn number(&self, key: &str) -> Result<Option<f64>, String> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Float(x)) => Ok(Some(*x)),
            Some(Value::Integer(n)) => Ok(Some(*n as f64)),
            Some(_) => Err(self.wrong(key, "a number")),
        }
    }

    pub fn needed<T>(&self, key: &str, value: Result<Option<T>, String>) -> Result<T, String> {
        value?.ok_or_else(|| format!("has no key {key}, which a model's file has"))
    }
}

fn family(metadata: &Metadata<'_>) -> Result<&'static Family, String> {
    let name = metadata.needed("general.architecture", metadata.text("general.architecture"))?;
    let named = || FAMILIES.iter().filter(|family| family.name == name);
    let Some(first) = named().next() else {
        let mut names: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
        names.dedup();
        return Err(format!(
            "its general.architecture is {:?}, expected {}",
            clip(name, QUOTE),
            names.join(", ")
        ));
    };
    let key = format!("{name}.expert_count");
    let experts = metadata.integer(&key)?.unwrap_or(0) > 0;
    let found = named().find(|family| family.experts.is_some() == experts);
    found.ok_or_else(|| metadata.wrong(&key, if first.experts.is_some() { "experts" } else { "none" }))
}

/// The name of a tensor in a Hugging Face checkpoint, if it has one.
fn renamed(name: &str, family: &Family) -> Option<String> {
    let (stem, what) = name.rsplit_once('.')?;
    let find = |table: &[(&str, &'static str)], stem: &str| {
        table.iter().find(|(here, _)| *here == stem).map(|t| t.1)
    };
    if let Some(name) = find(MODEL, stem) {
        return Some(format!("{name}.{what}"));
    }
    let (number, part) = stem.strip_prefix("blk.")?.split_once('.')?;
    let number: u32 = number.parse().ok()?;
    let part = find(family.layer, part).or_else(|| find(LAYER, part))?;
    Some(format!("model.layers.{number}.{part}.{what}"))
}

/// Tensors by the names of a Hugging Face checkpoint. Those that have none there keep theirs.
pub(super) fn rename(
    metadata: &BTreeMap<String, Value>,
    infos: Vec<TensorInfo>,
) -> Result<Vec<TensorInfo>, String> {
    let metadata = Metadata(metadata);
    let family = family(&metadata)?;
    let head_dim = if family.turned { head_dim(&metadata, family.name)? } else { 0 };
    let mut all = Vec::with_capacity(infos.len());
    for mut info in infos {
        if let Some((layer, names)) = expert_names(&info.name, family) {
            each_expert(info, layer, names, &mut all)?;
            continue;
        }
        let turned = info.name.contains(".attn_q.") || info.name.contains(".attn_k.");
        if family.turned && turned {
            let rows = info.shape.first().copied().unwrap_or(0);
            if !rows.is_multiple_of(head_dim) || info.shape.len() > 2 {
                let found = format!("its tensor {:?} has shape {:?}", clip(&info.name, QUOTE), info.shape);
                return Err(format!("{found}, expected rows for heads of {head_dim}"));
            }
            info.change = Change::Turned(head_dim);
        }
        if family.plus_one && info.name.ends_with("norm.weight") {
            info.change = Change::PlusOne;
        }
        if let Some(name) = renamed(&info.name, family) {
            info.name = name;
        }
        all.push(info);
    }
    Ok(all)
}

/// The layer of a tensor of all experts, and what the matrix of one of them begins and ends with, around its number.
fn expert_names(name: &str, family: &Family) -> Option<(u32, [&'static str; 2])> {
    let (begin, parts) = family.experts?;
    let (number, part) = name.strip_prefix("blk.")?.strip_suffix(".weight")?.split_once('.')?;
    let part = EXPERTS.iter().position(|name| *name == part)?;
    Some((number.parse().ok()?, [begin, parts[part]]))
}

/// The matrices of a tensor `[experts, rows, cols]`, which lie one after another in the file.
fn each_expert(
    info: TensorInfo,
    layer: u32,
    [begin, end]: [&str; 2],
    all: &mut Vec<TensorInfo>,
) -> Result<(), String> {
    let &[experts @ 1..=MAX_EXPERTS, rows, cols] = info.shape.as_slice() else {
        let found = format!("its tensor {:?} has shape {:?}", clip(&info.name, QUOTE), info.shape);
        return Err(format!("{found}, expected [experts, rows, columns] of 1 to {MAX_EXPERTS} experts"));
    };
    // All of them together were counted, and blocks lie within rows.
    let (elements, bytes) = (info.elements / experts, info.bytes.len() / experts);
    for expert in 0..experts {
        let first = info.bytes.start + expert * bytes;
        all.push(TensorInfo {
            name: format!("model.layers.{layer}.{begin}.{expert}.{end}.weight"),
            encoding: info.encoding.clone(),
            shape: vec![rows, cols],
            elements,
            bytes: first..first + bytes,
            change: Change::None,
        });
    }
    Ok(())
}

/// The size of a head: even, and not 0.
fn head_dim(metadata: &Metadata<'_>, family: &str) -> Result<usize, String> {
    let key = |name: &str| format!("{family}.{name}");
    let own = metadata.integer(&key("attention.key_length"))?;
    let heads = metadata.integer(&key("attention.head_count"))?;
    let width = metadata.integer(&key("embedding_length"))?;
    let size = own.or_else(|| width?.checked_div(heads?));
    match size.and_then(|size| usize::try_from(size).ok()) {
        Some(size) if size > 0 && size.is_multiple_of(2) => Ok(size),
        _ => Err(format!("its heads have size {size:?}, expected an even number")),
    }
}

/// The files of a model directory that holds what the header says of the model.
///
/// # Errors
/// What was found in the metadata and what was expected.
pub fn files(header: &Header) -> Result<Vec<Held>, String> {
    let metadata = Metadata(&header.metadata);
    let tokenizer = tokenizer::files(&metadata)?;
    let mut files = vec![("config.json", config(header, &tokenizer.ends)?)];
    files.extend([("tokenizer.json", tokenizer.tokenizer), ("tokenizer_config.json", tokenizer.config)]);
    Ok(files.into_iter().map(|(name, json)| (name, Cow::Owned(json.to_string().into_bytes()))).collect())
}

/// A config.json. What its numbers may be is checked when it is read, as that of any model.
fn config(header: &Header, ends: &[u64]) -> Result<Json, String> {
    let metadata = Metadata(&header.metadata);
    let family = family(&metadata)?;
    let key = |name: &str| format!("{}.{name}", family.name);
    let integer = |name: &str| metadata.integer(&key(name));
    let needed = |name: &str| metadata.needed(&key(name), integer(name));
    let tensor = |name: &str| header.tensors.iter().find(|info| info.name == name);
    let Some(embedding) = tensor("token_embd.weight") else {
        return Err("has no tensor \"token_embd.weight\", expected a whole language model".to_owned());
    };
    let head_dim = head_dim(&metadata, family.name)?;
    if let Some(length) = integer("attention.value_length")?.filter(|&length| length != head_dim as u64) {
        return Err(format!("its values have size {length} and its keys {head_dim}, expected the same"));
    }
    let heads = needed("attention.head_count")?;
    let mut config = Map::new();
    let mut set = |name: &str, value: Json| config.insert(name.to_owned(), value);
    set("architectures", json!([family.architecture]));
    set("model_type", json!(family.name));
    set("vocab_size", json!(embedding.shape.first()));
    set("hidden_size", json!(needed("embedding_length")?));
    let expert_width = integer("expert_feed_forward_length")?.filter(|_| family.experts.is_some());
    set("intermediate_size", json!(expert_width.map_or_else(|| needed("feed_forward_length"), Ok)?));
    set("num_hidden_layers", json!(needed("block_count")?));
    set("num_attention_heads", json!(heads));
    set("num_key_value_heads", json!(integer("attention.head_count_kv")?.unwrap_or(heads)));
    set("head_dim", json!(head_dim));
    set("max_position_embeddings", json!(needed("context_length")?));
    let epsilon = key("attention.layer_norm_rms_epsilon");
    set("rms_norm_eps", json!(metadata.needed(&epsilon, metadata.number(&epsilon))?));
    set("rope_theta", json!(metadata.number(&key("rope.freq_base"))?.unwrap_or(10_000.0)));
    set("tie_word_embeddings", json!(tensor("output.weight").is_none()));
    set("attention_bias", json!(tensor("blk.0.attn_q.bias").is_some()));
    set("mlp_bias", json!(tensor("blk.0.ffn_up.bias").is_some()));
    if let Some(turned) = integer("rope.dimension_count")?.filter(|&n| n != head_dim as u64) {
        set("partial_rotary_factor", json!(turned as f64 / head_dim as f64));
    }
    if let Some(window) = integer("attention.sliding_window")?.filter(|&window| window > 0) {
        set("sliding_window", json!(window));
        set("use_sliding_window", json!(true));
    }
    for &(here, there) in family.numbers {
        if let Some(number) = metadata.number(&key(here))? {
            set(there, json!(number));
        }
    }
    if family.experts.is_some() {
        set("num_experts", json!(needed("expert_count")?));
        set("num_experts_per_tok", json!(needed("expert_used_count")?));
        // Files do not say it; whoever runs them takes it so.
        set("norm_topk_prob", json!(true));
    }
    if family.plus_one {
        let wide = integer("block_count")? == family.wide_scores;
        let scalar =
            if wide { needed("embedding_length")?.checked_div(heads) } else { Some(head_dim as u64) };
        set("query_pre_attn_scalar", json!(scalar));
    }
    // What frequencies are divided by is in a tensor where it follows no other rule: see `model::decoder`.
    let factor = metadata.number(&key("rope.scaling.factor"))?;
    if header.tensors.iter().any(|info| info.name.starts_with("rope_factors_")) {
        // Two tensors have the factors, and nothing else says that there are any.
        let original = needed("rope.scaling.original_context_length")?;
        let attention = metadata.number(&key("rope.scaling.attn_factor"))?;
        set(
            "rope_scaling",
            json!({"rope_type": "longrope", "original_max_position_embeddings": original, "attention_factor": attention}),
        );
    } else if let Some(kind) = metadata.text(&key("rope.scaling.type"))?.filter(|&kind| kind != "none") {
        if tensor("rope_freqs.weight").is_some() {
            return Err(format!(
                "stretches positions twice: by {kind:?}, and by its tensor \"rope_freqs.weight\""
            ));
        }
        let original = integer("rope.scaling.original_context_length")?;
        set(
            "rope_scaling",
            json!({"rope_type": kind, "factor": factor, "original_max_position_embeddings": original}),
        );
    }
    if let Some(token) = metadata.integer("tokenizer.ggml.bos_token_id")? {
        set("bos_token_id", json!(token));
    }
    set("eos_token_id", json!(ends));
    Ok(Json::Object(config))
}
