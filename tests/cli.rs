//! The real binary, as a user calls it: what it prints where, its exit codes, and what it says of bad input.

mod common;

use common::{assert_greedy, ids, json, numbers};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// How a run ended.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self
    }

    fn json(self) -> Value {
        let ran = self.ok();
        serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {}", ran.out))
    }

    /// Failed with this code and one line that says this.
    fn failed(&self, code: i32, text: &str, what: &str) {
        let err = &self.err;
        assert_eq!(self.code, Some(code), "{what}: {err}");
        assert!(err.starts_with("error: ") && err.contains(text), "{what}: {err:?}, expected {text:?}");
        assert!(!err.contains("panicked") && !err.contains("a bug"), "{what}: {err}");
        // The parser of options shows the usage too.
        assert!(err.lines().count() == 1 || err.contains("try '--help'"), "{what}: {err}");
        assert_eq!(self.out, "", "{what}");
    }
}

fn command(args: &[&str], env: &[(&str, &str)]) -> Command {
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

fn run_with(args: &[&str], env: &[(&str, &str)], input: &[u8]) -> Ran {
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

fn run(args: &[&str]) -> Ran {
    run_with(args, &[], b"")
}

fn tiny(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny").join(name)
}

fn llama() -> String {
    tiny("llama").to_str().unwrap().to_owned()
}

/// A copy of a tiny model that may be changed.
struct Model(TempDir);

impl Model {
    fn copy(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(tiny(name)).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
        Model(dir)
    }

    fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.file(name), text).unwrap();
    }

    /// Sets a field of a JSON file.
    fn set(&self, name: &str, field: &str, value: Value) {
        let mut object: Value = serde_json::from_slice(&std::fs::read(self.file(name)).unwrap()).unwrap();
        object[field] = value;
        self.write(name, &object.to_string());
    }

    fn template(&self, source: &str) {
        self.set("tokenizer_config.json", "chat_template", json!(source));
    }

    /// Changes the bytes of the weights' file.
    fn weights(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.file("model.safetensors");
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    }

    /// Replaces text of the weights' header by as much text.
    fn header(&self, from: &str, to: &str) {
        assert_eq!(from.len(), to.len());
        self.weights(|bytes| {
            let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        });
    }

    /// A tokenizer with which any tokens can be written, as "t17 t4".
    fn spell_tokens(&self) {
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
    fn endless() -> Self {
        let model = Model::copy("llama");
        model.set("config.json", "max_position_embeddings", json!(100_000));
        model.set("config.json", "eos_token_id", Value::Null);
        model.set("tokenizer_config.json", "eos_token", Value::Null);
        model
    }
}

fn spelled(ids: &[u32]) -> String {
    let words: Vec<String> = ids.iter().map(|id| format!("t{id}")).collect();
    words.join(" ")
}

#[test]
fn every_model_equals_its_reference() {
    for name in ["llama", "llama-gqa-llama3", "llama-linear-bias", "mistral", "sharded"] {
        let reference = json(&format!("tiny/{name}/reference.json"));
        let model = Model::copy(name);
        model.spell_tokens();
        let text = spelled(&ids(&reference["ids"]));
        let common = ["-m", model.path(), "-d", "cpu", "-b", "16", "--json"];

        model.write("text.txt", &text);
        let file = model.file("text.txt");
        let found = run(&[&["perplexity", "--file", file.to_str().unwrap()], &common[..]].concat()).json();
        let (nll, expected) = (found["mean_nll"].as_f64().unwrap(), reference["mean_nll"].as_f64().unwrap());
        assert!((nll - expected).abs() < 5e-3, "{name}: {nll}, expected {expected}");
        assert!((found["ppl"].as_f64().unwrap() - nll.exp()).abs() < 1e-6 * nll.exp());
        assert_eq!(found["tokens"], json!(ids(&reference["ids"]).len() - 1));
        assert_eq!((&found["format"], &found["device"]), (&json!("f16"), &json!("cpu")));

        let expected = ids(&reference["greedy_ids"]);
        let count = expected.len().to_string();
        let found = run(&[&["--temp", "0", "-n", &count, &text], &common[..]].concat()).json();
        assert_eq!(found["prompt_tokens"], reference["ids"]);
        assert_greedy(&ids(&found["tokens"]), &expected, &numbers(&reference["margins"]), name);
    }
}

#[test]
fn a_text_goes_to_standard_output_and_figures_to_standard_error() {
    let model = llama();
    let args = ["-m", &model, "-d", "cpu", "-n", "30", "-s", "3", "The other thing"];
    let plain = run(&args).ok();
    assert!(plain.out.ends_with('\n'));
    assert_eq!(plain.err.lines().count(), 1, "{}", plain.err);
    for figure in ["[30 tokens", "prompt 10 tokens", "tok/s", "first token", "weights", "KV", "peak"] {
        assert!(plain.err.contains(figure), "{figure}: {}", plain.err);
    }
    let quiet = run(&[&args[..], &["-q"]].concat()).ok();
    assert_eq!((&quiet.out, quiet.err.as_str()), (&plain.out, ""));
    let verbose = run(&[&args[..], &["-v"]].concat()).ok();
    for said in ["seed: 3", "device: cpu", "weights: q4/32"] {
        assert!(verbose.err.contains(said), "{said}: {}", verbose.err);
    }

    let found = run(&[&args[..], &["--json"]].concat()).json();
    assert_eq!(found["text"].as_str().unwrap().trim_end_matches('\n'), plain.out.trim_end_matches('\n'));
    let keys: Vec<&String> = found.as_object().unwrap().keys().collect();
    let expected =
        "model format embed_format device backend seed prompt_tokens tokens text stop timings memory";
    assert_eq!(keys, expected.split(' ').collect::<Vec<_>>());
    assert_eq!(ids(&found["tokens"]).len(), 30);
    assert_eq!(found["stop"], "length");
    assert_eq!(found["model"], json!(model));
    for (object, fields) in [
        ("timings", "load_s first_token_s prompt_tokens_per_s decode_tokens_per_s"),
        ("memory", "weight_bytes kv_bytes peak_bytes"),
    ] {
        for field in fields.split(' ') {
            assert!(found[object][field].as_f64().unwrap() > 0.0, "{object}.{field}: {}", found[object]);
        }
    }
    // One token comes with the prompt: there is no rate of those after it.
    let one = run(&["-m", &model, "-d", "cpu", "-n", "1", "--json", "x"]).json();
    assert_eq!(one["timings"]["decode_tokens_per_s"], Value::Null);
}

#[test]
fn a_seed_decides_the_text() {
    let model = llama();
    let text = |args: &[&str]| {
        let common = ["-m", &model, "-d", "cpu", "-n", "20", "-q", "The other"];
        run(&[&common[..], args].concat()).ok().out
    };
    assert_eq!(text(&["-s", "3"]), text(&["-s", "3"]));
    assert_ne!(text(&["-s", "3"]), text(&["-s", "4"]));
    assert_eq!(text(&["-s", "3", "--temp", "0"]), text(&["-s", "4", "--temp", "0"]));
    // Two seeds drawn at random are not the same, nor, with tokens this undecided, their texts.
    assert_ne!(text(&["--temp", "5"]), text(&["--temp", "5"]));
}

#[test]
fn a_prompt_may_come_from_standard_input() {
    let model = llama();
    let common = ["-m", &model, "-d", "cpu", "-n", "5", "--json"];
    let tokens = |args: &[&str], input: &str| {
        run_with(&[&common[..], args].concat(), &[], input.as_bytes()).json()["prompt_tokens"].clone()
    };
    let expected = tokens(&["one\nof é"], "");
    for input in ["one\nof é", "one\nof é\n", "one\nof é\r\n"] {
        assert_eq!(tokens(&[], input), expected, "{input:?}");
        assert_eq!(tokens(&["-"], input), expected, "{input:?}");
    }
    assert_ne!(tokens(&[], "one\nof é\n\n"), expected);
}

#[test]
fn a_stop_string_ends_the_text_before_it() {
    let model = llama();
    let args = ["-m", &model, "-d", "cpu", "-n", "40", "-s", "3", "--json", "The other thing"];
    let whole = run(&args).json()["text"].as_str().unwrap().to_owned();
    let stop = &whole[8..10];
    let found = run(&[&args[..], &["--stop", "never", "--stop", stop]].concat()).json();
    assert_eq!(found["text"], whole[..whole.find(stop).unwrap()]);
    assert_eq!(found["stop"], "stop");
    let plain =
        run(&["-m", &model, "-d", "cpu", "-n", "40", "-s", "3", "The other thing", "--stop", stop]).ok();
    assert_eq!(plain.out.trim_end_matches('\n'), whole[..whole.find(stop).unwrap()].trim_end_matches('\n'));
}

#[test]
fn a_chat_template_is_used_unless_told_otherwise() {
    let model = Model::copy("llama");
    model.template(
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[a]{% endif %}",
    );
    let prompt = |args: &[&str]| {
        let common = ["-m", model.path(), "-d", "cpu", "-n", "2", "--json"];
        ids(&run(&[&common[..], args].concat()).json()["prompt_tokens"])
    };
    let raw = prompt(&["--raw", "[user]one[a]"]);
    assert_eq!(raw[0], 1, "a plain text begins with the token that begins texts");
    assert_eq!(prompt(&["one"]), raw[1..]);
    let raw = prompt(&["--raw", "[system]all[user]one[a]"]);
    assert_eq!(prompt(&["--system", "all", "one"]), raw[1..]);
}

#[test]
fn the_environment_is_asked_after_the_command_line() {
    let model = llama();
    let env = [
        ("INFER_MODEL", model.as_str()),
        ("INFER_BITS", "8"),
        ("INFER_GROUP", "64"),
        ("INFER_EMBED_BITS", "16"),
        ("INFER_DEVICE", "cpu"),
        ("INFER_MAX_TOKENS", "7"),
        ("INFER_TEMP", "0"),
        ("INFER_SEED", "11"),
        ("INFER_CTX", "100"),
    ];
    let found = run_with(&["--json", "x"], &env, b"").json();
    for (field, value) in [
        ("format", json!("q8/64")),
        ("embed_format", json!("f16")),
        ("seed", json!(11)),
        ("device", json!("cpu")),
    ] {
        assert_eq!(found[field], value, "{field}");
    }
    assert_eq!(ids(&found["tokens"]).len(), 7);
    let found =
        run_with(&["--json", "-b", "4", "--group", "128", "-n", "3", "-s", "12", "x"], &env, b"").json();
    assert_eq!((&found["format"], &found["seed"]), (&json!("q4/128"), &json!(12)));
    assert_eq!(ids(&found["tokens"]).len(), 3);
    run_with(&["-m", "nowhere", "x"], &env, b"").failed(1, "nowhere", "a flag wins");
    run_with(&["x"], &[env[0], ("INFER_BITS", "5")], b"").failed(2, "'5'", "a bad value in the environment");
}

#[test]
fn help_teaches() {
    for (args, texts) in [
        (
            &["--help"][..],
            &["Examples:", "perplexity", "devices", "INFER_MODEL", "--repeat-penalty", "default: 4"][..],
        ),
        (&["-h"], &["Examples:", "--bits"]),
        (&["devices", "--help"], &["--check", "Examples:", "INFER_DEVICE"]),
        (&["perplexity", "--help"], &["--file", "Examples:", "window"]),
        (&["--version"], &["infer "]),
    ] {
        let ran = run_with(args, &[("INFER_MODEL", "a-secret-path")], b"").ok();
        for text in texts {
            assert!(ran.out.contains(text), "{args:?} lacks {text:?}: {}", ran.out);
        }
        assert!(!ran.out.contains("a-secret-path"), "{}", ran.out);
        assert_eq!(ran.err, "");
    }
}

#[test]
fn devices_are_listed_and_checked() {
    let list = run(&["devices", "--json"]).json();
    let last = list.as_array().unwrap().last().unwrap();
    assert_eq!(last["device"], "cpu");
    for device in list.as_array().unwrap() {
        for field in ["device", "backend", "driver", "f16", "subgroups", "max_binding", "max_buffer"] {
            assert!(device.get(field).is_some(), "{field}: {device}");
        }
    }
    let checked = run(&["-d", "cpu", "devices", "--check", "--json"]).json();
    let checks = checked[0]["checks"].as_array().unwrap();
    assert!(checks.len() > 50 && checks.iter().all(|c| c["problem"].is_null()), "{checked}");
    let text = run(&["devices", "-d", "cpu", "--check"]).ok().out;
    assert!(text.contains("cpu") && text.contains("limits:") && text.contains("are right"), "{text}");
}

#[test]
fn tensors_that_nobody_reads_are_told() {
    let model = Model::copy("llama");
    model.set("config.json", "num_hidden_layers", json!(1));
    let args = ["-m", model.path(), "-d", "cpu", "-n", "2", "x"];
    let ran = run(&args).ok();
    assert!(ran.err.contains("note: the model has no use for 9 of the checkpoint's tensors"), "{}", ran.err);
    assert!(ran.err.contains("model.layers.1") && ran.err.contains('…'), "{}", ran.err);
    assert_eq!(run(&[&args[..], &["-q"]].concat()).ok().err, "");
}

#[test]
fn bad_options_and_inputs_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (empty, latin, file) = (path("empty", b""), path("latin", b"caf\xe9"), path("file", b"text"));
    let dir = dir.path().to_str().unwrap();
    let model = llama();
    let long = "word ".repeat(300);
    let absent = format!("{dir}/absent");
    let m = ["-d", "cpu", "-m", model.as_str()];
    let generate = |args: &[&str]| run(&[&m[..], args].concat());
    for (args, code, text) in [
        (&["--bits", "5", "x"][..], 2, "possible values: 16, 8, 4"),
        (&["--group", "48", "x"], 2, "possible values: 32, 64, 128"),
        (&["--embed-bits", "2", "x"], 2, "possible values: 16, 8, 4"),
        (&["--temp", "-1", "x"], 2, "temperature is -1, expected 0 to 1000"),
        (&["--temp", "nan", "x"], 2, "temperature is NaN"),
        (&["--top-p", "1.5", "x"], 2, "top-p is 1.5, expected 0 to 1"),
        (&["--min-p", "-0.5", "x"], 2, "min-p"),
        (&["--repeat-penalty", "0", "x"], 2, "repeat penalty"),
        (&["--top-k", "x", "x"], 2, "--top-k"),
        (&["-n", "0", "x"], 2, "expected at least 1"),
        (&["--seed", "many", "x"], 2, "--seed"),
        (&["--ctx", "1", "x"], 2, "--ctx is 1, the model allows 2 to 256"),
        (&["--ctx", "257", "x"], 2, "--ctx is 257, the model allows 2 to 256"),
        (&["--ctx", "4", "one two three"], 2, "the context 4: shorten it or raise --ctx"),
        (&[long.as_str()], 2, "the context 256"),
        (&[""], 2, "the prompt is empty"),
        (&[], 2, "the prompt is empty: nothing came on standard input"),
        (&["--system", "s", "x"], 2, "--system needs a chat template"),
        (&["--system", "s", "--raw", "x"], 2, "--raw"),
        (&["-q", "-v", "x"], 2, "cannot be used with"),
        (&["x", "devices"], 2, "\"devices\" is a command"),
        (&["--no-such-option", "x"], 2, "--no-such-option"),
        (&["one", "two"], 2, "two"),
    ] {
        generate(args).failed(code, text, &format!("{args:?}"));
    }
    for (args, code, text) in [
        (&["x"][..], 2, "no model"),
        (&["-m", absent.as_str(), "x"], 1, "there is no such file or directory"),
        (&["-m", dir, "x"], 1, "no model.safetensors"),
        (&["-m", file.as_str(), "x"], 1, "expected a .safetensors file"),
        (&["-m", model.as_str(), "-d", "no such device", "x"], 2, "or \"cpu\""),
        (&["-d", "no such device", "devices"], 2, "or \"cpu\""),
        (&["-m", model.as_str(), "devices"], 2, "devices has no such option"),
        (&["-m", model.as_str(), "perplexity", "--file", file.as_str()], 2, "infer perplexity --model"),
        (&["perplexity", "-m", model.as_str()], 2, "--file"),
        (&["perplexity", "--file", file.as_str()], 2, "no model"),
        (&["perplexity", "-m", model.as_str(), "--file", absent.as_str()], 1, "absent"),
        (&["perplexity", "-m", model.as_str(), "--file", dir], 1, dir),
        (&["perplexity", "-m", model.as_str(), "--file", latin.as_str()], 1, "is not UTF-8 text: byte 3"),
        (
            &["perplexity", "-m", model.as_str(), "--file", empty.as_str()],
            1,
            "has 1 tokens, expected at least 2",
        ),
        (&["perplexity", "-m", model.as_str(), "--file", file.as_str(), "--ctx", "300"], 2, "--ctx is 300"),
        (&["perplexity", "-m", model.as_str(), "--file", file.as_str(), "-n", "0"], 2, "expected at least 1"),
    ] {
        run(args).failed(code, text, &format!("{args:?}"));
    }
    run_with(&m, &[], b"caf\xe9\n").failed(2, "is not UTF-8 text: byte 3", "standard input");
    // A cache below a file cannot be made, whoever asks.
    let cache = [("HF_HUB_CACHE", file.as_str())];
    run_with(&["-m", "owner/name", "x"], &cache, b"").failed(1, "cannot write to the cache", "hub cache");
    let offline = [("HF_HUB_CACHE", dir), ("HF_HUB_OFFLINE", "1")];
    run_with(&["-m", "owner/name", "x"], &offline, b"").failed(1, "HF_HUB_OFFLINE", "offline");
}

#[test]
fn bad_models_are_refused() {
    type Damage = fn(&Model);
    let cases: &[(&str, Damage, &str)] = &[
        ("no config", |m| std::fs::remove_file(m.file("config.json")).unwrap(), "no config.json"),
        (
            "no weights",
            |m| std::fs::remove_file(m.file("model.safetensors")).unwrap(),
            "no model.safetensors",
        ),
        (
            "no tokenizer",
            |m| std::fs::remove_file(m.file("tokenizer.json")).unwrap(),
            "has no tokenizer.json",
        ),
        ("config is text", |m| m.write("config.json", "hello"), "is not a JSON object"),
        (
            "config lacks a size",
            |m| m.set("config.json", "hidden_size", Value::Null),
            "hidden_size is missing",
        ),
        (
            "architecture",
            |m| m.set("config.json", "architectures", json!(["OtherLM"])),
            "\"OtherLM\" is not supported",
        ),
        ("cut short", |m| m.weights(|b| b.truncate(b.len() - 100)), "cut short"),
        ("cut in the header", |m| m.weights(|b| b.truncate(100)), "cut short"),
        ("empty", |m| m.weights(Vec::clear), "is 0 bytes long"),
        ("header's length", |m| m.weights(|b| b[..8].fill(0xff)), "its header claims"),
        ("header", |m| m.weights(|b| b[9] = b'!'), "header is not that of a safetensors file"),
        ("dtype", |m| m.header("\"F32\"", "\"I32\""), "is stored as I32"),
        ("shape", |m| m.set("config.json", "intermediate_size", json!(96)), "has shape [88, 48]"),
        (
            "missing tensor",
            |m| m.header("model.norm.weight", "model.form.weight"),
            "\"model.norm.weight\": is not among",
        ),
        (
            "not finite",
            |m| {
                m.weights(|b| {
                    let n = b.len();
                    b[n - 4..].fill(0xff)
                })
            },
            "expected finite numbers",
        ),
        (
            "vocabulary",
            |m| m.set("config.json", "vocab_size", json!(100)),
            "does not fit the model's vocabulary",
        ),
        ("tokenizer", |m| m.write("tokenizer.json", "{}"), "is not a tokenizer that can be read"),
        ("tokenizer config", |m| m.write("tokenizer_config.json", "["), "is not JSON"),
        (
            "template refuses",
            |m| m.template("{{ raise_exception('not\\nso') }}"),
            "refused the conversation: not so",
        ),
        ("template is wrong", |m| m.template("{% if %}"), "the chat template is not valid"),
        (
            "template loops",
            |m| m.template("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"),
            "does not end",
        ),
        (
            "template grows",
            |m| {
                m.template("{% set s = namespace(t='xxxxxxxx') %}{% for a in range(99) %}{% set s.t = s.t ~ s.t %}{{ s.t }}{% endfor %}")
            },
            "writes more than",
        ),
        (
            "template recurses",
            |m| m.template("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
            "the chat template failed",
        ),
    ];
    for (name, damage, text) in cases {
        let model = Model::copy("llama");
        damage(&model);
        run(&["-m", model.path(), "-d", "cpu", "-n", "3", "The other"]).failed(1, text, name);
    }
}

/// Starts a text that takes long, and waits for its first byte.
fn started(model: &Model, args: &[&str]) -> Child {
    let common = ["-m", model.path(), "-d", "cpu", "--ctx", "100000", "The other"];
    let mut child = command(&[&common[..], args].concat(), &[]).spawn().unwrap();
    drop(child.stdin.take());
    let mut byte = [0];
    child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
    child
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let model = Model::endless();
    let mut child = started(&model, &[]);
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_the_text_and_not_the_program() {
    let model = Model::endless();
    let mut child = started(&model, &[]);
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{err}");
    assert!(text.ends_with('\n'), "{text:?}");
    assert!(err.starts_with('[') && err.lines().count() == 1, "{err}");
    let tokens: usize = err[1..].split(' ').next().unwrap().parse().unwrap();
    assert!((1..90_000).contains(&tokens), "{err}");
}
