//! GGUF files against gguf-py and transformers (`models/formats.py`).

use super::common::{cpu, ids, json, open, open_stored, packing, usual_devices};
use super::{assert_logits, path};
use proptest::prelude::*;
use sixteen_states::checkpoint::ggml::BLOCK_TYPES;
use sixteen_states::checkpoint::{Checkpoint, Config, gguf, locate};
use sixteen_states::text::Tokenizer;

fn bytes_of(hex: &serde_json::Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

/// Bit for bit what gguf-py reads.
#[test]
fn blocks_of_every_ggml_type_are_read_as_gguf_py_reads_them() {
    let entries = json("formats/ggml-blocks.json");
    assert_eq!(entries.as_object().unwrap().len(), BLOCK_TYPES.len());
    for t in BLOCK_TYPES {
        let blocks = bytes_of(&entries[t.name]["blocks"]);
        let expected: Vec<f32> = bytes_of(&entries[t.name]["numbers"])
            .as_chunks()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect();
        assert_eq!(blocks.len(), 2 * t.bytes, "{}", t.name);
        let mut found = vec![0.0; expected.len()];
        t.read(&blocks, &mut found);
        assert_eq!(found, expected, "{}", t.name);
    }
}

/// A file whose matrices are of every type that has a kernel, several of them in one product: what the file says is what
/// runs. Its 16-bit floats are the same to rounding.
#[test]
fn packed_files_give_the_logits_of_their_numbers() {
    for name in ["gguf-native", "gguf-others"] {
        let reference = json(&format!("formats/{name}.json"));
        for device in usual_devices() {
            let what = format!("{name} on {}", device.name);
            let model = path(&format!("{name}.gguf"));
            let mut stored = open_stored(device.open(), &model, 1);
            assert_logits(&mut stored, &reference, 1e-5, &what);
            let mut floats = open(device.open(), &model, packing(16, 64), 1);
            assert_logits(&mut floats, &reference, 1e-5, &format!("{what}, as floats"));
            let (own, f16) = (stored.memory().weight_bytes, floats.memory().weight_bytes);
            // Of the others only MXFP4 is smaller.
            let most = if name == "gguf-native" { f16 * 2 / 5 } else { f16 - 1 };
            assert!(own <= most, "{what}: {own} bytes, {f16} as floats");
        }
    }
}

/// Every family of models that GGUF files are read of, by the names that gguf-py gives its tensors. What is read is the same
/// for every device, and tests/golden.rs computes with these models on all.
#[test]
fn families_are_read_from_gguf() {
    for (name, file) in [
        ("llama-gqa-llama3", "family-llama-gqa-llama3.gguf"),
        ("qwen2", "family-qwen2-00001-of-00002.gguf"),
        ("qwen3", "family-qwen3.gguf"),
        ("olmo2", "family-olmo2-00001-of-00002.gguf"),
        ("granite", "family-granite.gguf"),
        ("phi3", "family-phi3.gguf"),
        ("phi3-long", "family-phi3-long.gguf"),
        ("gemma2", "family-gemma2.gguf"),
        ("gemma3", "family-gemma3.gguf"),
        ("mixtral", "family-mixtral.gguf"),
        ("qwen3-moe", "family-qwen3-moe.gguf"),
        ("stablelm", "family-stablelm.gguf"),
        ("gpt-neox", "family-gpt-neox.gguf"),
        ("gpt-neox-serial", "family-gpt-neox-serial.gguf"),
        ("gpt2", "family-gpt2.gguf"),
    ] {
        let reference = json(&format!("formats/family-{name}.json"));
        let mut engine = open(cpu().open(), &path(file), packing(16, 64), 1);
        assert_logits(&mut engine, &reference, 1e-5, name);
    }
}

/// What the metadata says, as any model's files would.
#[test]
fn configuration_and_tokenizer_come_from_the_file() {
    let source = locate(&path("gguf-native.gguf")).unwrap();
    let config = Config::open(&source.directory).unwrap();
    assert_eq!((config.architecture.as_str(), config.vocab_size), ("LlamaForCausalLM", 131));
    assert_eq!((config.num_attention_heads, config.num_key_value_heads, config.head_dim), (4, 2, 64));
    assert_eq!((config.norm_eps, config.rope.rope_theta), (1e-5, 10_000.0));
    assert_eq!((config.bos_token_id, &config.eos_token_ids[..]), (Some(1), &[2][..]));
    assert!(!config.tie_word_embeddings);
    let tokenizer = Tokenizer::open(&source.directory, config.vocab_size).unwrap();
    // The same vocabulary, as transformers reads it.
    let reference = &json("tiny/llama/reference.json")["tokenizer"];
    let text = reference["text"].as_str().unwrap();
    assert_eq!(tokenizer.encode(text, false).unwrap(), ids(&reference["ids"]));
    assert_eq!(tokenizer.encode(text, true).unwrap(), ids(&reference["ids_with_special"]));
    assert_eq!(tokenizer.bos(), Some(1));
    let checkpoint = Checkpoint::of(&source).unwrap();
    assert!(checkpoint.has_codes());
    assert_eq!(checkpoint.get("model.layers.1.mlp.up_proj.weight").unwrap().encoding.to_string(), "Q4_0");
}

/// SentencePiece's BPE, which has scores and no merges, cuts texts as the library does.
#[test]
fn a_sentence_piece_vocabulary_cuts_texts_as_its_library_does() {
    let reference = json("formats/sentencepiece.json");
    let source = locate(&path("sentencepiece.gguf")).unwrap();
    let config = Config::open(&source.directory).unwrap();
    let tokenizer = Tokenizer::open(&source.directory, config.vocab_size).unwrap();
    for entry in reference["texts"].as_array().unwrap() {
        let text = entry["text"].as_str().unwrap();
        let expected = ids(&entry["ids"]);
        assert_eq!(tokenizer.encode(text, false).unwrap(), expected, "{text:?}");
        assert_eq!(tokenizer.decode(&expected).unwrap(), text);
        let bos = reference["bos"].as_u64().unwrap() as u32;
        assert_eq!(tokenizer.encode(text, true).unwrap(), [&[bos], &expected[..]].concat(), "{text:?}");
    }
}

/// A file's header, put together.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn new(version: u32, tensors: u64, keys: u64) -> Self {
        Writer(b"GGUF".to_vec()).u32(version).u64(tensors).u64(keys)
    }

    fn u32(mut self, n: u32) -> Self {
        self.0.extend(n.to_le_bytes());
        self
    }

    fn u64(mut self, n: u64) -> Self {
        self.0.extend(n.to_le_bytes());
        self
    }

    fn text(self, text: &str) -> Self {
        let mut writer = self.u64(text.len() as u64);
        writer.0.extend(text.as_bytes());
        writer
    }

    /// A tensor of `kind`, dimensions as in the file.
    fn tensor(self, name: &str, dimensions: &[u64], kind: u32, offset: u64) -> Self {
        let writer = self.text(name).u32(dimensions.len() as u32);
        dimensions.iter().fold(writer, |writer, &n| writer.u64(n)).u32(kind).u64(offset)
    }

    fn data(mut self, n: usize) -> Self {
        let start = self.0.len().next_multiple_of(32);
        self.0.resize(start + n, 0);
        self
    }
}

#[test]
fn malformed_headers_are_refused_by_name() {
    let one = || Writer::new(3, 1, 0);
    for (writer, expected) in [
        (Writer(b"GGU".to_vec()), "wants 4 more bytes at 0, and 3 follow"),
        (Writer(b"GGML\x01\0\0\0".to_vec()), "starts with \"GGML\""),
        (Writer::new(1, 0, 0), "of GGUF version 1, expected 2 or 3"),
        (Writer::new(3u32.swap_bytes(), 0, 0), "for big-endian machines"),
        (Writer::new(3, u64::MAX, 0), "claims 18446744073709551615 tensors"),
        (Writer::new(3, 0, 1 << 40), "claims 1099511627776 keys"),
        (Writer::new(3, 0, 1), "wants 8 more bytes at 24"),
        (Writer::new(3, 0, 1).u64(u64::MAX), "a key claims 18446744073709551615 bytes"),
        (Writer::new(3, 0, 1).u64(1 << 15), "wants 32768 more bytes"),
        (Writer::new(3, 0, 1).text("k").u32(13), "its key \"k\" has type 13"),
        (Writer::new(3, 0, 1).text("k").u32(8).u64(1 << 40), "a text of the metadata claims"),
        (Writer::new(3, 0, 1).text("k").u32(9).u32(9).u64(1), "is a list of type 9"),
        (Writer::new(3, 0, 1).text("k").u32(9).u32(4).u64(u64::MAX), "claims 18446744073709551615 elements"),
        (Writer::new(3, 0, 1).text("k").u32(9).u32(4).u64(1 << 20), "wants 4 more bytes"),
        (Writer::new(3, 0, 2).text("k").u32(4).u32(1).text("k").u32(4).u32(1), "has the key \"k\" twice"),
        (Writer::new(3, 0, 1).text("general.alignment").u32(4).u32(0), "general.alignment is Integer(0)"),
        (Writer::new(3, 0, 1).text("general.alignment").u32(4).u32(24), "expected a power of 2 from 8"),
        (one().text("t").u32(5), "has 5 dimensions"),
        (one().tensor("t", &[32, 1], 99, 0).data(0), "is of ggml type 99"),
        (one().tensor("t", &[33, 2], 2, 0).data(64), "has shape [2, 33], which Q4_0 cannot have"),
        (one().tensor("t", &[u64::MAX, 2], 0, 0).data(0), "which F32 cannot have"),
        (one().tensor("t", &[1 << 62, 4], 0, 0).data(0), "which F32 cannot have"),
        (one().tensor("t", &[1 << 61], 0, 0).data(0), "which F32 cannot have"),
        (one().tensor("t", &[8], 0, 0).data(31), "is it cut short?"),
        (one().tensor("t", &[8], 0, u64::MAX - 31).data(32), "beyond any file"),
        (one().tensor("t", &[8], 0, 8).data(64), "starts at 8, expected a multiple of 32"),
        (one().tensor("t", &[8], 0, 1 << 40).data(64), "is it cut short?"),
        (
            Writer::new(3, 2, 0).tensor("a", &[16], 0, 0).tensor("b", &[8], 0, 32).data(96),
            "inside of the tensor before it",
        ),
        (
            Writer::new(3, 2, 0).tensor("a", &[8], 0, 0).tensor("a", &[8], 0, 32).data(64),
            "the tensor \"a\" twice",
        ),
    ] {
        let error = gguf::parse(&writer.0, writer.0.len() as u64).expect_err(expected);
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    }
    let whole = Writer::new(2, 1, 0).tensor("t", &[4, 2], 0, 0).data(32);
    let header = gguf::parse(&whole.0, whole.0.len() as u64).unwrap();
    assert_eq!((header.tensors[0].shape.as_slice(), header.tensors[0].bytes.len()), (&[2, 4][..], 32));
}

/// Every beginning of a small file, among them one of 37 bytes: a header of which each count is believed only as far as
/// there are bytes.
#[test]
fn every_beginning_of_a_file_is_refused() {
    let whole = Writer::new(3, 1, 2)
        .text("general.alignment")
        .u32(4)
        .u32(64)
        .text("k")
        .u32(9)
        .u32(8)
        .u64(1)
        .text("v");
    let whole = whole.tensor("t", &[32, 2], 2, 0);
    let size = whole.0.len().next_multiple_of(64) + 36;
    let mut bytes = whole.0;
    bytes.resize(size, 0);
    gguf::parse(&bytes, size as u64).unwrap();
    for cut in 0..size {
        let error = gguf::parse(&bytes[..cut], cut as u64).expect_err("a file that is cut short");
        assert!(error.contains("cut short"), "{cut} bytes: {error}");
    }
    // 37 bytes that claim a key of type list and stop in its count.
    let short = Writer::new(3, 1, 1).text("a").u32(9);
    assert_eq!(short.0.len(), 37);
    assert!(gguf::parse(&short.0, 37).unwrap_err().contains("wants 4 more bytes at 37, and 0 follow"));
}

/// Tokens that look like bytes and are none.
#[test]
fn texts_of_byte_tokens_are_not_trusted() {
    let whole = std::fs::read(path("sentencepiece.gguf")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    for other in ["<0x-1>", "<0x+1>", "<0x  >", "<0xGG>", "<0x\u{e9}>", "<0x0\0>", "\u{2581}\u{2581}"] {
        let mut bytes = whole.clone();
        let at = bytes.windows(6).position(|w| w == b"<0x0A>").unwrap();
        bytes[at..at + 6].copy_from_slice(other.as_bytes());
        let file = directory.path().join("m.gguf");
        std::fs::write(&file, bytes).unwrap();
        let source = locate(file.to_str().unwrap()).unwrap();
        let config = Config::open(&source.directory).unwrap();
        let tokenizer = Tokenizer::open(&source.directory, config.vocab_size).unwrap();
        let ids = tokenizer.encode("a\nb \u{2603} na\u{ef}ve", true).unwrap();
        assert!(ids.iter().all(|&id| (id as usize) < config.vocab_size));
        for id in 0..config.vocab_size as u32 {
            assert!(tokenizer.decode(&[id]).is_ok(), "{other:?}: token {id}");
        }
    }
}

/// What is wrong with a file that is well formed.
#[test]
fn files_of_no_model_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |name: &str, bytes: &[u8], expected: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = locate(path.to_str().unwrap()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    };
    refused("a.gguf", b"GGUF", "wants 4 more bytes");
    refused("b.gguf", &Writer::new(3, 0, 0).0, "has no key tokenizer.ggml.tokens");
    let whole = std::fs::read(path("gguf-native.gguf")).unwrap();
    let changed = |from: &str, to: &str| {
        let at = whole.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
        let mut bytes = whole.clone();
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    refused(
        "c.gguf",
        &changed("\u{5}\0\0\0\0\0\0\0llama", "\u{5}\0\0\0\0\0\0\0llamb"),
        "general.architecture is \"llamb\"",
    );
    refused("d.gguf", &changed("smollm", "smallm"), "tokenizer.ggml.pre is \"smallm\"");
    refused("e.gguf", &changed("token_embd.weight", "token_embe.weight"), "no tensor \"token_embd.weight\"");
    refused("f.gguf", &changed("llama.block_count", "llama.bluck_count"), "has no key llama.block_count");
    refused("g.gguf", &whole[..whole.len() - 64], "is it cut short?");
    refused(
        "h-00002-of-00003.gguf",
        &whole,
        "is file 2 of 3 of a model, expected the first, h-00001-of-00003.gguf",
    );
    refused("i-00001-of-00002.gguf", &whole, "there is no such file");
}

/// A tensor of all experts has three dimensions, and no more experts than any model.
#[test]
fn tensors_of_experts_are_what_they_should_be() {
    let directory = tempfile::tempdir().unwrap();
    for (dimensions, size) in
        [(&[8u64, 4][..], 128), (&[8, 4, 0], 0), (&[0, 0, 1 << 40], 0), (&[1, 1, 1025], 4100)]
    {
        let text = |w: Writer, key: &str, value: &str| w.text(key).u32(8).text(value);
        let number = |w: Writer, key: &str, n: u32| w.text(key).u32(4).u32(n);
        let writer = text(Writer::new(3, 1, 4), "general.architecture", "llama");
        let writer = number(writer, "llama.expert_count", 4);
        let writer = number(number(writer, "llama.embedding_length", 8), "llama.attention.head_count", 1);
        let file = directory.path().join("m.gguf");
        std::fs::write(&file, writer.tensor("blk.0.ffn_up_exps.weight", dimensions, 0, 0).data(size).0)
            .unwrap();
        let error = Checkpoint::open(&file).expect_err("no experts").to_string();
        assert!(error.contains("expected [experts, rows, columns] of 1 to 1024 experts"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever is changed in a file, reading it ends in a model or in an error.
    #[test]
    fn a_changed_file_never_panics(changes in prop::collection::vec((0usize..6000, any::<u8>()), 1..6), cut in 0usize..9000) {
        let mut bytes = std::fs::read(path("gguf-native.gguf")).unwrap();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        if cut < 6000 {
            bytes.truncate(cut);
        }
        if let Ok(header) = gguf::parse(&bytes, bytes.len() as u64) {
            for info in &header.tensors {
                prop_assert!(info.bytes.end <= bytes.len());
                let cols = info.shape.last().copied().unwrap_or(1);
                prop_assert_eq!(info.encoding.bytes(info.elements, cols), Some(info.bytes.len()));
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("m.gguf");
        std::fs::write(&file, &bytes).unwrap();
        if let Ok(source) = locate(file.to_str().unwrap())
            && let Ok(config) = Config::open(&source.directory)
        {
            let _ = Tokenizer::open(&source.directory, config.vocab_size);
            let _ = Checkpoint::open(&source.weights);
        }
    }
}
