//! Arms side by side on every device at hand, and the controls of the experiment on the shipped model.

mod common;

use common::{devices, ids, json, open, packing, usual_devices};
use pollster::block_on;
use sixteen_states::checkpoint::{Checkpoint, locate};
use sixteen_states::engine::{Divergence, Text};
use sixteen_states::experiment::arms::arms;
use std::process::Command;

fn model() -> String {
    format!("{}/tests/data/tiny/llama-gqa-llama3", env!("CARGO_MANIFEST_DIR"))
}

/// ln softmax in f64.
fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let greatest = logits.iter().copied().fold(f32::MIN, f32::max);
    let total: f64 = logits.iter().map(|&l| f64::from(l - greatest).exp()).sum();
    logits.iter().map(|&l| f64::from(l) - f64::from(greatest) - total.ln()).collect()
}

fn mean_kl(rows: &[Divergence]) -> f64 {
    rows.iter().map(|d| f64::from(d.kl)).sum::<f64>() / rows.len() as f64
}

/// Divergences of several texts in one batch equal those computed on the host from each arm's logits; the reference
/// against itself is nothing at all.
#[test]
fn arms_are_compared_on_the_device() {
    let names = ["f16", "q4:32", "u4:channel", "f16-again"].map(str::to_owned);
    let all = arms(&names[..3], false, true).unwrap();
    assert_eq!(all.last().unwrap().name, "f16-again");
    let tokens = ids(&json("tiny/llama-gqa-llama3/reference.json")["ids"]);
    for device in devices() {
        let mut engine = open(device.open(), &model(), packing(16, 64), 3);
        let checkpoint = Checkpoint::open(&locate(&model()).unwrap().weights).unwrap();
        for arm in &all[1..] {
            engine.add_arm(&checkpoint, &arm.weights(), &mut |_| {}).unwrap();
        }
        let texts: Vec<Text> = [(0, 70, 1), (3, 40, 5), (10, 12, 1), (2, 42, 30), (1, 30, 2)]
            .map(|(from, to, first)| Text {
                tokens: tokens[from..to.min(tokens.len())].to_vec(),
                from: first,
            })
            .into();
        let found = block_on(engine.compare(&texts)).unwrap();
        assert_eq!(found.len(), all.len());
        for (text, found_again) in texts.iter().zip(&found[3]) {
            assert_eq!(found_again.len(), text.tokens.len() - text.from);
            assert!(found_again.iter().all(|d| d.kl == 0.0 && d.same_top == 1.0 && d.reference == d.arm));
        }
        let text = &texts[1];
        engine.select(0);
        let reference = block_on(engine.logits(&text.tokens)).unwrap();
        let vocab = engine.config().vocab_size;
        for arm in 1..3 {
            engine.select(arm);
            let logits = block_on(engine.logits(&text.tokens)).unwrap();
            engine.select(0);
            for (i, d) in found[arm][1].iter().enumerate() {
                let at = text.from + i - 1;
                let row = |logits: &[f32]| log_softmax(&logits[at * vocab..][..vocab]);
                let (p, q) = (row(&reference), row(&logits));
                let kl: f64 = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum();
                let what = format!("{} {} token {i}", device.name, all[arm].name);
                assert!((f64::from(d.kl) - kl).abs() < 1e-5 + 1e-4 * kl, "{what}: {} {kl}", d.kl);
                let target = text.tokens[at + 1] as usize;
                assert!((f64::from(d.reference) - p[target]).abs() < 1e-4, "{what}");
                assert!((f64::from(d.arm) - q[target]).abs() < 1e-4, "{what}");
                let entropy: f64 = p.iter().map(|p| -p.exp() * p).sum();
                assert!((f64::from(d.entropy) - entropy).abs() < 1e-4, "{what}");
            }
        }
        let scores = block_on(engine.score_all(&texts)).unwrap();
        for (scores, found) in scores.iter().zip(&found[0]) {
            assert!(scores.iter().zip(found).all(|(s, d)| (s - d.reference).abs() < 1e-5), "{}", device.name);
        }
    }
}

/// An arm that is loaded again into the same memory is the arm that it would be if loaded afresh; and 16 states as
/// 16-bit floats are the 16 states that the packed format holds.
#[test]
fn a_replaced_arm_is_what_it_says() {
    let pick = |name: &str| arms(&["f16".to_owned(), name.to_owned()], false, true).unwrap()[1].clone();
    let tokens = ids(&json("tiny/llama-gqa-llama3/reference.json")["ids"]);
    let texts = [Text { tokens, from: 1 }];
    for device in usual_devices() {
        let checkpoint = Checkpoint::open(&locate(&model()).unwrap().weights).unwrap();
        let mut engine = open(device.open(), &model(), packing(16, 64), 1);
        let fresh = [pick("q4:32"), pick("u3:tensor"), pick("u16:32")];
        for arm in
            [&fresh[0], &fresh[1], &arms(&["f16".to_owned(), "q4".to_owned()], false, true).unwrap()[2]]
        {
            engine.add_arm(&checkpoint, &arm.weights(), &mut |_| {}).unwrap();
        }
        let mut floats = fresh[1].weights();
        let again = engine.add_arm(&checkpoint, &floats, &mut |_| {}).unwrap();
        let before = block_on(engine.compare(&texts)).unwrap();
        assert_eq!(before[2], before[again], "{}", device.name);
        let q4 = fresh[2].treatment;
        floats.treatment = Some(std::rc::Rc::new(move |_| q4));
        engine.replace_arm(again, &checkpoint, &floats, &mut |_| {}).unwrap();
        let after = block_on(engine.compare(&texts)).unwrap();
        let (packed, unpacked) = (mean_kl(&after[1][0]), mean_kl(&after[again][0]));
        assert!((packed / unpacked - 1.0).abs() < 0.02, "{}: {packed} {unpacked}", device.name);
        assert!(mean_kl(&after[2][0]) > 2.0 * packed);
        // What is packed otherwise cannot take its place.
        assert!(engine.replace_arm(again, &checkpoint, &fresh[0].weights(), &mut |_| {}).is_err());
    }
}

/// Attention is a distribution over what came before, the same on every device.
#[test]
fn attention_is_read_alike_everywhere() {
    let tokens = ids(&json("tiny/llama-gqa-llama3/reference.json")["ids"]);
    let mut first: Option<Vec<Vec<Vec<Vec<f32>>>>> = None;
    for device in devices() {
        let mut engine = open(device.open(), &model(), packing(16, 64), 1);
        let found = block_on(engine.attention(&tokens)).unwrap();
        for row in found.iter().flatten().flatten() {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        }
        for (row, weights) in found[0][0].iter().enumerate() {
            assert_eq!(weights.len(), row + 1);
        }
        let flat =
            |a: &[Vec<Vec<Vec<f32>>>]| a.iter().flatten().flatten().flatten().copied().collect::<Vec<f32>>();
        let first = first.get_or_insert_with(|| found.clone());
        let worst = flat(first).iter().zip(flat(&found)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 2e-3, "{}: {worst}", device.name);
    }
}

fn infer(args: &[&str]) -> serde_json::Value {
    let out = Command::new(env!("CARGO_BIN_EXE_infer")).args(args).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

/// What must come out comes out: the reference equals itself, 256 states are PRESERVED, weights broken on purpose are
/// CATASTROPHIC. On the device that the demonstration uses too.
#[test]
fn the_controls_come_out_on_the_shipped_model() {
    let tasks = "arithmetic,pointers,tracking";
    let found = infer(&["ab", "-q", "--json", "--modes", "thought", "--tasks", tasks, "-n", "5"]);
    let arm = |name: &str| {
        let comparisons = found["comparisons"].as_array().unwrap();
        comparisons.iter().find(|c| c["arm"] == name).unwrap_or_else(|| panic!("no {name}"))
    };
    let again = arm("f16-again");
    assert_eq!(again["teacher_forced"]["kl"]["max"], 0.0);
    assert_eq!(again["free_running"]["diverged"], 0);
    assert_eq!((&again["overall"]["lost"], &again["overall"]["won"]), (&0.into(), &0.into()));
    assert_eq!(again["overall"]["verdict"], "PRESERVED");
    assert_eq!(arm("q8:32")["overall"]["verdict"], "PRESERVED", "{}", arm("q8:32")["sentence"]);
    assert!(arm("q8:32")["teacher_forced"]["kl"]["mean"].as_f64().unwrap() < 1e-3);
    assert_eq!(arm("broken:32")["overall"]["verdict"], "CATASTROPHIC");
    // The noise is as large as the rounding: it does about as much.
    let kl = |name: &str| arm(name)["teacher_forced"]["kl"]["mean"].as_f64().unwrap();
    assert!((0.2..5.0).contains(&(kl("noise:32") / kl("q4:32"))), "{} {}", kl("noise:32"), kl("q4:32"));
}

/// The same questions on every device, and some of them with features masked on one: replies are equal.
#[test]
fn replies_are_the_same_on_every_device() {
    let mut first: Option<(String, Vec<serde_json::Value>)> = None;
    let masked = devices().into_iter().find(|device| !device.usual());
    for device in usual_devices().into_iter().chain(masked) {
        let dir = tempfile::tempdir().unwrap();
        let report = dir.path().to_str().unwrap();
        let index = device.name.clone();
        let name = index.split(", baseline").next().unwrap();
        let baseline = index.ends_with("baseline");
        let tasks = if baseline { &["arithmetic"][..] } else { &["arithmetic", "tracking"] };
        let asked = tasks.join(",");
        let mut args = vec!["ab", "-q", "--json", "--no-controls", "--tasks", &asked, "-k", "2"];
        args.extend(["-n", "2", "--modes", "thought", "--report", report, "-d", name]);
        if baseline {
            args.push("--baseline");
        }
        infer(&args);
        let mut replies = Vec::new();
        for (task, arm) in tasks.iter().flat_map(|task| [(task, "f16"), (task, "q4-32")]) {
            let samples = dir.path().join(format!("samples_{task}_{arm}.jsonl"));
            let text = std::fs::read_to_string(samples).unwrap();
            replies.extend(
                text.lines()
                    .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["resps"].clone()),
            );
        }
        assert!(!replies.is_empty());
        let (other, expected) = first.get_or_insert_with(|| (device.name.clone(), replies.clone()));
        let differing: Vec<usize> = (0..replies.len()).filter(|&i| replies[i] != expected[i]).collect();
        println!("{} against {other}: {} of {} replies differ", device.name, differing.len(), replies.len());
        assert!(differing.is_empty(), "{} against {other}: {differing:?}", device.name);
    }
}
