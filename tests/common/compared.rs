//! Quantized models compared with their floats, by what they predict.
//!
//! The texts are questions of the test side with their worked answers, all tokens of which are predicted; calibration is on the
//! training side.

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
pub fn quantize(model: &str, args: &[&str], out: &Path) -> serde_json::Value {
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
pub fn compared(model: &str, written: &[PathBuf], each: usize) -> Vec<(f64, f64)> {
    let source = locate(model).unwrap();
    let checkpoint = Checkpoint::of(&source).unwrap();
    let options =
        OpenOptions { weights: Weights::F16, context: Some(256), sequences: 4, progress: &mut |_| {} };
    let device = super::common::gpus().remove(0);
    let mut engine = Engine::open(&source, &checkpoint, device.open(), options).unwrap();
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
