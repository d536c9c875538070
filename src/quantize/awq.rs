//! AWQ (arXiv:2306.00978): a column that activations are large in counts for more, so it is multiplied with a factor
//! before rounding, and what it is multiplied with divided by it. Factors are mean |x| to a power that is searched for, by
//! what it does to the products with the activations seen; power 0 is no factors at all, so it is never worse by that.
//! Then each group's range is shrunk as far as the error, columns weighing by their activations, falls ("clipping").
//!
//! Where the division goes (a norm's weight, rows of the matrix before) is for those who know the model.

use super::{
    Calibrated, Coded, Flaw, Quantizer, Sample, Spec, Statistics, finite, held, inverse, mse, weighted,
};
use rayon::prelude::*;

pub const QUANTIZER: Quantizer = Quantizer {
    name: "awq",
    choose: mse::QUANTIZER.choose,
    calibrated: Some(Calibrated { round, factors: Some(factors) }),
};

/// Powers that are tried, in tenths.
const POWERS: [u32; 11] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

fn round(weights: &[f32], shape: [usize; 2], spec: Spec, seen: &Statistics) -> Result<Coded, Flaw> {
    let [rows, cols] = shape;
    if seen.squares.len() != cols || rows * cols == 0 {
        return QUANTIZER.quantize_matrix(weights, shape, spec);
    }
    let mut out = Coded::new(shape, spec);
    grids(weights, &seen.importance(), spec, &mut out)?;
    let groups = out.groups();
    let (scales, zeros, top) = (&out.scales, &out.zeros, (spec.states - 1) as f32);
    out.codes.par_chunks_mut(cols).zip(weights.par_chunks(cols)).enumerate().for_each(
        |(row, (codes, weights))| {
            for (col, (code, &w)) in codes.iter_mut().zip(weights).enumerate() {
                let at = row * groups + col / spec.group;
                let grid = spec.zeros.grid((scales[at], zeros[at]), spec.states);
                *code = grid.code(inverse(grid.scale), top, w) as u8 + spec.shift();
            }
        },
    );
    Ok(out)
}

/// Chooses the groups' grids, each column's squared error counting by its importance.
fn grids(weights: &[f32], importance: &[f32], spec: Spec, out: &mut Coded) -> Result<(), Flaw> {
    let (cols, groups) = (out.cols, out.groups());
    let lines = out.scales.par_chunks_mut(groups).zip(out.zeros.par_chunks_mut(groups));
    lines.zip(weights.par_chunks(cols)).enumerate().try_for_each(|(row, ((scales, zeros), weights))| {
        let parts = weights.chunks(spec.group).zip(importance.chunks(spec.group));
        for (g, (group, importance)) in parts.enumerate() {
            let flaw = |i: usize| Flaw { row, col: g * spec.group + i, value: group[i] };
            finite(group).map_err(flaw)?;
            let grid = weighted::choose(group, importance, spec.states, spec.zeros);
            (scales[g], zeros[g]) = held(grid, group, spec.states, spec.zeros).map_err(flaw)?;
        }
        Ok(())
    })
}

/// The factors of the best power; all 1 where there is nothing to gain.
fn factors(samples: &[Sample], spec: Spec, seen: &Statistics) -> Vec<f32> {
    let cols = seen.cols;
    let mut best = (vec![1.0; cols], f64::INFINITY);
    if cols == 0 || seen.hessian.len() != cols * cols || seen.rows == 0 {
        return best.0;
    }
    for power in POWERS {
        let factors = of_power(&seen.magnitudes, f64::from(power) / 10.0);
        let Some(error) = samples.iter().map(|s| error(s, spec, seen, &factors)).sum::<Option<f64>>() else {
            continue;
        };
        if error < best.1 {
            best = (factors, error);
        }
    }
    best.0
}

/// mean |x| to a power, so that the greatest and the least are as far from 1.
fn of_power(magnitudes: &[f64], power: f64) -> Vec<f32> {
    let total = magnitudes.iter().sum::<f64>() / magnitudes.len().max(1) as f64;
    // Columns that are hardly seen would get factors of next to nothing.
    let raw: Vec<f64> = magnitudes.iter().map(|m| (m / total).max(1e-4).powf(power)).collect();
    let (low, high) = raw.iter().fold((f64::INFINITY, 0.0f64), |(low, high), &f| (low.min(f), high.max(f)));
    let middle = (low * high).sqrt();
    raw.iter().map(|f| if middle > 0.0 && f.is_finite() { (f / middle) as f32 } else { 1.0 }).collect()
}

/// Σ ‖(W − Q(W · s) / s) x‖² over the rows seen; none where the weights cannot be held.
fn error(sample: &Sample, spec: Spec, seen: &Statistics, factors: &[f32]) -> Option<f64> {
    let cols = seen.cols;
    let scaled: Vec<f32> = sample.weights.iter().zip(factors.iter().cycle()).map(|(w, f)| w * f).collect();
    let divided = Statistics {
        squares: seen.squares.iter().zip(factors).map(|(s, &f)| s / f64::from(f).powi(2)).collect(),
        cols,
        ..Statistics::default()
    };
    let coded = round(&scaled, [scaled.len() / cols, cols], spec, &divided).ok()?;
    let off = |(i, (&w, &f)): (usize, (&f32, &f32))| coded.value(i / cols, i % cols) / f - w;
    let errors: Vec<f32> = sample.weights.iter().zip(factors.iter().cycle()).enumerate().map(off).collect();
    Some(seen.output_error(&errors) * sample.share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::Zeros;
    use crate::quantize::statistics::tests::activations;

    fn seen(cols: usize) -> Statistics {
        let mut seen = Statistics::new(cols, true);
        seen.add(&activations(300, cols, 3));
        seen.symmetric()
    }

    /// By the error that it looks at, it is never worse than without factors, and much better where a few columns are
    /// large.
    #[test]
    fn factors_never_cost() {
        let cols = 64;
        let seen = seen(cols);
        let sample = |seed: u64| Sample { weights: activations(16, cols, seed), share: 2.0 };
        for zeros in [Zeros::Whole { least: 0 }, Zeros::Middle, Zeros::Offset] {
            let spec = Spec::new(4, 32, zeros);
            let samples = [sample(1), sample(2)];
            let total = |factors: &[f32]| -> f64 {
                samples.iter().map(|s| error(s, spec, &seen, factors).unwrap()).sum()
            };
            let found = factors(&samples, spec, &seen);
            assert!(found.iter().all(|f| f.is_finite() && *f > 0.0));
            assert!(total(&found) <= total(&vec![1.0; cols]), "{zeros:?}");
        }
        // Weights alike everywhere: factors are what helps the large columns.
        let even = Sample { weights: activations(16, cols, 9).iter().map(|w| w.sin()).collect(), share: 1.0 };
        let spec = Spec::new(4, 32, Zeros::Middle);
        let found = factors(std::slice::from_ref(&even), spec, &seen);
        let (with, without) = (
            error(&even, spec, &seen, &found).unwrap(),
            error(&even, spec, &seen, &vec![1.0; cols]).unwrap(),
        );
        assert!(with < without * 0.8, "{with} {without}");
        assert!(found[3] > found[4] * 1.2, "{found:?}");
    }

    #[test]
    fn nothing_seen_is_no_factors() {
        let spec = Spec::new(4, 32, Zeros::Middle);
        let sample = Sample { weights: activations(4, 64, 1), share: 1.0 };
        let none = factors(&[sample], spec, &Statistics::new(64, true));
        assert_eq!(none, vec![1.0; 64]);
    }
}
