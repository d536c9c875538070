//! Chooses the next token on the device.

use super::case::{Builder, Compare};
use super::sample_parts::{self, LIST, PART_WORDS, STEPS};
use super::twin::{ROW_WORDS, active};
use super::{Access, Case, Invocation, Kernel, NONE, Needs, wgsl};
use crate::recording::{Buffer, Consts, Recorder};
use bytemuck::{Pod, Zeroable};

/// The kernel.
pub const KERNEL: Kernel = Kernel {
    name: "sample",
    wgsl: &[
        wgsl!("exact.wgsl"),
        wgsl!("sampling.wgsl"),
        wgsl!("bins.wgsl"),
        wgsl!("greatest.wgsl"),
        wgsl!("sample.wgsl"),
    ],
    access: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::ReadWrite,
        Access::ReadWrite,
    ],
    needs: Needs::Nothing,
    twin,
    cases: || cases(Stage::Choose),
};

/// Lanes of a workgroup, and the logits that it walks of a vocabulary.
#[derive(Clone, Copy, Debug)]
struct Parts {
    wg: usize,
    part: usize,
}

impl Parts {
    /// Of a GPU: a few loads a lane, and workgroups for all its processors.
    const OF_GPU: Parts = Parts { wg: 256, part: 2048 };

    /// Of a processor, where lanes are turns of a loop, each workgroup costs, and there are few threads.
    const OF_SOFTWARE: Parts = Parts { wg: 16, part: 8192 };
}

/// Most parts of a vocabulary.
const MOST_PARTS: usize = 256;

/// Most tokens that the repeat penalty looks back: the kernel compares each with all before it.
const MAX_LAST: u32 = 1024;

/// How a sequence's tokens are chosen, as the kernel reads it. Made from [`Sampling`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Settings {
    pub(super) inverse_temperature: f32,
    pub(super) penalty: f32,
    pub(super) inverse_penalty: f32,
    pub(super) reach: u32,
    pub(super) top_k: u32,
    pub(super) top_p: u32,
    pub(super) last: u32,
    seed_low: u32,
    seed_high: u32,
    unused: [u32; 3],
}

impl Settings {
    /// Whether top-k cuts anything off a vocabulary.
    pub(super) fn cuts_by_count(&self, vocab: usize) -> bool {
        self.top_k > 0 && (self.top_k as usize) < vocab
    }

    /// Whether anything is cut off that needs more than a look at the greatest logit.
    pub(super) fn cuts(&self, vocab: usize) -> bool {
        self.cuts_by_count(vocab) || self.top_p != NONE
    }
}

/// How tokens are chosen. The order is llama.cpp's: repeat penalty, top-k, top-p, min-p, temperature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// 0 takes the likeliest token.
    pub temperature: f32,
    /// Keeps the likeliest so many tokens, and those that tie with the last of them; 0 keeps all.
    pub top_k: u32,
    /// Keeps the likeliest tokens that together have this probability; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens at least this likely, relative to the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Divides positive logits, and multiplies negative ones, of tokens met lately; 1 does nothing.
    pub repeat_penalty: f32,
    /// How many tokens back "lately" goes.
    pub repeat_last: u32,
    /// What the random numbers depend on, beside the position.
    pub seed: u64,
}

impl Sampling {
    /// The likeliest token, always.
    pub const GREEDY: Sampling = Sampling {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repeat_penalty: 1.0,
        repeat_last: 64,
        seed: 0,
    };

    /// What is wrong with the settings, if anything.
    pub fn problem(&self) -> Option<String> {
        let within = |name: &str, value: f32, range: std::ops::RangeInclusive<f32>| {
            (!range.contains(&value))
                .then(|| format!("{name} is {value}, expected {} to {}", range.start(), range.end()))
        };
        within("temperature", self.temperature, 0.0..=1000.0)
            .or(within("top-p", self.top_p, 0.0..=1.0))
            .or(within("min-p", self.min_p, 0.0..=1.0))
            .or(within("repeat penalty", self.repeat_penalty, 0.01..=100.0))
            .or((self.repeat_last > MAX_LAST)
                .then(|| format!("repeat-last-n is {}, expected 0 to {MAX_LAST}", self.repeat_last)))
    }

    /// The same for the kernel. Divisions and logarithms are done here, once, since devices round them
    /// differently.
    pub fn settings(&self) -> Settings {
        let penalizes = self.repeat_penalty != 1.0;
        Settings {
            // Below a hundredth the draw is greedy in all but name.
            inverse_temperature: if self.temperature < 0.01 { 0.0 } else { 1.0 / self.temperature },
            penalty: self.repeat_penalty,
            inverse_penalty: 1.0 / self.repeat_penalty,
            reach: if self.min_p > 0.0 {
                (-f64::from(self.min_p).ln() * 1_048_576.0) as u32
            } else {
                u32::MAX
            },
            top_k: self.top_k,
            top_p: if self.top_p < 1.0 { (f64::from(self.top_p) * 4_294_967_296.0) as u32 } else { NONE },
            last: if penalizes { self.repeat_last } else { 0 },
            seed_low: self.seed as u32,
            seed_high: (self.seed >> 32) as u32,
            unused: [0; 3],
        }
    }
}

/// Where sampling finds and leaves things that outlive a step.
#[derive(Clone, Copy, Debug)]
pub struct SampleState {
    /// `[sequences]` of [`Settings`].
    pub settings: Buffer,
    /// `[sequences, context + 1]` tokens, prompt included.
    pub history: Buffer,
    /// The row table of the step.
    pub rows: Buffer,
}

/// What a vocabulary is walked in parts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Greatest,
    Count,
    Collect,
    Choose,
}

/// What the stages hand on, for so many outputs; see `shaders/sampling.wgsl`.
#[derive(Clone, Copy)]
struct Found {
    /// `[outputs, parts + 1, PART_WORDS]`
    parts: Buffer,
    /// `[outputs, 3, STEPS]`
    steps: Buffer,
    /// `[outputs, 1 + LIST]`
    lists: Buffer,
}

/// What is chosen for, and where it goes.
#[derive(Clone, Copy)]
struct Choice {
    out_rows: Buffer,
    logits: Buffer,
    vocab: usize,
    stride: usize,
    outputs: usize,
    history: usize,
    state: SampleState,
}

impl Recorder<'_> {
    /// Chooses a token for each output row, writes it into the history and the row table.
    /// `logits` is `[outputs, stride]`, of which the first `vocab` columns count; the penalty changes it.
    pub fn sample(
        &mut self,
        out_rows: Buffer,
        logits: Buffer,
        (vocab, stride): (usize, usize),
        outputs: usize,
        history: usize,
        state: SampleState,
    ) {
        let Parts { wg, part } = if self.capabilities.software { Parts::OF_SOFTWARE } else { Parts::OF_GPU };
        let shape = Parts { wg, part: part.max(vocab.div_ceil(MOST_PARTS)) };
        let [parts, steps, lists] = words(outputs, vocab.div_ceil(shape.part));
        let found = Found {
            parts: self.temporary(parts, "parts of the vocabulary"),
            steps: self.temporary(steps, "logits by size"),
            lists: self.temporary(lists, "likely tokens"),
        };
        let choice = Choice { out_rows, logits, vocab, stride, outputs, history, state };
        self.sample_until(Stage::Choose, shape, choice, found);
    }

    /// The stages up to `last`.
    fn sample_until(&mut self, last: Stage, Parts { wg, part }: Parts, choice: Choice, found: Found) {
        let Choice { out_rows, logits, vocab, stride, outputs, history, state } = choice;
        let Found { parts, steps, lists } = found;
        let count = vocab.div_ceil(part);
        let consts = Consts::new().u32("VOCAB", vocab).u32("STRIDE", stride).u32("HISTORY", history);
        let consts = consts.u32("PART", part).u32("PARTS", count).u32("WG", wg);
        let mut stage = |stage: Stage, kernel: &Kernel, buffers: &[Buffer], workgroups: usize| {
            if stage <= last {
                let bindings = [out_rows, state.settings].into_iter().chain(buffers.iter().copied());
                let bindings = bindings.map(Into::into);
                self.dispatch(kernel.name, consts.clone(), bindings, [workgroups, outputs, 1]);
            }
        };
        stage(Stage::Greatest, &sample_parts::GREATEST, &[state.history, logits, steps, lists, parts], count);
        stage(Stage::Count, &sample_parts::COUNT, &[logits, steps, parts], count);
        stage(Stage::Collect, &sample_parts::COLLECT, &[logits, steps, lists, parts], count);
        stage(Stage::Choose, &KERNEL, &[logits, parts, lists, state.history, state.rows], 1);
    }
}

/// Words that the stages need for so many outputs and parts: of [`Found`].
fn words(outputs: usize, parts: usize) -> [usize; 3] {
    [(parts + 1) * PART_WORDS, 3 * STEPS, 1 + LIST].map(|words| outputs * words)
}

/// `e^−x` in units of 2^−24, for `x` in units of 2^−20: `exp_fixed` of `shaders/exact.wgsl`, to the bit.
fn exp_fixed(x: u32) -> u32 {
    const SERIES: [u32; 11] = [
        15,
        219,
        2838,
        32755,
        330_788,
        2_863_360,
        20_654_775,
        119_194_166,
        515_882_496,
        1_488_522_236,
        1 << 31,
    ];
    let product = u64::from(x) * 3_098_164_009;
    let (whole, fraction) = (product >> 51, (product >> 19) & 0xffff_ffff);
    if whole > 24 {
        return 0;
    }
    let sum = SERIES.iter().fold(0u32, |sum, &c| c - ((u64::from(sum) * fraction) >> 32) as u32);
    (sum >> 7).min(1 << 24) >> whole
}

/// Philox2x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
fn philox(counter: [u32; 2], key: u32) -> [u32; 2] {
    let (mut c, mut k) = (counter, key);
    for _ in 0..10 {
        let product = 0xd256_d193 * u64::from(c[0]);
        c = [(product >> 32) as u32 ^ k ^ c[1], product as u32];
        k = k.wrapping_add(0x9e37_79b9);
    }
    c
}

/// How far `x` is below the greatest logit, tempered, in units of 2^−20.
pub(super) fn distance(x: f32, greatest: f32, inverse_temperature: f32) -> u32 {
    (((greatest - x) * inverse_temperature).min(31.0) * 1_048_576.0) as u32
}

/// e^(x − greatest), tempered, in units of 2^−24.
pub(super) fn mass(x: f32, greatest: f32, inverse_temperature: f32) -> u64 {
    u64::from(exp_fixed(distance(x, greatest, inverse_temperature)))
}

/// The kernel's choice by sorting, with wide integers.
fn choose(logits: &[f32], s: &Settings, position: usize) -> u32 {
    if logits.iter().any(|l| !l.is_finite()) {
        return NONE;
    }
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    let greatest = logits[order[0]];
    if s.inverse_temperature <= 0.0 {
        return order[0] as u32;
    }
    let mass = |i: usize, inverse: f32| mass(logits[i], greatest, inverse);
    let ties = |order: &[usize], mut n: usize| {
        while n < order.len() && logits[order[n]].to_bits() == logits[order[n - 1]].to_bits() {
            n += 1;
        }
        n
    };
    if s.top_k > 0 && (s.top_k as usize) < order.len() {
        order.truncate(ties(&order, s.top_k as usize));
    }
    if s.top_p != NONE {
        let total: u64 = order.iter().map(|&i| mass(i, 1.0)).sum();
        let wanted = ((u128::from(total) * u128::from(s.top_p)) >> 32) as u64 + 1;
        let mut sum = 0;
        let enough = order.iter().position(|&i| {
            sum += mass(i, 1.0);
            sum >= wanted
        });
        order.truncate(ties(&order, enough.map_or(order.len(), |i| i + 1)));
    }
    order.retain(|&i| distance(logits[i], greatest, 1.0) <= s.reach);
    order.sort_unstable();
    let total: u64 = order.iter().map(|&i| mass(i, s.inverse_temperature)).sum();
    let random = philox([position as u32, s.seed_high], s.seed_low)[0];
    let mut left = ((u128::from(total) * u128::from(random)) >> 32) as u64;
    for &i in &order {
        let amount = mass(i, s.inverse_temperature);
        if left < amount {
            return i as u32;
        }
        left -= amount;
    }
    unreachable!("a draw is below the total")
}

fn twin(mut call: Invocation<'_>) {
    let [rows, settings, logits, _, _, history, table] = call.take();
    let (rows, settings) = (rows.words(), bytemuck::cast_slice::<u32, Settings>(settings.words()));
    let (logits, history, table) = (logits.floats(), history.words_mut(), table.words_mut());
    let [vocab, stride, past] = ["VOCAB", "STRIDE", "HISTORY"].map(|c| call.consts.get(c));
    for (o, logits) in logits.chunks_exact(stride).enumerate() {
        let Some(row) = active(rows, o) else { continue };
        let token = choose(&logits[..vocab], &settings[row.sequence], row.position);
        history[row.sequence * past + row.position + 1] = token;
        table[row.slot * ROW_WORDS] = token;
        table[row.slot * ROW_WORDS + 1] = row.position as u32 + 1;
    }
}

/// Cases of the stages up to `last`, whose kernel they are for.
pub(super) fn cases(last: Stage) -> Vec<Case> {
    let settings = [
        Sampling::GREEDY,
        Sampling { temperature: 1.0, seed: 1, ..Sampling::GREEDY },
        Sampling {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            seed: u64::MAX,
            ..Sampling::GREEDY
        },
        Sampling { temperature: 1.3, top_p: 0.5, repeat_penalty: 1.3, seed: 3 << 32, ..Sampling::GREEDY },
        Sampling {
            temperature: 2.0,
            top_k: 3,
            repeat_penalty: 0.7,
            repeat_last: 5,
            seed: 4,
            ..Sampling::GREEDY
        },
        Sampling { temperature: 0.1, min_p: 0.3, seed: 5, ..Sampling::GREEDY },
        Sampling { top_k: 7, repeat_penalty: 1.5, ..Sampling::GREEDY },
        Sampling { temperature: 1.0, top_p: 0.0, top_k: 1, ..Sampling::GREEDY },
    ];
    let case = |(vocab, part, wg, spread, flaw): (usize, usize, usize, f32, Option<f32>)| {
        let name =
            format!("vocabulary of {vocab} in parts of {part}, {wg} lanes, spread {spread}, flaw {flaw:?}");
        let mut b = Builder::new(&name);
        let (n, past) = (settings.len(), 81);
        let stride = vocab.next_multiple_of(8);
        let used: Vec<_> = (0..n as u32).map(|i| (7, i * 11, i, NONE)).collect();
        let rows = b.rows(n + 1, &used);
        let table = b.rows(n + 1, &used);
        let own = settings.iter().flat_map(|s| bytemuck::cast::<Settings, [u32; 12]>(s.settings())).collect();
        let settings = b.words("settings", own);
        // Rounded, so that some logits tie.
        let mut x: Vec<f32> =
            (0..(n + 1) * stride).map(|_| (b.normal() * spread * 64.0).round() / 64.0).collect();
        if let Some(flaw) = flaw {
            x[2 * stride + vocab / 2] = flaw;
        }
        let logits = b.floats("logits", &x);
        let tokens = (0..n * past).map(|_| b.random() % vocab as u32).collect();
        let history = b.words("history", tokens);
        // What an earlier step left.
        let [parts, steps, lists] = words(n + 1, vocab.div_ceil(part));
        let parts = b.words("parts", vec![7; parts]);
        let steps = b.words("steps", vec![7; steps]);
        let lists = b.words("lists", vec![7; lists]);
        // What each stage leaves; tokens are collected in no order. Behind a number that is not finite nothing else counts.
        let whole: &[usize] = match last {
            Stage::Greatest => &[logits, steps, lists, parts],
            Stage::Count | Stage::Collect if flaw.is_some() => &[logits],
            Stage::Count => &[steps, parts],
            Stage::Collect => &[parts],
            Stage::Choose => &[history, table],
        };
        whole.iter().for_each(|&buffer| b.compare(buffer, Compare::Exact));
        b.case(name, move |r, buffers| {
            let state =
                SampleState { settings: buffers[settings], history: buffers[history], rows: buffers[table] };
            let choice = Choice {
                out_rows: buffers[rows],
                logits: buffers[logits],
                vocab,
                stride,
                outputs: n + 1,
                history: past,
                state,
            };
            let found = Found { parts: buffers[parts], steps: buffers[steps], lists: buffers[lists] };
            r.sample_until(last, Parts { wg, part }, choice, found);
        })
    };
    let shapes = [
        (3, 2048, 256, 1.0, None),
        (131, 64, 32, 1.0, None),
        (131, 1, 16, 3.0, Some(f32::NAN)),
        (700, 175, 256, 2.0, Some(f32::NEG_INFINITY)),
        (5003, 1000, 256, 3.0, None),
        (5003, 2048, 256, 0.01, None),
        (5003, 8192, 32, 0.01, None),
    ];
    shapes.map(case).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the Random123 library.
    #[test]
    fn philox_gives_the_published_words() {
        assert_eq!(philox([0, 0], 0), [0xff1d_ae59, 0x6cd1_0df2]);
        assert_eq!(philox([u32::MAX; 2], u32::MAX), [0x2c3f_628b, 0xab4f_d7ad]);
        assert_eq!(philox([0x243f_6a88, 0x85a3_08d3], 0x1319_8a2e), [0xdd7c_e038, 0xf62a_4c12]);
    }

    #[test]
    fn the_integer_exponential_is_right_to_a_unit() {
        for x in (0..31 << 20).step_by(1013) {
            let exact = (-f64::from(x) / 1_048_576.0).exp() * 16_777_216.0;
            assert!((f64::from(exp_fixed(x)) - exact).abs() < 1.01, "{x}: {} {exact}", exp_fixed(x));
        }
    }

    /// Frequencies over many positions are the softmax's, within four standard errors.
    #[test]
    fn draws_follow_the_distribution() {
        let logits = [1.0f32, 0.0, 2.0, -1.0, 0.5];
        let total: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
        let s = Sampling { temperature: 1.0, seed: 42, ..Sampling::GREEDY }.settings();
        let mut counts = [0.0f64; 5];
        let n = 20_000;
        (0..n).for_each(|position| counts[choose(&logits, &s, position) as usize] += 1.0);
        for (count, &l) in counts.iter().zip(&logits) {
            let p = f64::from(l).exp() / total;
            let error = (p * (1.0 - p) / n as f64).sqrt();
            assert!((count / n as f64 - p).abs() < 4.0 * error, "{counts:?}");
        }
    }

    #[test]
    fn cuts_keep_what_they_say() {
        let logits: Vec<f32> = (0..50).map(|i| -(i as f32) * 0.1).collect();
        let drawn = |s: Sampling| {
            let s = s.settings();
            (0..5000).map(|p| choose(&logits, &s, p)).max()
        };
        let plain = Sampling { temperature: 1.0, ..Sampling::GREEDY };
        assert_eq!(drawn(Sampling { top_k: 7, ..plain }), Some(6));
        // e^(−0.1 i) ≥ ½ up to i = 6.
        assert_eq!(drawn(Sampling { min_p: 0.5, ..plain }), Some(6));
        // The first n of 50 hold (1 − e^(−0.1 n)) / (1 − e^−5): half of it at n = 6.86.
        assert_eq!(drawn(Sampling { top_p: 0.5, ..plain }), Some(6));
        assert_eq!(drawn(Sampling { top_p: 0.0, ..plain }), Some(0));
    }
}
