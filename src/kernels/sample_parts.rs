//! What [`sample`](super::sample) wants to know of a whole vocabulary, found by many workgroups, each of which walks a part of it.

use super::sample::{Settings, Stage, cases, distance, mass};
use super::twin::{Record, active};
use super::{Access, Invocation, Kernel, NONE, Needs, wgsl};
use std::ops::Range;

pub const GREATEST: Kernel = Kernel {
    name: "sample_greatest",
    wgsl: &[wgsl!("exact.wgsl"), wgsl!("sampling.wgsl"), wgsl!("sample_greatest.wgsl")],
    access: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::ReadWrite,
        Access::ReadWrite,
        Access::ReadWrite,
        Access::ReadWrite,
    ],
    needs: Needs::Nothing,
    twin: greatest_twin,
    cases: || cases(Stage::Greatest),
};

pub const COUNT: Kernel = Kernel {
    name: "sample_count",
    wgsl: &[
        wgsl!("exact.wgsl"),
        wgsl!("sampling.wgsl"),
        wgsl!("bins.wgsl"),
        wgsl!("greatest.wgsl"),
        wgsl!("sample_count.wgsl"),
    ],
    access: &[Access::Read, Access::Read, Access::Read, Access::ReadWrite, Access::ReadWrite],
    needs: Needs::Nothing,
    twin: count_twin,
    cases: || cases(Stage::Count),
};

pub const COLLECT: Kernel = Kernel {
    name: "sample_collect",
    wgsl: &[
        wgsl!("exact.wgsl"),
        wgsl!("sampling.wgsl"),
        wgsl!("greatest.wgsl"),
        wgsl!("sample_collect.wgsl"),
    ],
    access: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::ReadWrite, Access::ReadWrite],
    needs: Needs::Nothing,
    twin: collect_twin,
    cases: || cases(Stage::Collect),
};

/// Words about a part; `PART_WORDS` of `shaders/sampling.wgsl`, as are the next two.
pub(super) const PART_WORDS: usize = 4;

/// Eighths of a logit that are told apart.
pub(super) const STEPS: usize = 256;

/// Most tokens that a cut is decided among.
pub(super) const LIST: usize = 2048;

/// The output of a row in use, as the twins see it.
struct Output<'a> {
    row: Record,
    settings: &'a Settings,
    /// Where its row of logits begins.
    base: usize,
    /// Where what is known of its parts begins.
    parts: usize,
    index: usize,
}

/// The outputs in use, and the parts of a vocabulary.
fn outputs<'a>(
    call: &Invocation<'_>,
    rows: &'a [u32],
    settings: &'a [u32],
) -> (Vec<Output<'a>>, Vec<Range<usize>>) {
    let [vocab, stride, part, parts] = ["VOCAB", "STRIDE", "PART", "PARTS"].map(|c| call.consts.get(c));
    let settings = bytemuck::cast_slice::<u32, Settings>(settings);
    let output = |index| {
        let row = active(rows, index)?;
        let settings = &settings[row.sequence];
        let parts = index * (parts + 1) * PART_WORDS;
        Some(Output { row, settings, base: index * stride, parts, index })
    };
    let of_part = |p: usize| p * part..((p + 1) * part).min(vocab);
    ((0..rows.len() / super::twin::ROW_WORDS).filter_map(output).collect(), (0..parts).map(of_part).collect())
}

fn greatest_twin(mut call: Invocation<'_>) {
    let [rows, settings, history, logits, steps, lists, parts] = call.take();
    let (rows, settings, history) = (rows.words(), settings.words(), history.words());
    let (logits, steps, lists, parts) =
        (logits.floats_mut(), steps.words_mut(), lists.words_mut(), parts.words_mut());
    let [vocab, past] = ["VOCAB", "HISTORY"].map(|c| call.consts.get(c));
    let (outputs, ranges) = outputs(&call, rows, settings);
    for o in outputs {
        let logits = &mut logits[o.base..][..vocab];
        let s = o.settings;
        if s.last > 0 {
            let first = (o.row.position + 1).saturating_sub(s.last as usize);
            let mut met: Vec<u32> = history[o.row.sequence * past..][first..=o.row.position].to_vec();
            met.sort_unstable();
            met.dedup();
            for token in met {
                if let Some(x) = logits.get_mut(token as usize) {
                    *x *= if *x < 0.0 { s.penalty } else { s.inverse_penalty };
                }
            }
        }
        for (range, found) in ranges.iter().zip(parts[o.parts..].chunks_exact_mut(PART_WORDS)) {
            let greatest =
                range.clone().rev().max_by_key(|&i| sort_key(logits[i])).expect("no part is empty");
            found[..2].copy_from_slice(&[sort_key(logits[greatest]), greatest as u32]);
        }
        steps[o.index * 3 * STEPS..][..3 * STEPS].fill(0);
        lists[o.index * (1 + LIST)] = 0;
    }
}

fn count_twin(mut call: Invocation<'_>) {
    let [rows, settings, logits, steps, parts] = call.take();
    let (rows, settings, logits) = (rows.words(), settings.words(), logits.floats());
    let (steps, parts) = (steps.words_mut(), parts.words_mut());
    let vocab = call.consts.get("VOCAB");
    let (outputs, ranges) = outputs(&call, rows, settings);
    for o in outputs.into_iter().filter(|o| o.settings.inverse_temperature > 0.0) {
        let (s, logits) = (o.settings, &logits[o.base..][..vocab]);
        let greatest = greatest(logits);
        if s.cuts(vocab) {
            let steps = &mut steps[o.index * 3 * STEPS..][..3 * STEPS];
            for &x in logits {
                let step = step_of(x, greatest);
                steps[step] += 1;
                if !s.cuts_by_count(vocab) {
                    let mass = mass(x, greatest, 1.0) as u32;
                    steps[STEPS + step] += mass & 0xfff;
                    steps[2 * STEPS + step] += mass >> 12;
                }
            }
            continue;
        }
        for (range, found) in ranges.iter().zip(parts[o.parts..].chunks_exact_mut(PART_WORDS)) {
            let kept = |x: &&f32| distance(**x, greatest, 1.0) <= s.reach;
            let weight = |x: &f32| mass(*x, greatest, s.inverse_temperature);
            put(&mut found[2..], logits[range.clone()].iter().filter(kept).map(weight).sum());
        }
    }
}

fn collect_twin(mut call: Invocation<'_>) {
    let [rows, settings, logits, _, lists, parts] = call.take();
    let (rows, settings, logits) = (rows.words(), settings.words(), logits.floats());
    let (lists, parts) = (lists.words_mut(), parts.words_mut());
    let vocab = call.consts.get("VOCAB");
    let (outputs, ranges) = outputs(&call, rows, settings);
    for o in outputs.into_iter().filter(|o| o.settings.inverse_temperature > 0.0 && o.settings.cuts(vocab)) {
        let (s, logits) = (o.settings, &logits[o.base..][..vocab]);
        let greatest = greatest(logits);
        let by_count = s.cuts_by_count(vocab);
        let weight = |x: f32| if by_count { 0 } else { mass(x, greatest, 1.0) };
        let total: u64 = logits.iter().map(|&x| weight(x)).sum();
        let wanted = ((u128::from(total) * u128::from(s.top_p)) >> 32) as u64;
        // Step by step, by going over all of them.
        let until = |last: usize| logits.iter().filter(move |x| step_of(**x, greatest) <= last);
        let enough = |&last: &usize| match by_count {
            true => until(last).count() >= s.top_k as usize,
            false => until(last).map(|&x| weight(x)).sum::<u64>() > wanted,
        };
        let last = (0..STEPS).find(enough).unwrap_or(STEPS);
        let above = until(last).count();
        let whole = &mut parts[o.parts + ranges.len() * PART_WORDS..][..PART_WORDS];
        whole[0] = above as u32;
        put(&mut whole[2..], total);
        if above <= LIST {
            let list = &mut lists[o.index * (1 + LIST)..][..1 + LIST];
            list[0] = above as u32;
            let kept = (0..vocab).filter(|&i| step_of(logits[i], greatest) <= last);
            list[1..].iter_mut().zip(kept).for_each(|(place, token)| *place = token as u32);
        }
    }
}

/// A number of 64 bits as its low and high words.
fn put(words: &mut [u32], value: u64) {
    words.copy_from_slice(&[value as u32, (value >> 32) as u32]);
}

/// Orders as the floats do; above all others where `x` is not finite.
fn sort_key(x: f32) -> u32 {
    match x.to_bits() {
        _ if !x.is_finite() => NONE,
        bits if bits >> 31 == 1 => !bits,
        bits => bits | 1 << 31,
    }
}

fn greatest(logits: &[f32]) -> f32 {
    logits.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// How far below the greatest logit `x` is, in eighths.
fn step_of(x: f32, greatest: f32) -> usize {
    (distance(x, greatest, 1.0) as usize >> 17).min(STEPS - 1)
}
