//! A model's tokenizer: `tokenizer.json`, and what `tokenizer_config.json` says about it.

use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokenizers::{DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper};

use super::chat::ChatTemplate;
use crate::checkpoint::Directory;
use crate::error::{Error, Result};

/// Larger files than this are not read: the largest tokenizers in use have about 40 MB.
const MAX_FILE: u64 = 256 << 20;

/// How many times as long as it was a text may become before it is cut into tokens, or after it is put together again. Llama's
/// tokenizers come to 12: a space becomes three bytes, and one is put before the text.
const MAX_GROWTH: f64 = 1024.0;

/// What is done to a text before and after a tokenizer's model, as the library reads it: each step is written back with its
/// type and in full, however the file spells it.
#[derive(Deserialize, Serialize)]
struct Steps {
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    post_processor: Option<PostProcessorWrapper>,
    decoder: Option<DecoderWrapper>,
}

impl Steps {
    /// The greater of both ways, of what is written back.
    fn growth(steps: &Value) -> f64 {
        let there = ["normalizer", "pre_tokenizer", "post_processor"].map(|name| growth(&steps[name]));
        there.into_iter().product::<f64>().max(growth(&steps["decoder"]))
    }
}

/// How many times as long as it was a text may come out of a step, and of those in it one after another: some double it, and
/// forty of them would fill any memory. Steps that cannot do more if they come twice, such as Unicode's forms, are not counted.
fn growth(step: &Value) -> f64 {
    let length = |name: &str| step[name].as_str().map_or(0.0, |text| text.len() as f64);
    // What is nowhere in a text is found between any two characters.
    let replaced = |pattern: f64, content: f64| match pattern {
        0.0 => 1.0 + content,
        pattern => (content / pattern).max(1.0),
    };
    let own = match step["type"].as_str().unwrap_or_default() {
        "Replace" => match step["pattern"]["String"].as_str() {
            Some(pattern) => replaced(pattern.len() as f64, length("content")),
            // An expression may match no characters at all.
            None => replaced(0.0, length("content")),
        },
        // A text may be cut into pieces of one character, with as much put before each.
        "Prepend" => 1.0 + length("prepend"),
        "BPEDecoder" => replaced(length("suffix"), 1.0),
        "CTC" => replaced(length("word_delimiter_token"), 1.0),
        // A byte becomes a character of up to two.
        "ByteLevel" => 2.0,
        // A table of its own; Unicode's longest entry is 11 times as long as what it stands for.
        "Precompiled" => 16.0,
        "TemplateProcessing" => {
            let pieces = step["single"].as_array().into_iter().flatten();
            (pieces.filter(|piece| piece.get("Sequence").is_some()).count() as f64).max(1.0)
        }
        _ => 1.0,
    };
    let within = ["normalizers", "pretokenizers", "processors", "decoders"];
    let within = within.iter().filter_map(|name| step[*name].as_array()).flatten();
    own * within.map(growth).product::<f64>()
}

/// Text to token ids and back.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
    vocab_size: usize,
    specials: HashSet<u32>,
    names: BTreeMap<String, String>,
    add_bos: Option<bool>,
    template: Option<String>,
}

impl Tokenizer {
    /// Reads the tokenizer of the model in `directory`, whose vocabulary has `vocab_size` entries.
    pub fn open(directory: &Directory, vocab_size: usize) -> Result<Self> {
        let path = directory.join("tokenizer.json");
        let Some(bytes) = directory.read("tokenizer.json", MAX_FILE)? else {
            let problem = "has no tokenizer.json: expected the tokenizer file beside the model's config.json";
            return Err(Error::file(directory.path(), problem));
        };
        let unreadable = |e| Error::file(&path, format!("is not a tokenizer that can be read: {e}"));
        // Before anything is made of them: added tokens go through some of the steps when a tokenizer is read.
        let steps = guard(|| Ok(serde_json::to_value(serde_json::from_slice::<Steps>(&bytes)?)?));
        let growth = Steps::growth(&steps.map_err(unreadable)?);
        if growth > MAX_GROWTH {
            let found = format!("its steps may make a text {growth:.0} times as long");
            return Err(Error::file(&path, format!("{found}, expected at most {MAX_GROWTH} times")));
        }
        let mut inner = guard(|| tokenizers::Tokenizer::from_bytes(&bytes)).map_err(unreadable)?;
        // Both are for training batches; in a prompt they would drop or invent tokens.
        inner.with_padding(None);
        let _ = inner.with_truncation(None);
        if let Some((token, id)) = inner.get_vocab(true).into_iter().max_by_key(|(_, id)| *id)
            && id as usize >= vocab_size
        {
            return Err(Error::file(
                &path,
                format!(
                    "does not fit the model's vocabulary: it gives {token:?} the id {id}, and the model has \
                     {vocab_size} entries; take the tokenizer.json that came with these weights"
                ),
            ));
        }
        let specials =
            inner.get_added_tokens_decoder().iter().filter(|(_, t)| t.special).map(|(id, _)| *id).collect();

        let name = "tokenizer_config.json";
        let config = match directory.read(name, MAX_FILE)? {
            Some(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| Error::file(directory.join(name), format!("is not JSON: {e}")))?,
            None => Value::Null,
        };
        let name = "chat_template.jinja";
        let template = match directory.read(name, MAX_FILE)? {
            Some(bytes) => {
                let text = String::from_utf8(bytes);
                Some(text.map_err(|_| Error::file(directory.join(name), "is not UTF-8 text"))?)
            }
            None => template(&config["chat_template"]),
        };
        Ok(Tokenizer {
            inner,
            path,
            vocab_size,
            specials,
            names: names(&config),
            add_bos: config["add_bos_token"].as_bool(),
            template,
        })
    }

    /// The ids of `text`. With `add_special`, the tokens that the model expects around a text (its
    /// beginning-of-text token, mostly) are added; a rendered chat prompt has them already.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        let encoding = guard(|| self.inner.encode_fast(text, add_special))
            .map_err(|e| Error::Model(format!("{}: cannot encode the text: {e}", self.path.display())))?;
        let mut ids = encoding.get_ids().to_vec();
        if let (true, Some(add), Some(bos)) = (add_special, self.add_bos, self.bos()) {
            let first = ids.first() == Some(&bos);
            if add && !first {
                ids.insert(0, bos);
            } else if !add && first && encoding.get_special_tokens_mask().first() == Some(&1) {
                // Only what was added around the text: a token spelled in the text stays.
                ids.remove(0);
            }
        }
        // The template of a tokenizer.json may add ids that are not in its own vocabulary.
        match ids.iter().find(|&&id| id as usize >= self.vocab_size) {
            Some(id) => Err(Error::file(
                &self.path,
                format!("encodes a text with the id {id}, and the model has {} entries", self.vocab_size),
            )),
            None => Ok(ids),
        }
    }

    /// The text of `ids`, without special tokens. Ids that the tokenizer does not know have no text.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        guard(|| self.inner.decode(ids, true))
            .map_err(|e| Error::Model(format!("{}: cannot decode tokens: {e}", self.path.display())))
    }

    /// The id of a token by its exact spelling.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The spelling of a token in the tokenizer's own alphabet.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The beginning-of-text token that `tokenizer_config.json` names.
    pub fn bos(&self) -> Option<u32> {
        self.id(self.names.get("bos_token")?)
    }

    /// The end tokens that `tokenizer_config.json` names (`generation_config.json` may name more).
    pub fn eos(&self) -> Vec<u32> {
        self.names.get("eos_token").and_then(|token| self.id(token)).into_iter().collect()
    }

    /// The text of its chat template.
    pub fn template(&self) -> Option<&str> {
        self.template.as_deref()
    }

    /// The model's chat template, where it has one: `chat_template.jinja`, or else the one in
    /// `tokenizer_config.json` (of several, the one named `default`).
    pub fn chat_template(&self) -> Result<Option<ChatTemplate>> {
        self.template.as_deref().map(|source| ChatTemplate::new(source, self.names.clone())).transpose()
    }

    /// Whether `id` never has text: a special token, or one that the tokenizer does not know.
    pub fn is_silent(&self, id: u32) -> bool {
        self.specials.contains(&id) || self.inner.id_to_token(id).is_none()
    }
}

/// Runs the tokenizers library, which panics on some malformed tokenizers, and gives one line of
/// text for whatever went wrong.
fn guard<T>(run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => Err(e.to_string().replace('\n', " ")),
        Err(_) => Err("the tokenizer contradicts itself".to_owned()),
    }
}

/// The special tokens that a configuration names: `"bos_token": "<s>"` or `{"content": "<s>"}`.
fn names(config: &Value) -> BTreeMap<String, String> {
    let Some(config) = config.as_object() else { return BTreeMap::new() };
    let tokens = config.iter().filter(|(key, _)| key.ends_with("_token"));
    tokens
        .filter_map(|(key, v)| Some((key.clone(), v.as_str().or(v["content"].as_str())?.to_owned())))
        .collect()
}

/// A configuration's chat template: a string, or a list of named ones.
fn template(value: &Value) -> Option<String> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let named = list.iter().find(|t| t["name"] == "default").or(list.first());
    value.as_str().or(named.and_then(|t| t["template"].as_str())).map(str::to_owned)
}

#[cfg(test)]
pub(super) mod tests;
