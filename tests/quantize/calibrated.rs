//! Quantizers that look at what matrices are multiplied with: that it is seen rightly, and that it helps.

use super::common::{self, cpu, open_stored, relative_error, usual_devices};
use super::{To, engine_logits, model, text, type_settings, values, write_recipe};
use pollster::block_on;
use sixteen_states::checkpoint::{Checkpoint, locate};
use sixteen_states::engine::{Engine, OpenOptions};
use sixteen_states::export::gguf::Type;
use sixteen_states::export::{Calibration, Layout, Recipe, Scaling, Settings, Summary, Watch};
use sixteen_states::model::Weights;
use sixteen_states::quantize::{Quantizer, Zeros};
use sixteen_states::recording::Input;
use std::path::Path;

/// A tiny model in 16-bit floats on a device.
fn engine(source: &Path, device: &common::Device, sequences: usize) -> (Engine, Checkpoint) {
    let source = locate(text(source)).unwrap();
    let checkpoint = Checkpoint::of(&source).unwrap();
    let options = OpenOptions { weights: Weights::F16, context: None, sequences, progress: &mut |_| {} };
    (Engine::open(&source, &checkpoint, device.open(), options).unwrap(), checkpoint)
}

/// Texts of different lengths, one longer than a step.
fn texts() -> Vec<Vec<u32>> {
    let token = |i: u32| 3 + (i * 37 + i * i * 11) % 120;
    vec![(0..90).map(token).collect(), (7..30).map(token).collect(), (40..41).map(token).collect()]
}

/// By input, all rows that were seen.
fn observed(engine: &mut Engine, wanted: &[usize]) -> (Vec<Input>, Vec<Vec<f32>>) {
    let inputs = engine.inputs().unwrap();
    let mut rows = vec![Vec::new(); inputs.len()];
    let mut see = |seen: sixteen_states::engine::Seen<'_>| rows[seen.input].extend_from_slice(seen.values);
    let mut tokens = 0;
    let mut step = |n: usize| {
        tokens += n;
        Ok(())
    };
    block_on(engine.observe(&texts(), wanted, &mut see, &mut step)).unwrap();
    assert_eq!(tokens, 114);
    (inputs, rows)
}

/// What matrices are multiplied with is the same on every device, for every way in which layers are wired; each dense
/// matrix is among them with as many numbers as it has columns; and what is asked for alone is what it is among all.
#[test]
fn activations_are_those_that_the_matrices_read() {
    let mut checked = 0;
    for name in ["llama-gqa-llama3", "olmo2", "gpt-neox", "phi3", "gemma2", "stablelm", "qwen3-moe"] {
        let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny").join(name);
        let mut reference: Option<Vec<Vec<f32>>> = None;
        for device in usual_devices().into_iter().rev() {
            let (mut engine, checkpoint) = engine(&tiny, &device, 2);
            let count = engine.inputs().unwrap().len();
            let all: Vec<usize> = (0..count).collect();
            let (inputs, rows) = observed(&mut engine, &all);
            for (input, rows) in inputs.iter().zip(&rows) {
                for tensor in &input.tensors {
                    let shape = &checkpoint.get(tensor).unwrap().shape;
                    assert_eq!(Engine::input_cols(input), shape[1], "{name} {tensor}");
                    assert_eq!(rows.len(), 114 * shape[1], "{name} {tensor}");
                    checked += 1;
                }
            }
            let dense = |name: &str| {
                name.contains("layers.") && !name.contains("norm") && !name.contains("mlp.gate.")
            };
            let matrices = checkpoint.tensors().filter(|info| info.shape.len() == 2 && dense(&info.name));
            for info in matrices.filter(|info| !info.name.contains("experts")) {
                assert!(
                    inputs.iter().any(|input| input.tensors.contains(&info.name)),
                    "{name} {}",
                    info.name
                );
            }
            let last = observed(&mut engine, &[count - 1]).1;
            assert_eq!(last[count - 1], rows[count - 1], "{name} on {}", device.name);
            // The CPU came first.
            match &reference {
                None => reference = Some(rows),
                Some(reference) => {
                    for ((input, rows), expected) in inputs.iter().zip(&rows).zip(reference) {
                        let expected: Vec<f64> = expected.iter().map(|&x| f64::from(x)).collect();
                        let error = relative_error(rows, &expected);
                        assert!(error < 1e-5, "{name} on {}: {:?} {error:.1e}", device.name, input.tensors);
                    }
                }
            }
        }
    }
    assert!(checked > 60, "{checked}");
}

/// What a layer's first matrices read is the norm of the embedding, computed here.
#[test]
fn the_first_activations_are_the_norm_of_the_embedding() {
    let source = model("llama-linear-bias");
    let (mut engine, checkpoint) = engine(source.path(), &cpu(), 4);
    let (inputs, rows) = observed(&mut engine, &[0]);
    assert_eq!(inputs[0].tensors.len(), 3);
    let named = |name: &str| values(&checkpoint, checkpoint.get(name).unwrap());
    let (table, norm) = (named("model.embed_tokens.weight"), named("model.layers.0.input_layernorm.weight"));
    let hidden = norm.len();
    let half = |w: f32| f64::from(half::f16::from_f32(w).to_f32());
    let eps = f64::from(engine.config().norm_eps);
    for (token, row) in texts().concat().iter().zip(rows[0].chunks(hidden)) {
        let x: Vec<f64> = table[*token as usize * hidden..][..hidden].iter().map(|&w| half(w)).collect();
        let root = (x.iter().map(|x| x * x).sum::<f64>() / hidden as f64 + eps).sqrt();
        for ((x, &w), &found) in x.iter().zip(&norm).zip(row) {
            assert!((x / root * f64::from(w) - f64::from(found)).abs() < 1e-4 * (1.0 + x.abs() / root));
        }
    }
}

/// Writes a model with a quantizer that looks at activations; gives what is told and the logits of what was written.
fn calibrated(source: &Path, to: &To, out: &Path, device: &common::Device) -> (Summary, Vec<f32>) {
    let (mut engine, checkpoint) = engine(source, device, 2);
    let mut read = |_: usize| {};
    let mut recipe = match to {
        To::Layout(_, settings) => Recipe::plain(*settings),
        To::Type(kind, quantizer) => Recipe::plain(type_settings(kind, quantizer)),
    };
    recipe.calibration = Some(Calibration::new(&mut engine, texts(), &mut read).unwrap());
    let symmetric = recipe.settings.symmetric;
    let zeros = |_: u32| if symmetric { Zeros::Middle } else { Zeros::Whole { least: 0 } };
    (recipe.scaling, recipe.unscaled) = Scaling::find(&checkpoint, &mut recipe, &zeros, &|| false).unwrap();
    let mut watch = Watch { progress: &mut |_| {}, interrupted: &|| false };
    let summary = write_recipe(source, to, &mut recipe, (out, false), &mut watch).unwrap();
    drop(recipe);
    let mut engine = open_stored(device.open(), text(out), 1);
    (summary, engine_logits(&mut engine, &texts()[0]))
}

/// Factors change nothing but rounding: as floats, the model with factors gives the logits of the one without; where heads
/// share values, or norms count from 1, or two norms read one stream.
#[test]
fn factors_cancel_out() {
    for (name, unscaled) in [
        // Of four places a layer; but for the first and GPT-NeoX, heads share values.
        ("llama", 0),
        ("llama-linear-bias", 1),
        ("llama-gqa-llama3", 1),
        ("olmo2", 3),
        ("phi3", 1),
        ("gemma2", 1),
        ("gpt-neox", 2),
        ("stablelm", 1),
    ] {
        let source = model(name);
        let device = cpu();
        let (mut engine, checkpoint) = engine(source.path(), &device, 2);
        let before = engine_logits(&mut engine, &texts()[0]);
        let layers = engine.config().num_hidden_layers;
        let inputs = engine.inputs().unwrap();
        let awq = Quantizer::named("awq").unwrap();
        let settings = Settings { quantizer: awq, bits: 4, states: None, group: 32, symmetric: true };
        let mut read = |_: usize| {};
        let mut recipe = Recipe::plain(settings);
        recipe.calibration = Some(Calibration::new(&mut engine, texts(), &mut read).unwrap());
        let (scaling, without) =
            Scaling::find(&checkpoint, &mut recipe, &|_| Zeros::Middle, &|| false).unwrap();
        let sites = inputs.iter().filter(|input| without.contains(&input.tensors[0])).count();
        assert_eq!((sites, inputs.len()), (unscaled * layers, 4 * layers), "{name}");
        drop(recipe);
        // Every tensor with its factors, in its own type.
        let path = source.path().join("model.safetensors");
        let mut bytes = std::fs::read(&path).unwrap();
        let (mut changed, mut wide) = (0, true);
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let entries: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
        for info in checkpoint.tensors() {
            let mut numbers = values(&checkpoint, info);
            let plain = numbers.clone();
            scaling.apply(info, &mut numbers);
            changed += usize::from(numbers != plain);
            let entry = &entries[&info.name];
            let at = 8 + header + entry["data_offsets"][0].as_u64().unwrap() as usize;
            let numbers: Vec<u8> = match entry["dtype"].as_str().unwrap() {
                "F32" => numbers.iter().flat_map(|n| n.to_le_bytes()).collect(),
                "F16" => numbers.iter().flat_map(|&n| half::f16::from_f32(n).to_le_bytes()).collect(),
                _ => numbers.iter().flat_map(|&n| half::bf16::from_f32(n).to_le_bytes()).collect(),
            };
            wide &= entry["dtype"] != "BF16";
            bytes[at..at + numbers.len()].copy_from_slice(&numbers);
        }
        assert!(changed > layers, "{name}: {changed} tensors were changed");
        std::fs::write(&path, bytes).unwrap();
        let mut engine = common::open(device.open(), text(source.path()), common::packing(16, 32), 1);
        let after = engine_logits(&mut engine, &texts()[0]);
        let before: Vec<f64> = before.iter().map(|&x| f64::from(x)).collect();
        let error = relative_error(&after, &before);
        // The matrices are rounded to 16 bits again: to 11 bits of precision, or to 8.
        assert!(error < if wide { 1e-5 } else { 1e-3 }, "{name}: {error:.1e}");
    }
}

/// Through the whole of it, capture, rounding, file and reading: by logits, on the texts that were seen, gptq is nearer to
/// the model than rtn.
#[test]
fn gptq_is_nearer_to_the_model_than_rtn() {
    let device = cpu();
    for name in ["llama-linear-bias", "qwen3", "qwen2"] {
        let source = model(name);
        let (mut engine, _) = engine(source.path(), &device, 2);
        let before: Vec<f64> = engine_logits(&mut engine, &texts()[0]).iter().map(|&x| x.into()).collect();
        for to in ["compressed-tensors", "gguf"] {
            let error = |quantizer: &str| {
                let quantizer = Quantizer::named(quantizer).unwrap();
                let settings = Settings { quantizer, bits: 4, states: None, group: 32, symmetric: false };
                let directory = tempfile::tempdir().unwrap();
                let (to, out) = match to {
                    "gguf" => (To::Type(Type::named("q4_0").unwrap(), quantizer), "out.gguf"),
                    name => (To::Layout(Layout::named(name).unwrap(), settings), "out"),
                };
                let (summary, logits) = calibrated(source.path(), &to, &directory.path().join(out), &device);
                assert_eq!((summary.unseen.len(), summary.unscaled.len()), (0, 0), "{name}");
                relative_error(&logits, &before)
            };
            let (gptq, rtn) = (error("gptq"), error("rtn"));
            assert!(gptq < rtn * 0.8, "{name} {to}: {gptq:.3e} {rtn:.3e}");
        }
    }
}
