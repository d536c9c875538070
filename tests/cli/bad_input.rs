//! Whatever is wrong is said in one line, with the right exit code.

use super::run::{Model, llama, run, run_with};
use serde_json::{Value, json};

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
        (&["--activations", "q4", "x"], 2, "possible values: f32, q8"),
        (
            &["--activations", "q8", "-b", "16", "x"],
            2,
            "is for weights that are integer codes; these are f16",
        ),
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
    let bench = ["bench", "-d", "cpu", "-m", model.as_str(), "-b", "4,16", "--activations", "q8"];
    run(&bench).failed(2, "these are f16", "bench");
    run(&["ab", "--activations", "q8"]).failed(2, "--activations", "ab");
    run(&["sweep", "--activations", "q8"]).failed(2, "--activations", "sweep");
    for (args, code, text) in [
        (&["-m", absent.as_str(), "x"][..], 1, "there is no such file or directory"),
        (&["-m", dir, "x"], 1, "no model.safetensors"),
        (&["-m", file.as_str(), "x"], 1, "expected a .safetensors or .gguf file"),
        (&["-m", model.as_str(), "-d", "no such device", "x"], 2, "or \"cpu\""),
        (&["-d", "no such device", "devices"], 2, "or \"cpu\""),
        (&["-m", model.as_str(), "devices"], 2, "devices has no such option"),
        (&["-m", model.as_str(), "inspect"], 2, "after the command: infer inspect MODEL"),
        (&["--seed", "3", "tasks", "generate", "--task", "all"], 2, "infer tasks generate --seed …"),
        (&["--seed", "3", "tasks", "list"], 2, "tasks has no such option"),
        (&["--max-tokens", "3", "bench"], 2, "bench has no such option"),
        (&["-m", model.as_str(), "perplexity", "--file", file.as_str()], 2, "infer perplexity --model"),
        (&["perplexity", "-m", model.as_str()], 2, "--file"),
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
