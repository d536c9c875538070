//! The way back: a byte-level BPE `tokenizer.json` as the metadata of a GGUF file.

use super::header::Value;
use super::tokenizer::{CONTROL, CUTS, Cut, GPT2, QWEN2, USER_DEFINED};
use crate::checkpoint::{QUOTE, clip};
use serde_json::Value as Json;

/// An ordinary token, and one that only fills the vocabulary up.
const NORMAL: f64 = 1.0;
const UNUSED: f64 = 5.0;

/// What the metadata says of a tokenizer, given its `tokenizer.json`, its `tokenizer_config.json` (null if there is none),
/// and how many tokens the model has. Ids of special tokens are not in it, except for those that the second file names.
///
/// # Errors
/// What the tokenizer is and what was expected.
pub fn vocabulary(tokenizer: &Json, config: &Json, size: usize) -> Result<Vec<(String, Value)>, String> {
    let model = &tokenizer["model"];
    if model["type"] != "BPE" {
        let found = clip(&model["type"].to_string(), QUOTE);
        let expected = "expected a byte-level \"BPE\"; --to compressed-tensors takes any tokenizer as it is";
        return Err(format!("the tokenizer is of type {found}, {expected}"));
    }
    let cut = cut(tokenizer)?;
    let mut tokens: Vec<Option<String>> = vec![None; size];
    let mut kinds = vec![NORMAL; size];
    let mut put = |token: &str, id: &Json, kind: f64| {
        let place = id.as_u64().and_then(|id| usize::try_from(id).ok()).filter(|&id| id < size);
        let place = place.ok_or_else(|| {
            format!(
                "the tokenizer's token {:?} has the id {id}, expected less than {size}",
                clip(token, QUOTE)
            )
        })?;
        if tokens[place].as_deref().is_some_and(|other| other != token) {
            return Err(format!("the tokenizer has two tokens with the id {id}"));
        }
        (tokens[place], kinds[place]) = (Some(token.to_owned()), kind);
        Ok(())
    };
    for (token, id) in model["vocab"].as_object().into_iter().flatten() {
        put(token, id, NORMAL)?;
    }
    for token in tokenizer["added_tokens"].as_array().into_iter().flatten() {
        let kind = if token["special"] == true { CONTROL } else { USER_DEFINED };
        put(token["content"].as_str().unwrap_or_default(), &token["id"], kind)?;
    }
    let tokens: Vec<String> = (tokens.into_iter().zip(&mut kinds).enumerate())
        .map(|(id, (token, kind))| {
            token.unwrap_or_else(|| {
                *kind = UNUSED;
                format!("[PAD{id}]")
            })
        })
        .collect();
    let merges: Option<Vec<String>> = (model["merges"].as_array().into_iter().flatten())
        .map(|merge| match merge {
            Json::String(text) => Some(text.clone()),
            pair => Some(format!("{} {}", pair[0].as_str()?, pair[1].as_str()?)),
        })
        .collect();
    let merges = merges.ok_or("the tokenizer has merges that are not pairs of texts")?;
    let id = |name: &str| {
        let token = &config[name];
        let text = token.as_str().or(token["content"].as_str())?;
        tokens.iter().position(|token| token == text)
    };
    let named =
        [("bos", "bos_token"), ("eos", "eos_token"), ("unknown", "unk_token"), ("padding", "pad_token")];
    let ids: Vec<(String, Value)> = (named.iter())
        .filter_map(|(here, there)| {
            Some((format!("tokenizer.ggml.{here}_token_id"), Value::Integer(id(there)? as i128)))
        })
        .collect();
    let mut all = vec![
        ("tokenizer.ggml.model".to_owned(), Value::Text("gpt2".to_owned())),
        ("tokenizer.ggml.pre".to_owned(), Value::Text(cut.names[0].to_owned())),
        ("tokenizer.ggml.tokens".to_owned(), Value::Texts(tokens)),
        ("tokenizer.ggml.token_type".to_owned(), Value::Numbers(kinds)),
        ("tokenizer.ggml.merges".to_owned(), Value::Texts(merges)),
    ];
    all.extend(ids);
    Ok(all)
}

/// The way to cut a text into words that GGUF files have a name for.
fn cut(tokenizer: &Json) -> Result<&'static Cut, String> {
    let steps = match &tokenizer["pre_tokenizer"] {
        Json::Null => Vec::new(),
        one if one["type"] == "Sequence" => one["pretokenizers"].as_array().into_iter().flatten().collect(),
        one => vec![one],
    };
    let (mut digits, mut pattern, mut bytes) = (false, None, false);
    let mut others = false;
    for step in steps {
        match step["type"].as_str() {
            Some("Digits") if step["individual_digits"] == true && pattern.is_none() => digits = true,
            Some("Split")
                if step["behavior"] == "Isolated" && step["invert"] != true && pattern.is_none() =>
            {
                pattern = step["pattern"]["Regex"].as_str();
            }
            // What it does by itself where nothing else is said is GPT-2's way.
            Some("ByteLevel") if step["add_prefix_space"] != true => {
                bytes = true;
                if step["use_regex"] != false {
                    others |= pattern.is_some();
                    pattern = Some(GPT2);
                }
            }
            _ => others = true,
        }
    }
    let composed = tokenizer["normalizer"]["type"] == "NFC";
    let normal = tokenizer["normalizer"].is_null() || composed;
    let whole_words = tokenizer["model"]["ignore_merges"] == true;
    let found = CUTS.iter().find(|cut| {
        // Only texts cut like Qwen's are composed first.
        let normal = normal && composed == (cut.pattern == QWEN2 && cut.names[0] == "qwen2");
        normal && cut.digits == digits && Some(cut.pattern) == pattern && cut.whole_words == whole_words
    });
    found.filter(|_| bytes && !others && tokenizer["model"]["byte_fallback"] != true).ok_or_else(|| {
        let names: Vec<&str> = CUTS.iter().map(|cut| cut.names[0]).collect();
        let what = "the tokenizer cuts a text into words in a way that GGUF files have no name for here";
        format!("{what}, expected that of {}; --to compressed-tensors takes any", names.join(", "))
    })
}
