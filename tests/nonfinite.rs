//! A number that is not finite stops a run, with the step of the model that made it.

mod common;

use common::{cpu, devices, ids, json, open, packing};
use pollster::block_on;
use sixteen_states::checkpoint::{Checkpoint, locate};
use sixteen_states::engine::{Request, Sampling, Text};
use sixteen_states::model::Weights;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

fn tiny(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny").join(model)
}

/// A copy of a small model in which one tensor's numbers are multiplied.
fn damaged(model: &str, tensor: &str, factor: f32) -> tempfile::TempDir {
    let source = tiny(model);
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(source.join("config.json"), dir.path().join("config.json")).unwrap();
    let mut bytes = std::fs::read(source.join("model.safetensors")).unwrap();
    let checkpoint = Checkpoint::open(&source.join("model.safetensors")).unwrap();
    let info = checkpoint.get(tensor).unwrap();
    let (range, wide) = (info.bytes.clone(), info.bytes.len() == 4 * info.elements);
    for number in bytes[range].chunks_exact_mut(if wide { 4 } else { 2 }) {
        // Of two bytes, bfloat16: the first half of a float.
        let mut old = [0; 4];
        old[4 - number.len()..].copy_from_slice(number);
        let value = (f32::from_le_bytes(old) * factor).to_le_bytes();
        number.copy_from_slice(&value[4 - number.len()..]);
    }
    std::fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
    dir
}

#[test]
fn the_layer_is_named() {
    for (model, tensor, factor, place, of_one_row) in [
        // The norm's output reaches 1e30, what the gate lets through 1e60.
        (
            "llama",
            "model.layers.1.post_attention_layernorm.weight",
            1e30,
            "layer 1 (matmul_",
            "layer 1 (matmul_",
        ),
        // Of experts it is let through by a kernel of its own, after rows were sorted where they are many.
        (
            "mixtral",
            "model.layers.1.post_attention_layernorm.weight",
            1e30,
            "layer 1 (activate)",
            "layer 1 (activate)",
        ),
        // Numbers up to twice the root mean square, times 2e38. Some products norm one row themselves.
        ("llama", "model.norm.weight", 2e38, "the output layer (rms_norm)", "the output layer ("),
    ] {
        let dir = damaged(model, tensor, factor);
        let tokens = ids(&json(&format!("tiny/{model}/reference.json"))["ids"]);
        // Devices that run on the processor do not sort.
        for device in if model == "mixtral" { vec![cpu()] } else { devices() } {
            let mut engine = open(device.open(), dir.path().to_str().unwrap(), packing(16, 64), 1);
            let error = block_on(engine.score(&tokens)).unwrap_err().to_string();
            assert!(error.contains(place), "{}: {error}", device.name);
            let sampling = Sampling::GREEDY;
            let request = Request { prompt: tokens.clone(), max_tokens: 5, sampling, end: vec![] };
            let error = block_on(engine.generate(&[request], &mut |_, _| ControlFlow::Continue(())))
                .unwrap_err()
                .to_string();
            assert!(error.contains(of_one_row), "{}: {error}", device.name);
        }
    }
}

/// A comparison has a forward pass of each arm, and rows of a text that are not scored.
#[test]
fn the_arm_is_named() {
    let tensor = "model.layers.1.post_attention_layernorm.weight";
    let (sound, bad) = (tiny("llama"), damaged("llama", tensor, 1e30));
    let tokens = ids(&json("tiny/llama/reference.json")["ids"]);
    let texts = [Text { from: tokens.len() - 1, tokens }];
    for (arms, place) in [
        ([&sound, bad.path()], "arm 2 of 2: layer 1 (matmul_"),
        ([bad.path(), &sound], "arm 1 of 2: layer 1 (matmul_"),
    ] {
        for device in devices() {
            let mut engine = open(device.open(), arms[0].to_str().unwrap(), packing(16, 64), 1);
            let second = Checkpoint::of(&locate(arms[1].to_str().unwrap()).unwrap()).unwrap();
            engine.add_arm(&second, &Weights::F16, &mut |_| {}).unwrap();
            let error = block_on(engine.compare(&texts)).unwrap_err().to_string();
            assert!(error.contains(place), "{}: {error}", device.name);
        }
    }
}
