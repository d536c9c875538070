use sixteen_states::checkpoint::{Checkpoint, locate};
use sixteen_states::engine::*;
use sixteen_states::format::{Format, Packing};
use sixteen_states::model::Weights;
use sixteen_states::quantize::QUANTIZERS;
use std::ops::ControlFlow;
use std::time::Instant;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let bits = a[1].as_str();
    let device = a[2].clone();
    let n: usize = a[3].parse().unwrap();
    let group: usize = a.get(4).map_or(32, |g| g.parse().unwrap());
    let t = Instant::now();
    let opened = pollster::block_on(open_device(&DeviceChoice {
        name: Some(device),
        baseline: false,
        checked: false,
    }))
    .unwrap();
    let packing = match bits {
        "16" => Packing::F16,
        b => Packing { format: Format::named(&format!("q{b}")).unwrap(), group },
    };
    let source = locate("models/smollm2").unwrap();
    let checkpoint = Checkpoint::open(&source.weights).unwrap();
    let weights = Weights { linear: packing, embedding: packing, quantizer: QUANTIZERS[0], rounded: None };
    println!("device {:.2}s", t.elapsed().as_secs_f64());
    let mut engine = Engine::open(
        &source,
        &checkpoint,
        opened.executor,
        OpenOptions { weights, context: Some(1024), sequences: 1, progress: &mut |_| {} },
    )
    .unwrap();
    println!("load {:.2}s {:?}", t.elapsed().as_secs_f64(), engine.memory());
    let v: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string("tests/data/smollm2.json").unwrap()).unwrap();
    let ids: Vec<u32> =
        v["text_ids"].as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as u32).collect();
    if a.len() > 5 {
        let most: usize = a[5].parse().unwrap();
        let ctx = most.min(512);
        let p = pollster::block_on(engine.perplexity(&ids, ctx, most, &mut |_| {})).unwrap();
        println!("ppl {p:?} {:.2}s; reference {}", t.elapsed().as_secs_f64(), v["nll"]);
        return;
    }
    for (len, n) in [(5, 1), (64, n), (64, n)] {
        let r =
            Request { prompt: ids[..len].to_vec(), max_tokens: n, sampling: Sampling::GREEDY, end: vec![] };
        let g = pollster::block_on(engine.generate(&[r], &mut |_, _| ControlFlow::Continue(()))).unwrap();
        let g = &g[0];
        println!(
            "at {:.2}s: prompt {len}: {:.2} tok/s; decode {:.2} tok/s; {:?}",
            t.elapsed().as_secs_f64(),
            len as f64 / g.prompt_time.as_secs_f64(),
            (g.tokens.len() - 1) as f64 / g.decode_time.as_secs_f64(),
            &g.tokens[..n.min(6)]
        );
    }
}
