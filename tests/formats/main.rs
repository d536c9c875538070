//! Files of packed weights against the formats' own libraries and transformers (`models/formats.py`).

#[path = "../common/mod.rs"]
mod common;
mod gguf;
mod packed;

use common::{ids, numbers, relative_error};
use pollster::block_on;
use sixteen_states::engine::Engine;

fn path(name: &str) -> String {
    format!("{}/tests/data/formats/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn assert_logits(engine: &mut Engine, reference: &serde_json::Value, most: f64, what: &str) {
    let tokens = ids(&reference["ids"]);
    let logits = block_on(engine.logits(&tokens)).unwrap();
    let vocab = engine.config().vocab_size;
    let expected = reference["logits"].as_array().unwrap();
    for (position, expected) in ids(&reference["positions"]).iter().zip(expected) {
        let found = &logits[*position as usize * vocab..][..vocab];
        let error = relative_error(found, &numbers(expected));
        assert!(error < most, "{what}: logits at {position} are off by {error:.1e}");
    }
}
