//! Small tokenizers of the two kinds in use, written out by the tests.

use serde_json::{Map, json};
use tempfile::TempDir;

use super::*;

const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT_2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

fn added(id: u32, content: &str, special: bool) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
           "normalized": false, "special": special})
}

/// A tokenizer of bytes in GPT-2's alphabet, with `words` merged out of them: ids 0 to 255 are the
/// bytes, 256 and 257 the special tokens `<s>` and `</s>`.
pub(crate) fn byte_level(words: &[&[u8]]) -> Value {
    let mut extra = 256;
    let alphabet: Vec<char> = (0..=255u8)
        .map(|byte| match byte {
            b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
            _ => {
                extra += 1;
                char::from_u32(extra - 1).unwrap()
            }
        })
        .collect();
    let spell = |bytes: &[u8]| bytes.iter().map(|&b| alphabet[b as usize]).collect::<String>();
    let mut vocab: Map<_, _> = (0..=255).map(|b| (spell(&[b]), json!(b))).collect();
    vocab.insert("<s>".to_owned(), json!(256));
    vocab.insert("</s>".to_owned(), json!(257));
    let mut merges = Vec::new();
    for word in words {
        for end in 2..=word.len() {
            let id = vocab.len();
            if !vocab.contains_key(&spell(&word[..end])) {
                vocab.insert(spell(&word[..end]), json!(id));
                merges.push(json!([spell(&word[..end - 1]), spell(&word[end - 1..end])]));
            }
        }
    }
    json!({
        "version": "1.0",
        "added_tokens": [added(256, "<s>", true), added(257, "</s>", true)],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": LLAMA_3}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [256], "tokens": ["<s>"]}}},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    })
}

/// A tokenizer in the style of SentencePiece: spaces as `▁`, unknown characters as bytes. Ids 0 to
/// 2 are special, 3 to 258 the bytes, then `words`.
pub(crate) fn byte_fallback(words: &[&str]) -> Value {
    let bytes = (0..=255).map(|b| format!("<0x{b:02X}>"));
    let tokens = ["<unk>", "<s>", "</s>"].map(String::from).into_iter().chain(bytes);
    let tokens = tokens.chain(words.iter().map(|w| (*w).to_owned()));
    let vocab: Map<_, _> = tokens.enumerate().map(|(id, token)| (token, json!(id))).collect();
    json!({
        "version": "1.0",
        "added_tokens": [added(0, "<unk>", true), added(1, "<s>", true), added(2, "</s>", true)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "vocab": vocab, "merges": [], "unk_token": "<unk>", "fuse_unk": true,
                  "byte_fallback": true},
    })
}

pub(crate) fn open(tokenizer: &Value) -> Tokenizer {
    with_config(tokenizer, &json!({})).unwrap()
}

fn with_config(tokenizer: &Value, config: &Value) -> Result<Tokenizer> {
    let dir = model(&tokenizer.to_string(), Some(&config.to_string()));
    Tokenizer::open(&dir.path().into(), 4096)
}

fn model(tokenizer: &str, config: Option<&str>) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), tokenizer).unwrap();
    if let Some(config) = config {
        std::fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
    }
    dir
}

fn problem(result: Result<Tokenizer>) -> String {
    let problem = result.err().expect("an error").to_string();
    assert!(!problem.contains('\n'), "{problem}");
    problem
}

#[test]
fn text_comes_back() {
    let texts = ["", "Hello, world", "  two  spaces ", "12345 \u{1F600}é\n\n\tx'LL", "<s>in text</s>"];
    for tokenizer in [byte_level(&[b"Hello", b" world"]), byte_fallback(&["▁", "H", "e", "l", "o", "s"])] {
        let tokenizer = open(&tokenizer);
        for text in texts {
            let ids = tokenizer.encode(text, false).unwrap();
            let plain = text.replace("<s>", "").replace("</s>", "");
            assert_eq!(tokenizer.decode(&ids).unwrap().trim_start(), plain.trim_start(), "{ids:?}");
        }
    }
}

#[test]
fn splitting_patterns_of_models_in_use() {
    let split = |pattern: &str, text: &str| {
        let mut json = byte_level(&[]);
        json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!(pattern);
        let tokenizer = open(&json);
        use tokenizers::PreTokenizer;
        let mut pre = tokenizers::PreTokenizedString::from(text);
        tokenizer.inner.get_pre_tokenizer().unwrap().pre_tokenize(&mut pre).unwrap();
        let splits = pre.get_splits(tokenizers::OffsetReferential::Original, tokenizers::OffsetType::Byte);
        splits.into_iter().map(|(_, (from, to), _)| text[from..to].to_owned()).collect::<Vec<_>>()
    };
    let text = "I'LL pay  12345 €,\n\n  ça va?";
    let llama = ["I", "'LL", " pay", " ", " ", "123", "45", " €,\n\n", " ", " ça", " va", "?"];
    assert_eq!(split(LLAMA_3, text), llama);
    let qwen = ["I", "'LL", " pay", " ", " ", "1", "2", "3", "4", "5", " €,\n\n", " ", " ça", " va", "?"];
    assert_eq!(split(QWEN, text), qwen);
    let gpt = ["I", "'", "LL", " pay", " ", " 12345", " €,", "\n\n ", " ça", " va", "?"];
    assert_eq!(split(GPT_2, text), gpt);
}

#[test]
fn beginning_and_end_tokens() {
    let json = byte_level(&[]);
    let plain = with_config(&json, &json!({"eos_token": {"content": "</s>"}})).unwrap();
    assert_eq!(plain.encode("a", true).unwrap(), [256, 97]);
    assert_eq!(plain.encode("a", false).unwrap(), [97]);
    assert_eq!((plain.eos(), plain.bos(), plain.id("<s>")), (vec![257], None, Some(256)));
    let config = json!({"bos_token": "<s>", "eos_token": "<none>", "add_bos_token": false});
    let without = with_config(&json, &config).unwrap();
    assert_eq!(without.encode("a", true).unwrap(), [97]);
    assert_eq!(without.encode("<s>a", false).unwrap(), [256, 97]);
    assert_eq!((without.eos(), without.bos()), (vec![], Some(256)));
    let mut bare = json.clone();
    bare["post_processor"] = Value::Null;
    let with = with_config(&bare, &json!({"bos_token": "<s>", "add_bos_token": true})).unwrap();
    assert_eq!(with.encode("a", true).unwrap(), [256, 97]);
    assert_eq!(with.encode("", true).unwrap(), [256]);
}

#[test]
fn padding_and_truncation_do_not_touch_prompts() {
    let mut json = byte_level(&[]);
    json["truncation"] =
        json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
    json["padding"] = json!({"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null,
                             "pad_id": 0, "pad_type_id": 0, "pad_token": "!"});
    assert_eq!(open(&json).encode("abc", false).unwrap(), [97, 98, 99]);
}

#[test]
fn chat_template_sources() {
    let json = byte_level(&[]);
    let rendered = |config: Value| {
        let template = with_config(&json, &config).unwrap().chat_template().unwrap();
        template.map(|t| t.render(&[], false).unwrap())
    };
    assert_eq!(rendered(json!({})), None);
    assert_eq!(rendered(json!({"chat_template": 3, "bos_token": null})), None);
    assert_eq!(rendered(json!({"chat_template": "{{ bos_token }}!", "bos_token": "<s>"})).unwrap(), "<s>!");
    let list = json!([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]);
    assert_eq!(rendered(json!({"chat_template": list})).unwrap(), "d");
    let dir = model(&json.to_string(), Some(r#"{"chat_template": "old"}"#));
    std::fs::write(dir.path().join("chat_template.jinja"), "new").unwrap();
    let template = Tokenizer::open(&dir.path().into(), 258).unwrap().chat_template().unwrap().unwrap();
    assert_eq!(template.render(&[], false).unwrap(), "new");
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let dir = model(&byte_level(&[]).to_string(), None);
    assert!(Tokenizer::open(&dir.path().into(), 258).is_ok());
    let found = problem(Tokenizer::open(&dir.path().into(), 257));
    assert!(found.contains("\"</s>\" the id 257") && found.contains("257 entries"), "{found}");
    let mut json = byte_level(&[]);
    json["post_processor"]["special_tokens"]["<s>"]["ids"] = json!([4_000_000]);
    let hidden = open(&json);
    assert!(hidden.encode("a", true).unwrap_err().to_string().contains("4000000"));
    assert!(hidden.decode(&[4_000_000, u32::MAX, 97]).unwrap() == "a");
}

#[test]
fn broken_files_are_one_line_errors() {
    let empty = tempfile::tempdir().unwrap();
    assert!(problem(Tokenizer::open(&empty.path().into(), 1)).contains("has no tokenizer.json"));
    let whole = byte_level(&[b"Hello"]).to_string();
    let deep = "[".repeat(100_000);
    for bad in ["", "{", "null", "[1]", "{}", "\u{FEFF}{}", &whole[..whole.len() / 2], &deep] {
        let dir = model(bad, None);
        assert!(
            problem(Tokenizer::open(&dir.path().into(), 4096)).contains("is not a tokenizer"),
            "{bad:.20}"
        );
    }
    let found = problem(Tokenizer::open(&model(&whole, Some("{,")).path().into(), 4096));
    assert!(found.contains("tokenizer_config.json: is not JSON"), "{found}");
    for odd in
        ["null", "[]", "3", r#"{"eos_token": [1], "bos_token": {"content": 3}, "add_bos_token": "yes"}"#]
    {
        let tokenizer = Tokenizer::open(&model(&whole, Some(odd)).path().into(), 4096).unwrap();
        assert!(tokenizer.eos().is_empty());
    }
}

#[test]
fn odd_tokenizers_give_errors_and_no_panics() {
    let odd = |path: &str, value: Value| {
        for mut json in [byte_level(&[b"Hello"]), byte_fallback(&["▁"])] {
            if let Some(place) = json.pointer_mut(path) {
                *place = value.clone();
            }
            if let Ok(tokenizer) = with_config(&json, &json!({})) {
                let _ = tokenizer.encode("Hello 'll  123 \u{1F600}<s>", true);
                let _ = tokenizer.decode(&[0, 1, 256, 300, 4000]);
            }
        }
    };
    let values =
        [json!(null), json!([]), json!({}), json!(""), json!(-1), json!(1e300), json!("(a+)+$"), json!("(")];
    let places = [
        "/model",
        "/model/type",
        "/model/vocab",
        "/model/merges",
        "/model/unk_token",
        "/decoder",
        "/decoder/decoders",
        "/pre_tokenizer/pretokenizers/0/pattern/Regex",
        "/post_processor/single",
        "/post_processor/special_tokens",
        "/post_processor/special_tokens/<s>/ids",
        "/added_tokens/0/id",
        "/added_tokens/0/content",
        "/normalizer/normalizers/0/prepend",
    ];
    for place in places {
        for value in &values {
            odd(place, value.clone());
        }
    }
}

#[test]
fn steps_that_make_a_text_too_long_are_refused() {
    let replace =
        |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
    let double = replace(json!({"String": "a"}), "aa");
    let sequence =
        |name: &str, step: &Value, count| json!({"type": "Sequence", name: vec![step.clone(); count]});
    let changed = |part: &str, value: Value| {
        let mut json = byte_fallback(&["▁"]);
        json[part] = value;
        with_config(&json, &json!({}))
    };
    let mut untyped = double.clone();
    untyped.as_object_mut().unwrap().remove("type");
    let nothing = replace(json!({"String": ""}), "a");
    let expression = replace(json!({"Regex": "(?=a)"}), "a");
    let bytes =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    for (part, within, step) in [
        ("normalizer", "normalizers", &double),
        ("normalizer", "normalizers", &untyped),
        ("normalizer", "normalizers", &nothing),
        ("normalizer", "normalizers", &expression),
        ("normalizer", "normalizers", &json!({"type": "ByteLevel"})),
        ("normalizer", "normalizers", &json!({"type": "Prepend", "prepend": "▁"})),
        ("pre_tokenizer", "pretokenizers", &bytes),
        ("decoder", "decoders", &double),
        ("decoder", "decoders", &nothing),
        ("decoder", "decoders", &json!({"type": "BPEDecoder", "suffix": ""})),
    ] {
        let found = problem(changed(part, sequence(within, step, 40)));
        assert!(found.contains("times as long, expected at most 1024"), "{step}: {found}");
        // In sequences of sequences they are as many.
        let nested = sequence(within, &sequence(within, step, 5), 8);
        assert_eq!(problem(changed(part, nested)).split(": ").last(), found.split(": ").last());
    }
    let two = sequence("normalizers", &double, 2);
    assert!(changed("normalizer", two).unwrap().encode("a", false).is_ok());
    // What the parts do together counts, and so does a text that is taken a thousand times.
    let mut json = byte_fallback(&["▁"]);
    json["normalizer"] = sequence("normalizers", &double, 10);
    with_config(&json, &json!({})).unwrap();
    json["pre_tokenizer"] = bytes;
    assert!(problem(with_config(&json, &json!({}))).contains("2048 times"));
    let mut json = byte_level(&[]);
    json["post_processor"]["single"] = json!(vec![json!({"Sequence": {"id": "A", "type_id": 0}}); 1000]);
    assert!(problem(with_config(&json, &json!({}))).contains("2000 times"));
}
