//! A real model, SmolLM2-135M-Instruct, against transformers in 32-bit floats, on every device at hand.
//! `models/smollm2.sh` makes it; without it these tests fail.

mod common;

use common::{
    Device, assert_greedy, cpu, gpus, ids, json, numbers, open, open_rounded, open_stored, packing,
    rms_over_spread, usual_devices,
};
use pollster::block_on;
use sixteen_states::engine::{Engine, Request, Sampling};
use std::ops::ControlFlow;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/smollm2");

fn model(device: &Device, bits: u32) -> Engine {
    assert!(std::path::Path::new(MODEL).exists(), "no {MODEL}: run models/smollm2.sh first");
    open(device.open(), MODEL, packing(bits, 32), PROMPTS)
}

/// How many prompts the reference has.
const PROMPTS: usize = 6;

/// All prompts of the reference, greedily, as one batch.
fn answers(engine: &mut Engine, reference: &serde_json::Value) -> Vec<Vec<u32>> {
    let requests: Vec<Request> = (reference["prompts"].as_array().unwrap().iter())
        .map(|prompt| Request {
            prompt: ids(&prompt["ids"]),
            max_tokens: prompt["greedy_ids"].as_array().unwrap().len(),
            sampling: Sampling::GREEDY,
            end: vec![],
        })
        .collect();
    let all = block_on(engine.generate(&requests, &mut |_, _| ControlFlow::Continue(()))).unwrap();
    all.into_iter().map(|g| g.tokens).collect()
}

/// The likelihood of the beginning of the reference's text, in the shortest of its windows.
fn likelihood(engine: &mut Engine, reference: &serde_json::Value) -> (f64, f64) {
    let nll = reference["nll"].as_array().unwrap().last().unwrap();
    let targets = nll["targets"].as_u64().unwrap() as usize;
    let ctx = nll["ctx"].as_u64().unwrap() as usize;
    let found = block_on(engine.perplexity(&ids(&reference["text_ids"]), ctx, targets, &mut |_| {})).unwrap();
    assert_eq!(found.tokens, targets);
    (found.mean_nll, nll["mean_nll"].as_f64().unwrap())
}

#[test]
fn greedy_tokens_and_likelihood_equal_the_reference() {
    let reference = json("smollm2.json");
    for device in usual_devices() {
        let mut engine = model(&device, 16);
        let (found, expected) = likelihood(&mut engine, &reference);
        println!("{}: mean NLL {found:.6}, reference {expected:.6}", device.name);
        assert!((found - expected).abs() < 1e-3, "{}: mean NLL {found}, expected {expected}", device.name);

        let answers = answers(&mut engine, &reference);
        for (found, prompt) in answers.iter().zip(reference["prompts"].as_array().unwrap()) {
            let what = format!("{} on {}", prompt["name"], device.name);
            assert_greedy(found, &ids(&prompt["greedy_ids"]), &numbers(&prompt["margins"]), &what);
        }
    }
}

/// The GGUF file that the 16-bit floats were unpacked from, run as it is: their likelihood and tokens, in 5 bits a weight.
#[test]
fn the_gguf_file_runs_as_it_is() {
    let reference = json("smollm2.json");
    let gguf = format!("{MODEL}/smollm2-q4_1.gguf");
    let floats = model(&cpu(), 16).memory().weight_bytes;
    for device in gpus().into_iter().filter(Device::usual) {
        let mut packed = open_stored(device.open(), &gguf, PROMPTS);
        let (found, expected) = likelihood(&mut packed, &reference);
        println!("{}: mean NLL {found:.6} packed, reference {expected:.6}", device.name);
        assert!((found - expected).abs() < 1e-3, "{}: mean NLL {found}, expected {expected}", device.name);
        let answers = answers(&mut packed, &reference);
        for (found, prompt) in answers.iter().zip(reference["prompts"].as_array().unwrap()) {
            let what = format!("{} on {}", prompt["name"], device.name);
            assert_greedy(found, &ids(&prompt["greedy_ids"]), &numbers(&prompt["margins"]), &what);
        }
        // Q4_1 has 5 bits a weight, the embedding's Q8_0 has 8.5.
        let packed = packed.memory().weight_bytes;
        assert!(packed * 5 < floats * 2, "{packed} bytes packed, {floats} unpacked");
    }
}

/// The quantizer's error told apart from the kernels': the fused INT4 kernels, and the f16 kernels on the same
/// codes unpacked, agree to f16's rounding; and INT4 does not do much worse than f16.
#[test]
fn int4_is_near_f16_and_its_kernels_are_exact() {
    let reference = json("smollm2.json");
    for device in gpus().into_iter().filter(Device::usual) {
        let text: Vec<u32> = ids(&reference["text_ids"])[..24].to_vec();
        let mut fused = model(&device, 4);
        let (int4, f16) = likelihood(&mut fused, &reference);
        println!("{}: mean NLL {int4:.4} in INT4, {f16:.4} in the reference", device.name);
        // A perplexity within 10%.
        assert!(int4 - f16 < 1.1f64.ln(), "{}: mean NLL {int4} in INT4, {f16} in f16", device.name);
        let mut unpacked = open_rounded(device.open(), MODEL, packing(16, 32), Some(packing(4, 32)), 1);
        let (a, b) = (block_on(fused.logits(&text)).unwrap(), block_on(unpacked.logits(&text)).unwrap());
        let off = rms_over_spread(&a, &b);
        println!("{}: fused and unpacked logits differ by {off:.1e} of their spread", device.name);
        assert!(off < 1e-3, "{}: {off}", device.name);
    }
}
