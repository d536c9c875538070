//! Small models of every architecture and of every kind that the Llama family knows, against transformers in 32-bit floats
//! (`models/reference.py`), on every device at hand.

mod common;

use common::{
    Device, as_hardware, assert_greedy, devices, ids, json, numbers, open, open_as, packing, relative_error,
    usual_devices,
};
use pollster::block_on;
use sixteen_states::checkpoint::{Checkpoint, locate};
use sixteen_states::cpu::Cpu;
use sixteen_states::engine::{Engine, OpenOptions, Request, Sampling, Text};
use sixteen_states::model::Weights;
use sixteen_states::quantize::Quantizer;
use std::ops::ControlFlow;

const MODELS: [&str; 22] = [
    "llama",
    "llama-gqa-llama3",
    "llama-linear-bias",
    "llama-yarn",
    "mistral",
    "sharded",
    "qwen2",
    "qwen3",
    "qwen3-moe",
    "mixtral",
    "smollm3",
    "olmo2",
    "granite",
    "phi3",
    "phi3-long",
    "gemma2",
    "gemma3",
    "gemma3-multimodal",
    "stablelm",
    "gpt-neox",
    "gpt-neox-serial",
    "gpt2",
];

/// Models that differ in kernels.
const DIFFERENT: [&str; 4] = ["llama-gqa-llama3", "gemma3", "qwen3-moe", "gpt-neox"];

/// All models for the CPU, shares of them for the adapters, and for each those that differ. That kernels do the same on all
/// adapters, and where features are masked off or taken for granted, is for tests/kernels.rs to say; here it is told of few
/// models, where features are masked with the driver checking every access.
fn models(device: &Device) -> impl Iterator<Item = &'static str> {
    let share = device.clone();
    MODELS
        .iter()
        .enumerate()
        .filter(move |&(i, name)| share.usual() && share.takes(i) || DIFFERENT.contains(name))
        .map(|(_, &name)| name)
}

fn path(name: &str) -> String {
    format!("{}/tests/data/tiny/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn greedy(prompt: Vec<u32>, max_tokens: usize) -> Request {
    Request { prompt, max_tokens, sampling: Sampling::GREEDY, end: vec![2] }
}

fn generate(engine: &mut Engine, requests: &[Request]) -> Vec<Vec<u32>> {
    let generations = block_on(engine.generate(requests, &mut |_, _| ControlFlow::Continue(()))).unwrap();
    generations.into_iter().map(|g| g.tokens).collect()
}

/// Weights and cache are rounded to f16, which the reference's are not: that is all that may differ.
#[test]
fn logits_likelihood_and_greedy_tokens_equal_the_reference() {
    for device in devices() {
        for name in models(&device) {
            text_equals_the_reference(&device, name);
        }
    }
}

fn text_equals_the_reference(device: &Device, name: &str) {
    let reference = json(&format!("tiny/{name}/reference.json"));
    let what = format!("{name} on {}", device.name);
    let mut engine = open(device.open(), &path(name), packing(16, 64), 1);
    let tokens = ids(&reference["ids"]);

    let logits = block_on(engine.logits(&tokens)).unwrap();
    let vocab = engine.config().vocab_size;
    let mut worst = 0.0f64;
    for (position, expected) in
        ids(&reference["positions"]).iter().zip(reference["logits"].as_array().unwrap())
    {
        let found = &logits[*position as usize * vocab..][..vocab];
        let error = relative_error(found, &numbers(expected));
        assert!(error < 1e-5, "{what}: logits at {position} are off by {error:.1e}");
        worst = worst.max(error);
    }

    let scores = block_on(engine.score(&tokens)).unwrap();
    let nll = -scores.iter().map(|&s| f64::from(s)).sum::<f64>() / scores.len() as f64;
    let expected = reference["mean_nll"].as_f64().unwrap();
    println!("{what}: logits off by {worst:.1e} at most; mean NLL {nll:.5}, reference {expected:.5}");
    assert!((nll - expected).abs() < 5e-3, "{what}: mean NLL {nll}, expected {expected}");

    let expected = ids(&reference["greedy_ids"]);
    let found = generate(&mut engine, &[greedy(tokens, expected.len())]);
    assert_greedy(&found[0], &expected, &numbers(&reference["margins"]), &what);
}

/// As they are stored and with 4-bit weights, against transformers with its matrices rounded to the same numbers
/// (`models/int4.py`): logits far into a text, and greedy texts of three prompts in one batch, the longest of which goes
/// over pages of the cache, over a step of rows, and far beyond a window.
#[test]
fn batches_of_texts_equal_the_reference_in_16_and_4_bits() {
    // Not in the order of the test that runs beside it, which would wait for the same device's compiler.
    for device in usual_devices().into_iter().rev() {
        for name in models(&device).filter(|&name| name != "sharded") {
            batches_equal_the_reference(&device, name);
        }
    }
}

/// Both with the kernels that a real GPU gets, in the sizes that it gets.
#[test]
fn texts_equal_the_reference_with_the_kernels_of_a_gpu() {
    // Where all devices are GPUs, the tests above are of those kernels.
    let Some(device) = as_hardware() else { return };
    for name in models(&device) {
        text_equals_the_reference(&device, name);
        batches_equal_the_reference(&device, name);
    }
}

fn batches_equal_the_reference(device: &Device, name: &str) {
    let reference = json(&format!("tiny/{name}/texts.json"));
    let prompts = reference["prompts"].as_array().unwrap();
    for (bits, key) in [(16, "f16"), (4, "q4")] {
        let what = format!("{name} in {key} on {}", device.name);
        let weights = Weights {
            linear: packing(bits, 32),
            embedding: packing(bits, 32),
            quantizer: Quantizer::named("rtn").unwrap(),
            ..Weights::F16
        };
        let mut engine = open_as(device.open(), &path(name), weights, prompts.len());

        let longest = ids(&prompts.last().unwrap()["ids"]);
        let logits = block_on(engine.logits(&longest)).unwrap();
        let vocab = engine.config().vocab_size;
        let expected = reference[format!("logits_{key}")].as_array().unwrap();
        for (position, expected) in ids(&reference["positions"]).iter().zip(expected) {
            let found = &logits[*position as usize * vocab..][..vocab];
            let error = relative_error(found, &numbers(expected));
            assert!(error < 1e-5, "{what}: logits at {position} are off by {error:.1e}");
        }

        let requests: Vec<Request> =
            prompts.iter().map(|prompt| Request { end: vec![], ..greedy(ids(&prompt["ids"]), 24) }).collect();
        let found = generate(&mut engine, &requests);
        for (found, prompt) in found.iter().zip(prompts) {
            let expected = ids(&prompt[format!("greedy_{key}")]);
            let margins = numbers(&prompt[format!("margins_{key}")]);
            assert_greedy(found, &expected, &margins, &what);
        }
    }
}

/// Texts that all fit the original length are rotated by the short factors, any others by the long ones (which the tests
/// above have, their context being the model's own).
#[test]
fn long_rope_is_chosen_by_the_context() {
    let few = &json("tiny/phi3-long/reference.json")["few"];
    let tokens = ids(&few["ids"]);
    let source = locate(&path("phi3-long")).unwrap();
    let checkpoint = Checkpoint::of(&source).unwrap();
    for (context, most) in [(tokens.len(), 1e-5), (tokens.len() + 1, f64::INFINITY)] {
        let options = OpenOptions {
            weights: Weights::F16,
            context: Some(context),
            sequences: 1,
            progress: &mut |_| {},
        };
        let mut engine = Engine::open(&source, &checkpoint, Box::new(Cpu::new()), options).unwrap();
        let logits = block_on(engine.logits(&tokens)).unwrap();
        let last = &logits[logits.len() - engine.config().vocab_size..];
        let error = relative_error(last, &numbers(&few["logits"]));
        assert!(error < most, "context {context}: off by {error:.1e}");
        assert!(
            context == tokens.len() || error > 1e-3,
            "context {context}: the long factors change nothing"
        );
    }
}

/// The weights of attention, which no kernel stores, where scores are capped and heads rotate in part.
#[test]
fn attention_equals_the_reference() {
    for device in devices() {
        let names = if device.usual() { &["gemma2", "gpt-neox"][..] } else { &["gpt-neox"] };
        for name in names {
            let reference = json(&format!("tiny/{name}/reference.json"));
            let mut engine = open(device.open(), &path(name), packing(16, 64), 1);
            let found = block_on(engine.attention(&ids(&reference["ids"]))).unwrap();
            let expected = reference["attention"].as_array().unwrap();
            assert_eq!(found.len(), expected.len());
            for (layer, (found, expected)) in found.iter().zip(expected).enumerate() {
                let expected = expected.as_array().unwrap();
                assert_eq!(found.len(), expected.len());
                for (head, (rows, expected)) in found.iter().zip(expected).enumerate() {
                    let pairs = rows.last().unwrap().iter().zip(numbers(expected));
                    let error = pairs.map(|(&a, b)| (f64::from(a) - b).abs()).fold(0.0, f64::max);
                    let what = format!("{name} on {}, layer {layer}, head {head}", device.name);
                    assert!(error < 2e-3, "{what}: weights are off by {error:.1e}");
                }
            }
        }
    }
}

/// Many sequences at once, of different lengths, more of them than there is room for: each gets the tokens
/// that it gets alone, whatever else is in the batch.
#[test]
fn a_batch_gives_what_each_prompt_gives_alone() {
    let names = |device: &Device| if device.usual() { &DIFFERENT[..3] } else { &DIFFERENT[..1] };
    for (device, &name) in
        devices().iter().flat_map(|device| names(device).iter().map(move |name| (device, name)))
    {
        let tokens = ids(&json(&format!("tiny/{name}/reference.json"))["ids"]);
        let mut alone = open(device.open(), &path(name), packing(4, 32), 1);
        let mut together = open(device.open(), &path(name), packing(4, 32), 3);
        let sampled =
            Sampling { temperature: 1.2, top_k: 50, top_p: 0.9, repeat_penalty: 1.1, ..Sampling::GREEDY };
        let requests: Vec<Request> = (0..8)
            .map(|i| {
                let prompt = tokens.iter().cycle().skip(i).take(1 + i * 29).copied().collect();
                let sampling =
                    if i % 2 == 0 { Sampling::GREEDY } else { Sampling { seed: i as u64, ..sampled } };
                Request { prompt, max_tokens: 3 + 5 * (i % 4), sampling, end: vec![] }
            })
            .collect();
        let expected: Vec<_> =
            requests.iter().map(|r| generate(&mut alone, std::slice::from_ref(r)).remove(0)).collect();
        assert_eq!(generate(&mut together, &requests), expected, "{}", device.name);
        // One that wants nothing is answered too.
        let nothing = Request { max_tokens: 0, ..requests[1].clone() };
        let with_nothing = [nothing.clone(), requests[1].clone(), nothing];
        assert_eq!(
            generate(&mut alone, &with_nothing),
            [vec![], expected[1].clone(), vec![]],
            "{}",
            device.name
        );
        // Nothing is left over from the last call.
        assert_eq!(generate(&mut together, &requests[2..5]), expected[2..5], "{}", device.name);
    }
}

/// Texts that begin alike share keys and values, within a call and from call to call, and each gets what it gets from
/// an engine that has seen nothing else.
#[test]
fn texts_that_begin_alike_change_nothing_for_each_other() {
    for device in devices() {
        let name = "llama-gqa-llama3";
        let tokens = ids(&json(&format!("tiny/{name}/reference.json"))["ids"]);
        let start: Vec<u32> = tokens.iter().cycle().take(75).copied().collect();
        let prompts: Vec<Vec<u32>> = (0..6)
            .map(|i| start.iter().chain(&tokens[i..]).take(60 + 9 * i).copied().collect())
            .chain([start[..64].to_vec(), start.clone()])
            .collect();
        let requests: Vec<Request> =
            prompts.iter().map(|p| Request { end: vec![], ..greedy(p.clone(), 40) }).collect();
        let texts: Vec<Text> = prompts
            .iter()
            .enumerate()
            .map(|(i, p)| Text { tokens: p.clone(), from: (p.len() - 3).min(30 + 9 * i) })
            .collect();

        let mut alone = open(device.open(), &path(name), packing(4, 32), 1);
        let mut single = |request: &Request, text: &Text| {
            alone.forget();
            let tokens = generate(&mut alone, std::slice::from_ref(request)).remove(0);
            alone.forget();
            (tokens, block_on(alone.score_all(std::slice::from_ref(text))).unwrap().remove(0))
        };
        let expected: Vec<(Vec<u32>, Vec<f32>)> =
            requests.iter().zip(&texts).map(|(request, text)| single(request, text)).collect();

        let mut engine = open(device.open(), &path(name), packing(4, 32), 3);
        for call in ["first", "second"] {
            let found = generate(&mut engine, &requests);
            let scores = block_on(engine.score_all(&texts)).unwrap();
            for (i, (tokens, likely)) in expected.iter().enumerate() {
                let what = format!("{call} call, text {i} on {}", device.name);
                assert_eq!(&found[i], tokens, "{what}");
                assert_eq!(scores[i].len(), likely.len(), "{what}");
                let error = scores[i].iter().zip(likely).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(error < 1e-4, "{what}: likelihoods are off by {error:.1e}");
            }
        }
        // The conversation goes on: what was written is in the cache too.
        let longer: Vec<u32> = prompts[0].iter().chain(&expected[0].0).chain(&tokens[..5]).copied().collect();
        let request = Request { end: vec![], ..greedy(longer, 8) };
        let again = generate(&mut engine, std::slice::from_ref(&request));
        engine.forget();
        assert_eq!(generate(&mut engine, &[request]), again, "{}", device.name);
    }
}

/// A prompt as long as the context allows, and a text that ends with the context.
#[test]
fn a_text_may_fill_the_context() {
    for device in devices() {
        let mut engine = open(device.open(), &path("mistral"), packing(16, 64), 1);
        let context = engine.context();
        let tokens = ids(&json("tiny/mistral/reference.json")["ids"]);
        let prompt: Vec<u32> = tokens.iter().cycle().take(context - 3).copied().collect();
        let request = Request { end: vec![], ..greedy(prompt.clone(), 100) };
        let found = generate(&mut engine, &[request]);
        assert_eq!(found[0].len(), 3, "{}", device.name);
        let long =
            Request { prompt: prompt.iter().cycle().take(context).copied().collect(), ..greedy(prompt, 1) };
        let error = block_on(engine.generate(&[long], &mut |_, _| ControlFlow::Continue(()))).unwrap_err();
        assert!(error.to_string().contains("--ctx"), "{error}");
    }
}
