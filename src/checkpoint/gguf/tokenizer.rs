//! The tokenizer of a GGUF file, as a Hugging Face `tokenizer.json`.

use super::metadata::Metadata;
use crate::checkpoint::{QUOTE, clip};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;

/// What is made of the metadata.
pub(super) struct Files {
    /// A tokenizer.json.
    pub tokenizer: Json,
    /// A tokenizer_config.json.
    pub config: Json,
    /// The tokens that end a text.
    pub ends: Vec<u64>,
}

/// What `tokenizer.ggml.token_type` says of a token.
const UNKNOWN: f64 = 2.0;
pub(super) const CONTROL: f64 = 3.0;
pub(super) const USER_DEFINED: f64 = 4.0;

/// Texts of control tokens that end a turn, whatever the file calls its end: no model writes on past them.
const TURN_ENDS: [&str; 7] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
];

/// Contractions, words, numbers of one digit, other signs, spaces: GPT-2's way to cut a text into words, and those of
/// newer models. `\p{N}` is what differs between the last two.
pub(super) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
pub(super) const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How a text is cut into words before merges, by the names of `tokenizer.ggml.pre`.
pub(super) struct Cut {
    pub names: &'static [&'static str],
    /// Digits are words of their own before that.
    pub digits: bool,
    pub pattern: &'static str,
    /// A word that is a token is not put together from its parts.
    pub whole_words: bool,
}

pub(super) const CUTS: &[Cut] = &[
    Cut { names: &["gpt-2", "mpt", "olmo", "phi-2"], digits: false, pattern: GPT2, whole_words: false },
    Cut {
        names: &["smollm", "starcoder", "refact", "command-r"],
        digits: true,
        pattern: GPT2,
        whole_words: false,
    },
    Cut {
        names: &["llama-bpe", "llama3", "llama-v3", "dbrx", "smaug-bpe"],
        digits: false,
        pattern: LLAMA3,
        whole_words: true,
    },
    Cut {
        names: &["qwen2", "stablelm2", "deepseek-r1-qwen"],
        digits: false,
        pattern: QWEN2,
        whole_words: false,
    },
];

/// The files that a model directory has for its tokenizer.
pub(super) fn files(metadata: &Metadata<'_>) -> Result<Files, String> {
    let key = "tokenizer.ggml.tokens";
    let tokens = metadata.needed(key, metadata.texts(key))?;
    let kinds = metadata.numbers("tokenizer.ggml.token_type")?.unwrap_or(&[]);
    let kind = |id: usize| kinds.get(id).copied().unwrap_or(1.0);
    let model = metadata.needed("tokenizer.ggml.model", metadata.text("tokenizer.ggml.model"))?;
    // Files that were made before there was such a key are cut like GPT-2's.
    let pre = metadata.text("tokenizer.ggml.pre")?.unwrap_or("gpt-2");
    let mut tokenizer = match model {
        "gpt2" => byte_level(metadata, tokens, pre)?,
        "llama" => sentence_piece(metadata, tokens, &kind)?,
        other => {
            let found = format!("its tokenizer.ggml.model is {:?}", clip(other, QUOTE));
            return Err(format!("{found}, expected \"gpt2\" or \"llama\""));
        }
    };
    let added: Vec<Json> = (tokens.iter().enumerate())
        .filter(|(id, _)| [UNKNOWN, CONTROL, USER_DEFINED].contains(&kind(*id)))
        .map(|(id, token)| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": kind(id) != USER_DEFINED})
        })
        .collect();
    tokenizer.insert("version".to_owned(), json!("1.0"));
    tokenizer.insert("added_tokens".to_owned(), json!(added));

    let mut config = Map::new();
    let mut ends = Vec::new();
    for name in ["bos", "eos", "eot", "eom", "unknown", "padding"] {
        let Some(id) = metadata.integer(&format!("tokenizer.ggml.{name}_token_id"))? else { continue };
        // 2^32 − 1 says that there is none.
        let Some(token) = usize::try_from(id).ok().and_then(|id| tokens.get(id)) else { continue };
        match name {
            "bos" | "eos" => _ = config.insert(format!("{name}_token"), json!(token)),
            "unknown" => _ = config.insert("unk_token".to_owned(), json!(token)),
            "padding" => _ = config.insert("pad_token".to_owned(), json!(token)),
            _ => {}
        }
        if ["eos", "eot", "eom"].contains(&name) && !ends.contains(&id) {
            ends.push(id);
        }
    }
    for (id, token) in tokens.iter().enumerate() {
        if kind(id) == CONTROL && TURN_ENDS.contains(&token.as_str()) && !ends.contains(&(id as u64)) {
            ends.push(id as u64);
        }
    }
    let by_itself = model == "llama" || CUTS.iter().any(|cut| cut.whole_words && cut.names.contains(&pre));
    let add_bos = metadata.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(by_itself);
    config.insert("add_bos_token".to_owned(), json!(add_bos));
    if let Some(template) = metadata.text("tokenizer.chat_template")? {
        config.insert("chat_template".to_owned(), json!(template));
    }
    Ok(Files { tokenizer: Json::Object(tokenizer), config: Json::Object(config), ends })
}

/// Each token's number. Of two that are the same text, the first counts.
fn vocabulary(tokens: &[String]) -> BTreeMap<&str, usize> {
    let mut vocabulary = BTreeMap::new();
    for (id, token) in tokens.iter().enumerate() {
        vocabulary.entry(token.as_str()).or_insert(id);
    }
    vocabulary
}

/// Byte-level BPE with the file's merges.
fn byte_level(metadata: &Metadata<'_>, tokens: &[String], pre: &str) -> Result<Map<String, Json>, String> {
    let Some(cut) = CUTS.iter().find(|cut| cut.names.contains(&pre)) else {
        let known: Vec<&str> = CUTS.iter().flat_map(|cut| cut.names).copied().collect();
        let found = format!("its tokenizer.ggml.pre is {:?}", clip(pre, QUOTE));
        return Err(format!("{found}, expected {}: a text would be cut into other tokens", known.join(", ")));
    };
    let key = "tokenizer.ggml.merges";
    let merges = metadata.needed(key, metadata.texts(key))?;
    let merges: Option<Vec<(&str, &str)>> = merges.iter().map(|merge| merge.split_once(' ')).collect();
    let merges =
        merges.ok_or_else(|| format!("its key {key} has an entry without a space between two tokens"))?;
    let digits = cut.digits.then(|| json!({"type": "Digits", "individual_digits": true}));
    let words = [
        json!({"type": "Split", "pattern": {"Regex": cut.pattern}, "behavior": "Isolated", "invert": false}),
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}),
    ];
    let words: Vec<Json> = digits.into_iter().chain(words).collect();
    let fields = json!({
        "model": {"type": "BPE", "vocab": vocabulary(tokens), "merges": merges, "ignore_merges": cut.whole_words},
        "normalizer": (pre == "qwen2").then(|| json!({"type": "NFC"})),
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": words},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
    });
    Ok(fields.as_object().cloned().unwrap_or_default())
}

/// More merges than any vocabulary comes to, and more bytes of tokens, each counted once for every place where it may be cut
/// in two. (Gemma's 256,000 tokens come to some half a million merges.)
const MAX_MERGES: usize = 4 << 20;
const MAX_BYTES: usize = 256 << 20;

/// A way to put a token together.
struct Merge<'a> {
    score: f64,
    /// Characters of its two parts.
    lengths: [usize; 2],
    ids: [usize; 2],
    texts: (&'a str, &'a str),
}

/// SentencePiece's BPE: a merge for every way to put a token together from two others, the likeliest first. (As
/// `transformers` converts such tokenizers.)
fn sentence_piece(
    metadata: &Metadata<'_>,
    tokens: &[String],
    kind: &dyn Fn(usize) -> f64,
) -> Result<Map<String, Json>, String> {
    let key = "tokenizer.ggml.scores";
    let scores = metadata.needed(key, metadata.numbers(key))?;
    let vocabulary = vocabulary(tokens);
    let mut merges = Vec::new();
    let mut bytes = 0usize;
    let too_many = |id: usize| {
        let found = format!("its vocabulary comes to too many merges at token {id} of {}", tokens.len());
        format!("{found}, expected at most {MAX_MERGES}, of tokens that come to {MAX_BYTES} bytes")
    };
    for (id, token) in tokens.iter().enumerate() {
        if kind(id) != 1.0 {
            continue;
        }
        let score = scores.get(id).copied().unwrap_or(f64::MIN);
        let characters = token.chars().count();
        bytes = bytes.saturating_add(token.len().saturating_mul(characters));
        if bytes > MAX_BYTES {
            return Err(too_many(id));
        }
        let mut pairs: Vec<Merge> = (token.char_indices().skip(1).zip(1..))
            .filter_map(|((at, _), before)| {
                let texts = token.split_at(at);
                let ids = [*vocabulary.get(texts.0)?, *vocabulary.get(texts.1)?];
                Some(Merge { score, lengths: [before, characters - before], ids, texts })
            })
            .collect();
        if merges.len() + pairs.len() > MAX_MERGES {
            return Err(too_many(id));
        }
        pairs.sort_unstable_by_key(|pair| pair.ids);
        merges.append(&mut pairs);
    }
    // Stable: what is equal stays in the order of the vocabulary.
    merges.sort_by(|x, y| y.score.total_cmp(&x.score).then_with(|| y.lengths.cmp(&x.lengths)));
    let merges: Vec<(&str, &str)> = merges.into_iter().map(|merge| merge.texts).collect();
    let unknown = metadata.integer("tokenizer.ggml.unknown_token_id")?.unwrap_or(0);
    let unknown = usize::try_from(unknown).ok().and_then(|id| tokens.get(id));
    let space = metadata.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let before = space.then(|| json!({"type": "Prepend", "prepend": "▁"}));
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let normalizers: Vec<Json> = before.into_iter().chain([replace]).collect();
    let back = [
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    let strip = space.then(|| json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    let decoders: Vec<Json> = back.into_iter().chain(strip).collect();
    let fields = json!({
        "model": {"type": "BPE", "vocab": vocabulary, "merges": merges, "unk_token": unknown, "fuse_unk": true,
            "byte_fallback": true},
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": null,
        "decoder": {"type": "Sequence", "decoders": decoders},
    });
    Ok(fields.as_object().cloned().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::header::Value;
    use super::*;

    /// The merges of a vocabulary with these scores, or what is wrong with it.
    fn merges(tokens: Vec<String>, scores: Vec<f64>) -> Result<Json, String> {
        let metadata = BTreeMap::from([
            ("tokenizer.ggml.tokens".to_owned(), Value::Texts(tokens.clone())),
            ("tokenizer.ggml.scores".to_owned(), Value::Numbers(scores)),
        ]);
        let mut fields = sentence_piece(&Metadata(&metadata), &tokens, &|_| 1.0)?;
        Ok(fields["model"]["merges"].take())
    }

    #[test]
    fn merges_are_in_the_order_of_scores_then_lengths() {
        let tokens = ["a", "b", "é", "ab", "éb", "aba", "abéb"].map(str::to_owned).to_vec();
        let found = merges(tokens, vec![0.0, 0.0, 0.0, -2.0, -1.0, -3.0, -3.0]).unwrap();
        assert_eq!(found, json!([["é", "b"], ["a", "b"], ["ab", "éb"], ["ab", "a"]]));
    }

    /// Of the tokens a, aa, aaa, … each is put together in as many ways as it is long.
    #[test]
    fn a_vocabulary_of_too_many_merges_is_refused() {
        let repeated = |count: usize| (1..=count).map(|n| "a".repeat(n)).collect::<Vec<_>>();
        assert_eq!(merges(repeated(20), vec![0.0; 20]).unwrap().as_array().map(Vec::len), Some(190));
        // (Half a million merges in a message help nobody.)
        let problem = merges(repeated(1000), vec![0.0; 1000]).map(drop).unwrap_err();
        assert!(problem.contains("comes to too many merges at token 929 of 1000"), "{problem}");
    }
}
