//! Findings that never were, for tests: plausible ones, and ones that no run should make.

use crate::experiment::results::{
    ArmInfo, AttentionDrift, Cell, Comparison, Crossover, DeviceInfo, Flip, FreeRunning, Histogram,
    Information, Knee, Law, ModelInfo, PlanInfo, Results, Sensitivity, Slice, Sweep, SweepPoint,
    TeacherForced,
};
use crate::experiment::stats::{Estimate, Judgement, Summary, Verdict};

/// A text that would run, colour a terminal and turn the direction of writing, were it let.
pub const HOSTILE: &str = "</pre><script>alert('&amp;\"')</script>\x1b[31m\u{202e}\0<img src=x onerror=y>";

const TASKS: [&str; 6] = ["arithmetic", "logic", "ordering", "pointers", "recall", "tracking"];

/// An arm: name, role, states, bits, relative error, damage (0 none, 1 all).
type Kind = (&'static str, &'static str, Option<usize>, f64, f64, f64);

const ARMS: [Kind; 7] = [
    ("f16", "reference", None, 16.0, 0.0, 0.0),
    ("q4:32", "asked", Some(16), 4.63, 0.0068, 0.04),
    ("q4:tensor", "asked", Some(16), 4.0, 0.21, 0.45),
    ("f16 again", "control", None, 16.0, 0.0, 0.0),
    ("q8:32", "control", Some(256), 8.63, 2.4e-5, 0.003),
    ("noise", "control", None, 16.0, 0.0068, 0.05),
    ("broken", "control", Some(16), 4.63, 1.7, 0.97),
];

pub fn about(value: f64, half: f64) -> Estimate {
    Estimate { value, low: value - half, high: value + half }
}

fn share(value: f64, n: f64) -> Estimate {
    let value = value.clamp(0.0, 1.0);
    let half = 1.96 * (value * (1.0 - value) / n + 0.25 / n / n).sqrt();
    Estimate { value, low: (value - half).max(0.0), high: (value + half).min(1.0) }
}

fn summary(n: usize, mean: f64) -> Summary {
    let quantiles = [0.0, 0.01, 0.3, 4.0, 12.0, 40.0].map(|q| q * mean);
    Summary { n, mean, rms: mean * 2.0, min: 0.0, quantiles, max: mean * 90.0 }
}

/// Figures that look random and are the same in every run.
fn wobble(seed: usize) -> f64 {
    let mixed = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f64 / f64::from(1u32 << 24)
}

fn verdict(damage: f64) -> Verdict {
    match damage {
        d if d < 0.04 => Verdict::Preserved,
        d if d < 0.06 => Verdict::Inconclusive,
        d if d < 0.6 => Verdict::Degraded,
        _ => Verdict::Catastrophic,
    }
}

pub fn judgement(what: &str, n: usize, damage: f64) -> Judgement {
    let total = n.max(1) as f64;
    let lost = (damage * 0.85 * total) as usize;
    let won = (damage.min(0.3) * 0.3 * total) as usize;
    let difference = (won as f64 - lost as f64) / total;
    let se = ((lost + won) as f64).sqrt() / total;
    Judgement {
        what: what.into(),
        verdict: verdict(damage),
        n,
        reference: share(0.91, total),
        arm: share(0.91 + difference, total),
        chance: 0.1,
        difference: about(difference, 1.96 * se),
        lost,
        won,
        changed: won / 2,
        p: if damage > 0.1 { 3e-9 } else { 0.23 },
        retention: Some(about(1.0 + difference / 0.81, 0.04)),
        margin: 0.03,
        lower_bound: difference - 1.645 * se,
        smallest_visible: (n > 5).then(|| 2.8 * (damage.max(0.01) / total).sqrt()),
    }
}

fn arm(&(name, role, states, bits, relative_error, _): &Kind) -> ArmInfo {
    let description = match states {
        None if name == "noise" => "f16 with Gaussian noise of the size of q4:32's error".to_string(),
        None => "weights as they are".to_string(),
        Some(states) => format!("{states} states in groups of 32 weights"),
    };
    let distinct = states.map_or(11_000.0, |s| s as f64 * 40.0);
    let (name, role) = (name.to_string(), role.to_string());
    ArmInfo { name, description, role, states, distinct, bits, relative_error, embedding: false }
}

fn cells() -> Vec<Cell> {
    let mut out = vec![];
    for (a, (arm, .., damage)) in ARMS.iter().enumerate() {
        for (t, task) in TASKS.iter().enumerate() {
            for steps in 1..=8 {
                for (mode, start, fall) in [("thought", 0.99, 0.012), ("direct", 0.9, 0.11)] {
                    let ideal: f64 = (start - fall * steps as f64 * (1.0 + t as f64 / 3.0)).max(0.1);
                    let spread =
                        if *damage > 0.0 { (wobble(a * 997 + t * 31 + steps) - 0.5) * 0.06 } else { 0.0 };
                    let value =
                        (ideal * (1.0 - damage * (0.4 + 0.12 * steps as f64)) + spread).clamp(0.02, 1.0);
                    let right = (value * 50.0) as usize;
                    let accuracy = share(right as f64 / 50.0, 50.0);
                    let (arm, mode, task) = (arm.to_string(), mode.to_string(), task.to_string());
                    out.push(Cell { arm, mode, task, steps, n: 50, right, accuracy, chance: 0.1 });
                }
            }
        }
    }
    out
}

fn histogram(mean: f64) -> Histogram {
    let edges: Vec<f64> = (-16..=4).map(|e| 10f64.powf(f64::from(e) / 2.0)).collect();
    let centre = if mean > 0.0 { mean.log10() - 0.7 } else { -30.0 };
    let weight = |e: i32| (-((f64::from(e) / 2.0 + 0.25 - centre) / 1.1).powi(2)).exp() * 40_000.0;
    let mut counts: Vec<usize> = (-16..4).map(|e| weight(e) as usize).collect();
    counts[0] += if mean > 0.0 { 800 } else { 60_000 };
    Histogram { edges, counts }
}

fn comparison(&(name, _, _, _, _, damage): &Kind) -> Comparison {
    let kl = damage * damage * 6.0 + damage * 0.9;
    let asked = name.starts_with("q4");
    let tasks = TASKS.iter().enumerate().map(|(i, t)| judgement(t, 400, damage * (0.4 + i as f64 * 0.25)));
    let direct = TASKS.iter().map(|t| judgement(t, 400, damage * 0.8));
    let kept = 1.0 - damage;
    let two = |a: f64, b: f64, c: f64, d: f64, half: f64| {
        [[about(a, half), about(b, half)], [about(c, half), about(d, half)]]
    };
    Comparison {
        arm: name.into(),
        overall: judgement("overall", 2400, damage),
        tasks: tasks.collect(),
        direct: if asked { direct.collect() } else { vec![] },
        sentence: format!(
            "With {name}, the model gets {:.1}% of 2,400 questions right, against 91.0% in FP16: a difference of {:.1} \
             points, where 3 points were allowed.",
            91.0 * kept,
            91.0 * damage
        ),
        teacher_forced: TeacherForced {
            texts: "worked solutions".into(),
            kl: summary(60_000, kl),
            delta_p: summary(60_000, -kl / 9.0),
            same_top: 1.0 - kl.sqrt().min(1.0) * 0.3,
            nll_reference: 0.41,
            nll_arm: 0.41 + kl * 0.9,
            perplexity_ratio: Some(about((kl * 0.9).exp(), 0.01)),
            slices: vec![
                Slice {
                    what: "reference sure (entropy < 0.1 bit)".into(),
                    n: 41_000,
                    kl: kl / 7.0,
                    same_top: 0.999,
                },
                Slice { what: "digits".into(), n: 9_000, kl: kl * 1.4, same_top: 0.93 },
            ],
            kl_histogram: histogram(kl),
        },
        free_running: FreeRunning {
            survival: (0..=32).map(|i| (i * 8, (-(i as f64) * damage * 0.9).exp())).collect(),
            diverged: (2400.0 * (1.0 - (-32.0 * damage * 0.9).exp())) as usize,
            texts: 2400,
            margin_at_divergence: summary(900, 0.07),
            margin_elsewhere: summary(50_000, 0.81),
            length_reference: summary(2400, 96.0),
            length_arm: summary(2400, 96.0 + damage * 80.0),
            cut_off_reference: 3,
            cut_off_arm: 3 + (damage * 400.0) as usize,
            reached_and_lost: (damage * 90.0) as usize,
            reached_and_lost_reference: 7,
            step_error_reference: Some(about(0.012, 0.002)),
            step_error_arm: Some(about(0.012 + damage * 0.1, 0.003)),
            steps_right_reference: 0.97,
            steps_right_arm: 0.97 * kept,
            gain_reference: Some(about(0.41, 0.02)),
            gain_arm: Some(about(0.41 * kept, 0.02)),
            interaction: Some(about(-0.41 * damage, 0.02)),
        },
        crossover: asked.then(|| Crossover {
            n: 2400,
            accuracy: two(0.91, 0.91 - damage * 0.2, 0.91 - damage * 0.7, 0.91 - damage, 0.012),
        }),
        information: Some(Information {
            n: 2400,
            answer_given_thought: two(3.9, 3.8 - damage, 3.7 - 2.0 * damage, 3.6 - 3.5 * damage, 0.08),
            question_in_thought: two(5.2, 5.1 - damage, 5.0 - 1.5 * damage, 4.9 - 3.0 * damage, 0.07),
        }),
        attention: (0..24 * 14)
            .map(|i| AttentionDrift {
                layer: i / 14,
                head: i % 14,
                distance: damage * (0.2 + (i / 14) as f64 / 40.0 + wobble(i) * 0.5),
                entropy_reference: 2.1,
                entropy_arm: 2.2,
            })
            .collect(),
        flips: (0..if asked { 7 } else { 0 }).map(flip).collect(),
    }
}

fn flip(i: usize) -> Flip {
    let shared = "Start with 14. Add 9: 14 + 9 = 23. Double it: 23 * 2 = 46. ".repeat(1 + 4 * (i % 2));
    Flip {
        id: format!("arithmetic-{i:04}"),
        task: "arithmetic".into(),
        steps: 3,
        prompt: "Start with 14, add 9, double the result, take 17 away. What is left?".into(),
        target: "29".into(),
        reference: format!("{shared}Take 17 away: 46 - 17 = 29.\nAnswer: 29"),
        arm: format!("{shared}Take 17 away: 46 - 17 = 39.\nAnswer: 39"),
        common: shared.len() + 24,
        lost: i % 3 != 2,
    }
}

fn model(name: &str, parameters: u64) -> ModelInfo {
    let weights_hash = "9f2c41d07be85a3364f0e1aa71c9d2b85e60417fa92b13c84d7e6a05f3b28c1d".into();
    ModelInfo {
        name: name.into(),
        architecture: "Qwen2ForCausalLM".into(),
        parameters,
        layers: 24,
        weights_hash,
    }
}

fn device() -> DeviceInfo {
    DeviceInfo {
        name: "NVIDIA H100 80GB HBM3".into(),
        backend: "Vulkan".into(),
        driver: "NVIDIA 570.86".into(),
    }
}

/// What a run might find.
pub fn results() -> Results {
    Results {
        version: "0.1.0".into(),
        date: "2026-01-31T12:00:00Z".into(),
        model: model("Qwen/Qwen2.5-1.5B-Instruct", 1_543_714_304),
        device: device(),
        plan: PlanInfo {
            hash: "51d0c3a9e4".into(),
            margin: 0.03,
            seed: 16,
            tasks: TASKS.map(String::from).into(),
            questions: 2400,
            prompts: "few-shot".into(),
            sequences: 64,
        },
        arms: ARMS.iter().map(arm).collect(),
        cells: cells(),
        comparisons: ARMS[1..].iter().map(comparison).collect(),
        limits: vec!["One model, one family of tasks, one device.".into(), "The tasks are synthetic.".into()],
        seconds: 4312.0,
    }
}

/// What a sweep might find.
pub fn sweep() -> Sweep {
    let sizes = [
        ("mini-3M", 3_100_000),
        ("mini-12M", 12_400_000),
        ("mini-50M", 49_800_000),
        ("mini-200M", 201_000_000),
    ];
    let kinds = [
        ("tensor", 0.0, 1.6),
        ("channel", 0.01, 1.25),
        ("128", 0.13, 1.1),
        ("64", 0.25, 1.0),
        ("32", 0.5, 0.9),
    ];
    let mut points = vec![];
    let mut knees = vec![];
    for (m, (name, parameters)) in sizes.into_iter().enumerate() {
        let reference = 0.95 - 0.2 / (m + 1) as f64;
        let (model, accuracy) = (name.to_string(), share(reference, 400.0));
        points.push(SweepPoint {
            model,
            parameters,
            granularity: "tensor".into(),
            states: 0,
            bits: 16.0,
            relative_error: 0.0,
            kl: 0.0,
            nll: 0.4,
            accuracy,
        });
        for (g, (granularity, extra, rough)) in kinds.into_iter().enumerate() {
            for (i, states) in [2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 256].into_iter().enumerate() {
                let relative_error = rough * rough * 2.0 / (states * states) as f64;
                let kl = 40.0 * relative_error.powf(1.1) / (m + 1) as f64
                    * (0.8 + 0.4 * wobble(m * 99 + g * 11 + i));
                points.push(SweepPoint {
                    model: name.into(),
                    parameters,
                    granularity: granularity.into(),
                    states,
                    bits: (states as f64).log2() + extra,
                    relative_error,
                    kl,
                    nll: 0.4 + kl,
                    accuracy: share(reference * (-kl * 2.0).exp(), 400.0),
                });
            }
            let at = 22.0 * rough * rough / (1.0 + m as f64 * 0.5);
            let states = (g != 2 || m != 1).then_some(Estimate { value: at, low: at * 0.75, high: at * 1.4 });
            let below_16 = if at * 1.4 < 16.0 {
                0.99
            } else if at * 0.75 > 16.0 {
                0.01
            } else {
                0.5
            };
            knees.push(Knee { model: name.into(), granularity: granularity.into(), states, below_16 });
        }
    }
    let part = |part: String, i: usize| {
        let only = 0.002 + 0.01 * wobble(i);
        Sensitivity { model: "mini-200M".into(), part, only, all_but: 0.11 - only }
    };
    let layers = (0..12).map(|i| part(format!("layer {i}"), i));
    let matrices = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
    Sweep {
        version: "0.1.0".into(),
        date: "2026-01-31T12:00:00Z".into(),
        device: device(),
        models: sizes.map(|(name, n)| model(name, n)).into(),
        plan_hash: "51d0c3a9e4".into(),
        questions: 400,
        points,
        knees,
        law: Some(Law {
            damage: "KL in nats".into(),
            ln_c: 9.7,
            a: about(0.31, 0.05),
            gamma: about(0.66, 0.04),
            r_squared: 0.962,
            held_out: sizes.map(|(_, n)| (n, -2.1, -2.3)).into(),
        }),
        sensitivity: layers
            .chain(matrices.iter().enumerate().map(|(i, m)| part((*m).into(), 40 + i)))
            .collect(),
        limits: vec!["Rounding to nearest, without calibration.".into()],
    }
}
