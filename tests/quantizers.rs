//! Quantizers compared by what they do to a model's predictions: the table in `docs/quantizers.md`.
//!
//! The texts are questions of the test side with their worked answers, all tokens of which are predicted; calibration is on the
//! training side.

mod common;

use pollster::block_on;
use sixteen_states::checkpoint::{Checkpoint, locate};
use sixteen_states::engine::{Engine, OpenOptions, Text};
use sixteen_states::experiment::prompts::{Mode, Prompter, worked};
use sixteen_states::experiment::tasks::{Split, TASKS};
use sixteen_states::model::Weights;
use sixteen_states::text::Tokenizer;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `infer quantize` says of what it wrote.
fn quantize(model: &str, args: &[&str], out: &Path) -> serde_json::Value {
    let output = Command::new(env!("CARGO_BIN_EXE_infer"))
        .args(["quantize", "-m", model, "--json", "-o", out.to_str().unwrap()])
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Test questions, as the model knows them.
fn texts(tokenizer: &Tokenizer, each: usize) -> Vec<Text> {
    let prompter = Prompter::new(tokenizer, &[]).unwrap();
    let mut texts = Vec::new();
    for task in TASKS {
        for steps in task.steps.clone() {
            for question in task.generate(steps, each, 7, Split::Test).unwrap() {
                let text = prompter.text(&question, Mode::Thought).unwrap();
                let tokens = prompter.encode(&(text + &worked(&question, Mode::Thought) + "\n")).unwrap();
                texts.push(Text { tokens, from: 1 });
            }
        }
    }
    texts
}

/// Mean KL from 16-bit floats and perplexity of each of the written models, and of the floats themselves.
fn compared(model: &str, written: &[PathBuf], each: usize) -> Vec<(f64, f64)> {
    let source = locate(model).unwrap();
    let checkpoint = Checkpoint::of(&source).unwrap();
    let options =
        OpenOptions { weights: Weights::F16, context: Some(256), sequences: 4, progress: &mut |_| {} };
    let device = common::gpus().remove(0);
    let mut engine = Engine::open(&source, &checkpoint, device.open(false), options).unwrap();
    for path in written {
        let arm = Checkpoint::of(&locate(path.to_str().unwrap()).unwrap()).unwrap();
        engine.add_arm(&arm, &Weights { stored: true, ..Weights::F16 }, &mut |_| {}).unwrap();
    }
    let tokenizer = Tokenizer::open(&source.directory, engine.config().vocab_size).unwrap();
    let found = block_on(engine.compare(&texts(&tokenizer, each))).unwrap();
    let of_arm = |texts: &Vec<Vec<sixteen_states::engine::Divergence>>| {
        let all: Vec<_> = texts.iter().flatten().collect();
        let mean = |of: fn(&sixteen_states::engine::Divergence) -> f32| {
            all.iter().map(|d| f64::from(of(d))).sum::<f64>() / all.len() as f64
        };
        (mean(|d| d.kl), (-mean(|d| d.arm)).exp())
    };
    found.iter().map(of_arm).collect()
}

/// On the model inside the program, by the one number that matters, on questions that were not calibrated on.
#[test]
fn calibration_and_a_budget_pay() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let bits = |told: &serde_json::Value| told["bits_per_weight"].as_f64().unwrap();
    quantize("reasoner", &["--quantizer", "rtn", "--symmetric"], &path("rtn"));
    quantize("reasoner", &["--quantizer", "gptq", "--symmetric"], &path("gptq"));
    let even = quantize("reasoner", &["--symmetric"], &path("mse"));
    let average = format!("{:.4}", bits(&even) + 5e-5);
    let spent = quantize("reasoner", &["--symmetric", "--auto-bits", &average], &path("spent"));
    assert!(bits(&spent) <= bits(&even) + 1e-4);
    let found = compared("reasoner", &["rtn", "gptq", "mse", "spent"].map(path), 2);
    let [_, (rtn, _), (gptq, _), (mse, _), (spent, _)] = found[..] else { panic!("five arms") };
    println!("rtn {rtn:.3e} gptq {gptq:.3e} mse {mse:.3e} spent {spent:.3e}");
    assert!(gptq < rtn * 0.8, "{gptq} {rtn}");
    assert!(spent < mse, "{spent} {mse}");
}

/// The table; `cargo test --release --test quantizers -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes, and tells rather than tests"]
fn table() {
    for model in ["0.4m", "1m", "3m"] {
        let name = format!("{}/models/reasoner-{model}", env!("CARGO_MANIFEST_DIR"));
        let directory = tempfile::tempdir().unwrap();
        let (mut paths, mut rows) = (Vec::new(), Vec::new());
        let mut add = |args: &[&str]| -> f64 {
            let path = directory.path().join(paths.len().to_string());
            let bits = quantize(&name, args, &path)["bits_per_weight"].as_f64().unwrap();
            rows.push(format!("{} | {bits:.3}", args.join(" ")));
            paths.push(path);
            bits
        };
        for group in ["32", "64", "128"] {
            for quantizer in ["rtn", "mse", "hqq", "awq", "gptq"] {
                add(&["--to", "gptq", "--group", group, "--quantizer", quantizer]);
            }
        }
        for even in [&["--symmetric", "--group", "64"][..], &["--symmetric"], &[]] {
            let average = format!("{:.4}", add(even) + 5e-5);
            let symmetric: &[&str] = if even.is_empty() { &[] } else { &["--symmetric"] };
            // Where rows have no whole groups of 64, matrices are left out.
            if model != "0.4m" || !even.contains(&"64") {
                add(&[symmetric, &["--auto-bits", &average]].concat());
            }
        }
        let found = compared(&name, &paths, 2);
        println!("reasoner-{model}, perplexity {:.4}", found[0].1);
        for (row, (kl, ppl)) in rows.iter().zip(&found[1..]) {
            println!("| {row} | {kl:.3e} | {ppl:.4} |");
        }
    }
}
