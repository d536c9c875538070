//! Configurations that a stranger might write: whatever they say, a model is opened or refused with a message, and what
//! was opened can be run.

mod common;

use common::packing;
use pollster::block_on;
use serde_json::{Value, json};
use sixteen_states::checkpoint::{Checkpoint, Config, locate};
use sixteen_states::cpu::Cpu;
use sixteen_states::engine::{Engine, OpenOptions};
use sixteen_states::model::{ARCHITECTURES, Weights, architecture};
use std::path::{Path, PathBuf};

fn tiny() -> Vec<PathBuf> {
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny");
    let models = std::fs::read_dir(tiny).unwrap().map(|entry| entry.unwrap().path());
    let mut models: Vec<_> = models.filter(|path| path.join("config.json").exists()).collect();
    models.sort();
    models
}

fn config(model: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(model.join("config.json")).unwrap()).unwrap()
}

/// What a field might be instead, `value` being what it is.
fn others(value: &Value) -> Vec<Value> {
    let mut others = vec![Value::Null, json!(0), json!(-1), json!(1), json!(2), json!(8), json!(1u64 << 40)];
    others.extend([json!(1e-30), json!(0.5), json!("x"), json!([]), json!({}), json!(true), json!(false)]);
    if let Some(n) = value.as_u64() {
        others.extend([json!(n / 2), json!(2 * n), json!(n + 8)]);
    }
    if let Some(object) = value.as_object() {
        for name in object.keys() {
            for other in [json!(0), json!(1), json!(1e6), json!("x"), Value::Null] {
                let mut changed = object.clone();
                changed.insert(name.clone(), other);
                others.push(Value::Object(changed));
            }
        }
    }
    others
}

#[test]
fn every_architecture_has_a_small_model() {
    let there: Vec<String> =
        tiny().iter().map(|model| config(model)["architectures"][0].as_str().unwrap().to_owned()).collect();
    for architecture in ARCHITECTURES {
        assert!(there.iter().any(|name| name == architecture.name), "{}", architecture.name);
    }
}

#[test]
fn no_configuration_makes_it_panic() {
    let (mut tried, mut opened) = (0, 0);
    for model in tiny().iter().filter(|model| !model.ends_with("sharded")) {
        let source = locate(model.to_str().unwrap()).unwrap();
        let checkpoint = Checkpoint::of(&source).unwrap();
        let whole = config(model);
        for (name, value) in whole.as_object().unwrap() {
            for other in others(value) {
                let mut changed = whole.clone();
                changed[name] = other;
                tried += 1;
                let text = changed.to_string();
                let Ok(parsed) = Config::parse(&text) else { continue };
                let Ok(architecture) = architecture(&parsed) else { continue };
                assert_eq!((architecture.caches)(&parsed).len(), parsed.num_hidden_layers, "{text}");
                opened += usize::from(runs(&changed, &checkpoint));
            }
        }
    }
    println!("{tried} configurations, {opened} of which could be run");
    assert!(opened > 100 && opened < tried / 2, "{opened} of {tried}");
}

/// Opens the model and lets it read a few tokens; whether that was possible.
fn runs(config: &Value, checkpoint: &Checkpoint) -> bool {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
    std::fs::write(directory.path().join("model.safetensors"), b"").unwrap();
    let source = locate(directory.path().to_str().unwrap()).unwrap();
    let weights = Weights { linear: packing(16, 64), ..Weights::F16 };
    let options = OpenOptions { weights, context: Some(8), sequences: 1, progress: &mut |_| {} };
    match Engine::open(&source, checkpoint, Box::new(Cpu::new()), options) {
        // What it makes of them may not be finite.
        Ok(mut engine) => {
            let _ = block_on(engine.score(&[3, 1, 4, 1, 5]));
            true
        }
        Err(e) => {
            assert!(!e.to_string().is_empty());
            false
        }
    }
}
