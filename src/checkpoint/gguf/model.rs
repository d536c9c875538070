//! A GGUF file as a Hugging Face checkpoint: names of tensors, and the files beside them.

use super::families::{EXPERTS, FAMILIES, Family, LAYER, MAX_EXPERTS, MODEL};
use super::header::{Header, MAX_TENSORS, Value};
use super::metadata::Metadata;
use super::tokenizer;
use crate::checkpoint::files::Held;
use crate::checkpoint::{Change, QUOTE, TensorInfo, clip};
use serde_json::{Map, Value as Json, json};
use std::borrow::Cow;
use std::collections::BTreeMap;

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
    if let Some(name) = find(family.model, stem).or_else(|| find(MODEL, stem)) {
        return Some(format!("{name}.{what}"));
    }
    let (number, part) = stem.strip_prefix("blk.")?.split_once('.')?;
    let number: u32 = number.parse().ok()?;
    let part = find(family.layer, part).or_else(|| find(LAYER, part))?;
    Some(format!("{}.{number}.{part}.{what}", family.layers))
}

/// Tensors by the names of a Hugging Face checkpoint. Those that have none there keep theirs.
pub(super) fn rename(
    metadata: &BTreeMap<String, Value>,
    infos: Vec<TensorInfo>,
) -> Result<Vec<TensorInfo>, String> {
    let metadata = Metadata(metadata);
    let family = family(&metadata)?;
    let head_dim = head_dim(&metadata, family.name)?;
    let experts = metadata.integer(&format!("{}.expert_count", family.name))?.unwrap_or(0);
    let mut all = Vec::with_capacity(infos.len());
    for mut info in infos {
        if let Some((layer, names)) = expert_names(&info.name, family) {
            each_expert(info, layer, names, experts, &mut all)?;
            continue;
        }
        info.change = change(&info, family, head_dim)?;
        if let Some(name) = renamed(&info.name, family) {
            info.name = name;
        }
        all.push(info);
    }
    Ok(all)
}

/// What the file did to a tensor.
fn change(info: &TensorInfo, family: &Family, head_dim: usize) -> Result<Change, String> {
    let named = |part: &str| info.name.contains(part);
    let kinds = match (named(".attn_q.") || named(".attn_k."), named(".attn_qkv.")) {
        (true, _) if family.turned => 1,
        (_, true) if family.by_kind => 3,
        _ if family.plus_one && info.name.ends_with("norm.weight") => return Ok(Change::PlusOne),
        _ => return Ok(Change::None),
    };
    let rows = info.shape.first().copied().unwrap_or(0);
    let heads = rows / (kinds * head_dim);
    if heads * kinds * head_dim != rows || info.shape.len() > 2 {
        let found = format!("its tensor {:?} has shape {:?}", clip(&info.name, QUOTE), info.shape);
        return Err(format!("{found}, expected rows for heads of {head_dim}"));
    }
    Ok(if kinds == 1 { Change::Turned(head_dim) } else { Change::ByKind(heads, head_dim) })
}

/// The layer of a tensor of all experts, and what the matrix of one of them begins and ends with, around its number.
fn expert_names(name: &str, family: &Family) -> Option<(u32, [&'static str; 2])> {
    let (begin, parts) = family.experts?;
    let (number, part) = name.strip_prefix("blk.")?.strip_suffix(".weight")?.split_once('.')?;
    let part = EXPERTS.iter().position(|name| *name == part)?;
    Some((number.parse().ok()?, [begin, parts[part]]))
}

/// The matrices of a tensor `[experts, rows, cols]`, which lie one after another in the file. Those of no bytes, or of more
/// experts than the model has, would be many tensors for few bytes of a file.
fn each_expert(
    info: TensorInfo,
    layer: u32,
    [begin, end]: [&str; 2],
    count: u64,
    all: &mut Vec<TensorInfo>,
) -> Result<(), String> {
    let found = || format!("its tensor {:?} has shape {:?}", clip(&info.name, QUOTE), info.shape);
    let (experts, rows, cols) = match info.shape[..] {
        [experts @ 1..=MAX_EXPERTS, rows, cols] if experts as u64 == count && info.elements > 0 => {
            (experts, rows, cols)
        }
        _ => {
            let expected = format!("[experts, rows, columns] of 1 to {MAX_EXPERTS} experts");
            return Err(format!("{}, expected {expected}, {count} by its expert_count, none empty", found()));
        }
    };
    if all.len() + experts > MAX_TENSORS as usize {
        return Err(format!("{}, which would make more than {MAX_TENSORS} tensors of the file", found()));
    }
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
        Some(size) if (2..=1 << 16).contains(&size) && size.is_multiple_of(2) => Ok(size),
        _ => Err(format!("its heads have size {size:?}, expected an even number up to 65536")),
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

/// Keys after `rope.` that are read here, or change nothing.
const ROPE: [&str; 10] = [
    "dimension_count",
    "freq_base",
    "scale_linear",
    "scaling.type",
    "scaling.factor",
    "scaling.attn_factor",
    "scaling.original_context_length",
    "scaling.finetuned",
    "scaling.yarn_beta_fast",
    "scaling.yarn_beta_slow",
];

/// Refuses keys that would turn queries and keys otherwise, and that nothing here reads.
fn refuse_other_rope(metadata: &Metadata<'_>, family: &Family, kind: &str) -> Result<(), String> {
    let before = format!("{}.rope.", family.name);
    for key in metadata.0.keys() {
        let Some(name) = key.strip_prefix(&before) else { continue };
        let own = || family.numbers.iter().any(|(here, _)| here.strip_prefix("rope.") == Some(name));
        if ROPE.contains(&name) || own() {
            continue;
        }
        // What they are where they are left out, which one of them says too, by a number below 0.
        let usual = match name {
            "scaling.yarn_ext_factor" => Some(if kind == "yarn" { 1.0 } else { 0.0 }),
            "scaling.yarn_attn_factor" => Some(1.0),
            "scaling.yarn_log_multiplier" => Some(0.0),
            _ => None,
        };
        let unset = |n: f64| n < 0.0 && name == "scaling.yarn_ext_factor";
        match usual {
            Some(usual) if metadata.number(key)?.is_some_and(|n| n == usual || unset(n)) => {}
            Some(usual) => return Err(metadata.wrong(key, &usual.to_string())),
            None => return Err(metadata.wrong(key, "no such key: it would be ignored")),
        }
    }
    Ok(())
}

/// How positions are stretched, as a config.json says it. What is left out is what llama.cpp takes it to be.
fn scaling(header: &Header, family: &Family) -> Result<Option<Json>, String> {
    let metadata = Metadata(&header.metadata);
    let key = |name: &str| format!("{}.rope.{name}", family.name);
    let number = |name: &str| metadata.number(&key(name));
    let kind = metadata.text(&key("scaling.type"))?.unwrap_or("linear");
    refuse_other_rope(&metadata, family, kind)?;
    // Older files have another key for it, and 0 is as good as none.
    let factor =
        number("scaling.factor")?.map_or_else(|| number("scale_linear"), |factor| Ok(Some(factor)))?;
    let factor = factor.filter(|&factor| factor != 0.0);
    let attention = number("scaling.attn_factor")?;
    let length = key("scaling.original_context_length");
    let original = metadata.integer(&length)?;
    let stretched = kind == "yarn" || kind != "none" && factor.is_some_and(|factor| factor != 1.0);
    // What frequencies are divided by is in a tensor where it follows no other rule: see `model::decoder`.
    let found = |start: &str| header.tensors.iter().find(|info| info.name.starts_with(start));
    let (listed, long) = (found("rope_freqs.weight"), found("rope_factors_"));
    if let Some(info) = listed.or(long).filter(|_| stretched) {
        let tensor = clip(&info.name, QUOTE);
        return Err(format!("stretches positions twice: by {kind:?}, and by its tensor {tensor:?}"));
    }
    if long.is_some() {
        // Two tensors have the factors, and nothing else says that there are any.
        let original = metadata.needed(&length, Ok(original))?;
        return Ok(Some(
            json!({"rope_type": "longrope", "original_max_position_embeddings": original, "attention_factor": attention}),
        ));
    }
    // It multiplies what the rule makes of attention; other rules than YaRN's make nothing of it here.
    let attention = attention.filter(|&attention| attention != 1.0);
    if attention.is_some() && kind != "yarn" {
        return Err(metadata.wrong(&key("scaling.attn_factor"), "1, or YaRN's or LongRoPE's rule"));
    }
    if !stretched && ["none", "linear"].contains(&kind) {
        return Ok(None);
    }
    let attention = attention.zip(factor).map(|(attention, factor)| attention * (0.1 * factor.ln() + 1.0));
    Ok(Some(json!({"rope_type": kind, "factor": factor, "original_max_position_embeddings": original,
        "attention_factor": attention, "beta_fast": number("scaling.yarn_beta_fast")?,
        "beta_slow": number("scaling.yarn_beta_slow")?})))
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
    let mut set = |name: &str, value: Json| _ = config.insert(name.to_owned(), value);
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
    let epsilon = key(family.eps.0);
    set(family.eps.1, json!(metadata.needed(&epsilon, metadata.number(&epsilon))?));
    set("rope_theta", json!(metadata.number(&key("rope.freq_base"))?.unwrap_or(10_000.0)));
    set("tie_word_embeddings", json!(tensor("output.weight").is_none()));
    for (name, setting) in family.settings {
        set(setting, json!(tensor(&format!("blk.0.{name}")).is_some()));
    }
    let rotates = integer("rope.dimension_count")?.unwrap_or(head_dim as u64);
    set("partial_rotary_factor", json!(rotates as f64 / head_dim as f64));
    if let Some(parallel) = metadata.flag(&key("use_parallel_residual"))? {
        // Only this family may have it; where StableLM's files claim it, their layers have a second norm and have it not.
        if family.by_kind || tensor("blk.0.ffn_norm.weight").is_none() {
            set("use_parallel_residual", json!(parallel));
        }
    }
    match integer("attention.sliding_window")? {
        Some(window @ 1..) => {
            set("sliding_window", json!(window));
            set("use_sliding_window", json!(true));
            set("max_window_layers", json!(0));
        }
        // Left out, it is what the configuration's default is in files of Gemma 2 alone.
        None if family.name == "gemma2" => {}
        _ => set("sliding_window", Json::Null),
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
    if let Some(scaling) = scaling(header, family)? {
        set("rope_scaling", scaling);
    }
    if let Some(token) = metadata.integer("tokenizer.ggml.bos_token_id")? {
        set("bos_token_id", json!(token));
    }
    set("eos_token_id", json!(ends));
    Ok(Json::Object(config))
}

#[cfg(test)]
mod tests;
