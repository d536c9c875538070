//! Weights packed on the device are those packed on the processor.

mod common;

use common::{Device, cpu, ids, json, open_as, packing, usual_devices};
use pollster::block_on;
use sixteen_states::checkpoint::Checkpoint;
use sixteen_states::engine::{Engine, OpenOptions};
use sixteen_states::error::Result;
use sixteen_states::model::{PackedOn, Weights};
use std::path::Path;

fn weights(bits: u32, group: usize, packed_on: PackedOn) -> Weights {
    let packing = packing(bits, group);
    Weights { linear: packing, embedding: packing, packed_on, ..Weights::F16 }
}

/// Logits behind a text, and how many weights the device packed.
fn logits(device: &Device, model: &str, weights: Weights, text: &[u32]) -> (Vec<u32>, u64) {
    let mut engine = open_as(device.open(), model, weights, 1);
    let logits = block_on(engine.logits(text)).unwrap();
    (logits.iter().map(|x| x.to_bits()).collect(), engine.arms()[0].packed_on_device)
}

fn small(model: &str) -> String {
    format!("{}/tests/data/tiny/{model}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn models_are_the_same_to_the_bit() {
    // Several tensors in one matrix, gates and what they let through in turns, experts, and tensors that are stored the other way
    // around. The kernel is checked on every device in all it can do; here it is how loading uses it.
    let on_all = usual_devices().into_iter().map(|device| (device, "llama", 4, 32));
    let others = [("llama", 8, 64), ("mixtral", 4, 128), ("gpt2", 4, 32)];
    for (device, model, bits, group) in on_all.chain(others.map(|(m, bits, group)| (cpu(), m, bits, group))) {
        let text = ids(&json(&format!("tiny/{model}/reference.json"))["ids"]);
        let on = |on| logits(&device, &small(model), weights(bits, group, on), &text);
        let ((there, packed), (here, none)) = (on(PackedOn::Device), on(PackedOn::Host));
        assert_eq!(there, here, "{model} in {bits} bits on {}", device.name);
        assert!(packed > 10_000 && none == 0, "{model}: {packed} {none}");
    }
}

/// A copy of a small model with one weight changed.
fn damaged(tensor: &str, at: usize, value: f32) -> tempfile::TempDir {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny/llama");
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(source.join("config.json"), dir.path().join("config.json")).unwrap();
    let mut bytes = std::fs::read(source.join("model.safetensors")).unwrap();
    let checkpoint = Checkpoint::open(&source.join("model.safetensors")).unwrap();
    let first = checkpoint.get(tensor).unwrap().bytes.start + 4 * at;
    bytes[first..first + 4].copy_from_slice(&value.to_le_bytes());
    std::fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
    dir
}

#[test]
fn what_a_device_does_not_pack_is_packed_on_the_processor() {
    let tensor = "model.layers.1.mlp.down_proj.weight";
    let text = ids(&json("tiny/llama/reference.json")["ids"]);
    let large = damaged(tensor, 70, 40_000.0);
    let broken = damaged(tensor, 70, f32::NAN);
    for device in usual_devices() {
        let model = large.path().to_str().unwrap();
        let on = |on| logits(&device, model, weights(4, 32, on), &text);
        let ((there, packed), (here, _)) = (on(PackedOn::Device), on(PackedOn::Host));
        assert_eq!(there, here, "{}", device.name);
        let (_, whole) = logits(&device, &small("llama"), weights(4, 32, PackedOn::Device), &text);
        assert!(packed > 0 && packed < whole, "{}: {packed} of {whole}", device.name);

        let open = |on| -> Result<Engine> {
            let source = sixteen_states::checkpoint::locate(broken.path().to_str().unwrap()).unwrap();
            let checkpoint = Checkpoint::of(&source).unwrap();
            let options = OpenOptions {
                weights: weights(4, 32, on),
                context: None,
                sequences: 1,
                progress: &mut |_| {},
            };
            Engine::open(&source, &checkpoint, device.open(), options)
        };
        let [there, here] = [PackedOn::Device, PackedOn::Host].map(|on| open(on).err().unwrap().to_string());
        assert!(there == here && there.contains("NaN"), "{there} {here}");
    }
}
