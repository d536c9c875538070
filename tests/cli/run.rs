//! Runs the binary, on copies of the tiny models.

use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// How a run ended.
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self
    }

    pub fn json(self) -> Value {
        let ran = self.ok();
        serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {}", ran.out))
    }

    /// Failed with this code and one line that says this.
    pub fn failed(&self, code: i32, text: &str, what: &str) {
        let err = &self.err;
        assert_eq!(self.code, Some(code), "{what}: {err}");
        assert!(err.starts_with("error: ") && err.contains(text), "{what}: {err:?}, expected {text:?}");
        assert!(!err.contains("panicked") && !err.contains("a bug"), "{what}: {err}");
        // The parser of options shows the usage too.
        assert!(err.lines().count() == 1 || err.contains("try '--help'"), "{what}: {err}");
        assert_eq!(self.out, "", "{what}");
    }
}

pub fn command(args: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infer"));
    for (name, _) in std::env::vars_os() {
        if ["INFER_", "HF_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    // A Vulkan loader complains where there is none.
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        command.env("XDG_RUNTIME_DIR", std::env::temp_dir());
    }
    // No test asks a hub.
    command.env("HF_ENDPOINT", "http://127.0.0.1:9").args(args).envs(env.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub fn run_with(args: &[&str], env: &[(&str, &str)], input: &[u8]) -> Ran {
    let mut child = command(args, env).spawn().unwrap();
    // A program that needs no input may be gone before it is written.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

pub fn run(args: &[&str]) -> Ran {
    run_with(args, &[], b"")
}

pub fn tiny(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny").join(name)
}

pub fn llama() -> String {
    tiny("llama").to_str().unwrap().to_owned()
}

/// A copy of a tiny model that may be changed.
pub struct Model(TempDir);

impl Model {
    pub fn copy(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(tiny(name)).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
        Model(dir)
    }

    pub fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.file(name), text).unwrap();
    }

    /// Sets a field of a JSON file.
    pub fn set(&self, name: &str, field: &str, value: Value) {
        let mut object: Value = serde_json::from_slice(&std::fs::read(self.file(name)).unwrap()).unwrap();
        object[field] = value;
        self.write(name, &object.to_string());
    }

    pub fn template(&self, source: &str) {
        self.set("tokenizer_config.json", "chat_template", json!(source));
    }

    /// Changes the bytes of the weights' file.
    pub fn weights(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.file("model.safetensors");
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    }

    /// Replaces text of the weights' header by as much text.
    pub fn header(&self, from: &str, to: &str) {
        assert_eq!(from.len(), to.len());
        self.weights(|bytes| {
            let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        });
    }

    /// A tokenizer with which any tokens can be written, as "t17 t4".
    pub fn spell_tokens(&self) {
        let config: Value =
            serde_json::from_slice(&std::fs::read(self.file("config.json")).unwrap()).unwrap();
        let vocab: serde_json::Map<_, _> =
            (0..config["vocab_size"].as_u64().unwrap()).map(|id| (format!("t{id}"), json!(id))).collect();
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "t0"},
        });
        self.write("tokenizer.json", &tokenizer.to_string());
        self.write("tokenizer_config.json", "{}");
    }

    /// A model that never ends a text and has room for one that takes long.
    pub fn endless() -> Self {
        let model = Model::copy("llama");
        model.set("config.json", "max_position_embeddings", json!(100_000));
        model.set("config.json", "eos_token_id", Value::Null);
        model.set("tokenizer_config.json", "eos_token", Value::Null);
        model
    }
}

pub fn spelled(ids: &[u32]) -> String {
    let words: Vec<String> = ids.iter().map(|id| format!("t{id}")).collect();
    words.join(" ")
}
