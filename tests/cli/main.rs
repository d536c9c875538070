//! The real binary, as a user calls it: what it prints where, its exit codes, and what it says of bad input.

mod ab;
mod bad_input;
mod bench;
#[path = "../common/mod.rs"]
mod common;
mod inspect;
mod quantize;
mod run;

use common::{assert_greedy, ids, json, numbers};
use run::{Model, command, llama, run, run_with, spelled};
use serde_json::{Value, json};
use std::io::Read;
use std::process::Child;

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

/// Activations in 8 bits: another number, near the usual one, in every format of integer codes, and never by themselves.
#[test]
fn activations_are_rounded_where_that_is_asked_for() {
    let model = Model::copy("llama");
    model.spell_tokens();
    let text = spelled(&ids(&json("tiny/llama/reference.json")["ids"]));
    model.write("text.txt", &text);
    let file = model.file("text.txt");
    let nll = |bits: &str, activations: &[&str]| {
        let args =
            ["perplexity", "--file", file.to_str().unwrap(), "-m", model.path(), "-d", "cpu", "--json"];
        let found = run(&[&args[..], &["-b", bits], activations].concat()).json();
        (found["mean_nll"].as_f64().unwrap(), found["activations"].clone())
    };
    for bits in ["4", "8"] {
        let (usual, named) = nll(bits, &[]);
        assert_eq!(named, "f32");
        let (rounded, named) = nll(bits, &["--activations", "q8"]);
        assert_eq!(named, "q8");
        assert!(rounded != usual && (rounded - usual).abs() < 0.02, "{bits} bits: {rounded}, {usual}");
    }
    let bench = ["bench", "-m", model.path(), "-d", "cpu", "-b", "4", "-p", "8", "-n", "0", "-r", "1"];
    let table = run(&[&bench[..], &["--activations", "q8"]].concat()).ok();
    assert!(table.out.contains("q4/32, activations q8"), "{}", table.out);
}

#[test]
fn a_text_goes_to_standard_output_and_figures_to_standard_error() {
    let model = llama();
    let args = ["-m", &model, "-d", "cpu", "-n", "30", "-s", "3", "The other thing"];
    let plain = run(&args).ok();
    assert!(plain.out.ends_with('\n'));
    assert_eq!(plain.err.lines().count(), 1, "{}", plain.err);
    for figure in ["[30 tokens", "prompt 10, ", "tok/s", "first token", "weights", "KV", "peak"] {
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
    let expected = "model format embed_format activations device backend seed prompt_tokens tokens text stop timings memory";
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

/// Whoever asked for more tokens than the context holds is told; whoever got as many as were asked for is not.
#[test]
fn a_text_that_the_context_cuts_is_told() {
    let model = llama();
    let err = |n: &str| {
        let args = ["-m", &model, "-d", "cpu", "--ctx", "20", "--temp", "0", "-n", n, "The other thing"];
        run(&args).ok().err
    };
    let cut = err("100");
    assert!(cut.starts_with("note: the context of 20 tokens is full") && cut.contains("[10 tokens"), "{cut}");
    for n in ["9", "10"] {
        assert!(err(n).starts_with(&format!("[{n} tokens")), "{}", err(n));
    }
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

/// What grows step by step is noticed in time, where the system tells how much memory a process has.
#[cfg(target_os = "linux")]
#[test]
fn a_chat_template_that_fills_memory_is_an_error() {
    let model = Model::copy("llama");
    model.template(
        "{% set ns = namespace(s='aaaaaaaaaaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    );
    run(&["-m", model.path(), "-d", "cpu", "-n", "2", "x"]).failed(
        1,
        "the chat template takes more than",
        "~",
    );
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

/// What cannot go together with something on the command line is not asked for, nor are options of no command where there
/// is one. Each case fails only at what comes after that.
#[test]
fn the_environment_does_not_stand_in_the_way() {
    let model = llama();
    for (args, env, code, says) in [
        (&["--no-tune", "-m", "nowhere", "x"][..], ("INFER_TUNE", "1"), 1, "nowhere"),
        (&["--tune", "-m", "nowhere", "x"], ("INFER_NO_TUNE", "1"), 1, "nowhere"),
        (&["perplexity", "--no-tune", "--file", "nowhere"], ("INFER_TUNE", "1"), 1, "nowhere"),
        (&["--no-tune", "perplexity", "--file", "nowhere"], ("INFER_TUNE", "1"), 1, "nowhere"),
        (&["bench", "--shape", "135m", "-p", "99999"], ("INFER_MODEL", "x"), 2, "the model allows"),
        (&["bench", "-m", &model, "-p", "0", "-n", "0"], ("INFER_BITS", "16,4"), 2, "nothing to measure"),
        (&["perplexity", "--file", "nowhere"], ("INFER_TEMP", "abc"), 1, "nowhere"),
        // What is said wrongly counts all the same where it is meant.
        (&["--tune", "--no-tune", "x"], ("INFER_TUNE", "1"), 2, "cannot be used with"),
        (&["perplexity", "--file", "nowhere"], ("INFER_BITS", "16,4"), 2, "16,4"),
    ] {
        run_with(args, &[env], b"").failed(code, says, &format!("{env:?} {args:?}"));
    }
    let raw = ["-m", &model, "-d", "cpu", "-n", "1", "--raw", "x"];
    run_with(&raw, &[("INFER_SYSTEM", "s")], b"").ok();
    run_with(&["tasks", "list"], &[("INFER_TEMP", "abc")], b"").ok();
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
        (&["perplexity", "--help"], &["--file", "Examples:", "window", "INFER_BITS"]),
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
fn interrupt(child: &Child) {
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.unwrap().success());
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_the_text_and_not_the_program() {
    let model = Model::endless();
    let mut child = started(&model, &[]);
    interrupt(&child);
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{err}");
    assert!(text.ends_with('\n'), "{text:?}");
    assert!(err.starts_with('[') && err.lines().count() == 1, "{err}");
    let tokens: usize = err[1..].split(' ').next().unwrap().parse().unwrap();
    assert!((1..90_000).contains(&tokens), "{err}");
}

/// What there is comes out whole, and says that there would have been more.
#[cfg(unix)]
#[test]
fn an_interrupted_answer_says_so() {
    use std::io::{BufRead, BufReader};
    let model = Model::endless();
    let args = ["-m", model.path(), "-d", "cpu", "--ctx", "100000", "--json", "-v", "The other"];
    let mut child = command(&args, &[]).spawn().unwrap();
    drop(child.stdin.take());
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("loaded in")));
    // From here to where Ctrl-C ends the text alone is no time; nothing tells of the first token.
    std::thread::sleep(std::time::Duration::from_secs(1));
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["stop"], "interrupted");
    assert!((1..90_000).contains(&ids(&found["tokens"]).len()));
}

#[test]
fn questions_are_lines_or_with_json_one_list() {
    let args = ["tasks", "generate", "--task", "all", "--steps", "1-2", "--n", "2"];
    let lines = run(&args).ok().out;
    let list = run(&[&args[..], &["--json"]].concat()).json();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() > 12, "{list}");
    assert_eq!(list, Value::Array(lines));
}
