//! Devices with little room: weights larger than a binding are split, and what cannot fit is refused before
//! any of it is asked for.

mod common;

use common::{ids, json, packing};
use pollster::block_on;
use sixteen_states::capabilities::Capabilities;
use sixteen_states::checkpoint::{Checkpoint, locate};
use sixteen_states::cpu::Cpu;
use sixteen_states::engine::{Engine, OpenOptions};
use sixteen_states::error::Result;
use sixteen_states::model::Weights;

const CONTEXT: usize = 40;

fn open(model: &str, bits: u32, change: impl FnOnce(&mut Capabilities)) -> Result<Engine> {
    let source = locate(&format!("{}/tests/data/tiny/{model}", env!("CARGO_MANIFEST_DIR")))?;
    let checkpoint = Checkpoint::open(&source.weights)?;
    let packing = packing(bits, 32);
    let weights = Weights { linear: packing, embedding: packing, ..Weights::F16 };
    let options = OpenOptions { weights, context: Some(CONTEXT), sequences: 1, progress: &mut |_| {} };
    Engine::open(&source, &checkpoint, Box::new(Cpu::limited(change)), options)
}

/// 64 rows of 48 halves are 6 KiB: with bindings of 12 kB every matrix but the smallest is in pieces.
#[test]
fn weights_larger_than_a_binding_are_split() {
    let tokens = ids(&json("tiny/llama/reference.json")["ids"]);
    for bits in [16, 8, 4] {
        let mut whole = open("llama", bits, |_| {}).unwrap();
        let mut split = open("llama", bits, |c| c.max_binding = 12_000).unwrap();
        assert_eq!(
            block_on(split.logits(&tokens)).unwrap(),
            block_on(whole.logits(&tokens)).unwrap(),
            "{bits}"
        );
    }
}

#[test]
fn what_cannot_fit_is_refused_with_what_would_help_if_anything_does() {
    for (model, change, advice) in [
        ("llama", (|c: &mut Capabilities| c.free_memory = Some(1000)) as fn(&mut Capabilities), "--bits"),
        ("llama", |c: &mut Capabilities| c.max_binding = 1000, "--ctx"),
        // Of 512 rows in two slots gate and up, 40 numbers each.
        ("mixtral", |c: &mut Capabilities| c.max_binding = 327_679, "experts take 327680 bytes"),
    ] {
        let error = open(model, 16, change).map(|_| ()).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().contains(advice), "{error}");
    }
}
