//! Half-quadratic quantization (Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models", 2023):
//! the zero with the least l_p error, p < 1, so that a few weights far off count for little. The scale is that of the
//! whole range.
//!
//! min over z of φ(w − ŵ(z)), φ being the l_p norm, is split by e, which stands for what is far off:
//! min over z, e of φ(e) + β/2 · ‖w − ŵ(z) − e‖². For a given z, e is the shrunken residual x = w − ŵ,
//! sign(x) · max(0, |x| − |x|^(p−1) / β); for given codes q and e, z is the mean of q − (w − e) / scale; and β grows from
//! round to round. Errors are counted in steps of the grid, so that β means the same for any weights. A zero moves by less
//! than a step, as a rule: where zeros are whole numbers, this comes to rtn.

use super::{Grid, Quantizer, Zeros, each, inverse, range};

pub const QUANTIZER: Quantizer = Quantizer {
    name: "hqq",
    choose: |row, group, states, zeros| each(row, group, |group| choose(group, states, zeros)),
    calibrated: None,
};

/// p of the norm.
pub const P: f32 = 0.7;

/// β at first, and what it is multiplied with in each round.
const BETA: (f32, f32) = (10.0, 1.01);

/// Rounds at most.
const ROUNDS: usize = 20;

fn choose(group: &[f32], states: u32, zeros: Zeros) -> Grid {
    let (low, high) = range(group);
    let start = zeros.spanning(low, high, states);
    if zeros == Zeros::Middle || start.scale == 0.0 {
        // There is no zero to look for.
        return start;
    }
    let (mut best, mut least) = (start, error(group, zeros.held(start, states), states));
    let (mut grid, mut beta) = (start, BETA.0);
    for _ in 0..ROUNDS {
        let next = Grid { zero: moved(group, grid, states, beta), ..grid };
        // Rounding the zero to what can be stored comes last, and tells which was best.
        let found = error(group, zeros.held(next, states), states);
        if found < least {
            (best, least) = (next, found);
        }
        if next.zero == grid.zero {
            break;
        }
        grid = next;
        beta *= BETA.1;
    }
    best
}

/// The zero of the next round.
fn moved(group: &[f32], grid: Grid, states: u32, beta: f32) -> f32 {
    let (inverse, top) = (inverse(grid.scale), (states - 1) as f32);
    let sum: f64 = (group.iter())
        .map(|&w| {
            let code = grid.code(inverse, top, w);
            let step = w * inverse;
            let x = step - (code - grid.zero);
            let e = (x.abs() - x.abs().powf(P - 1.0) / beta).max(0.0).copysign(x);
            f64::from(code - (step - e))
        })
        .sum();
    (sum / group.len() as f64) as f32
}

/// Σ |w − ŵ|^p
fn error(group: &[f32], grid: Grid, states: u32) -> f64 {
    let (inverse, top) = (inverse(grid.scale), (states - 1) as f32);
    let off = |&w: &f32| (grid.scale * (grid.code(inverse, top, w) - grid.zero) - w).abs().powf(P);
    group.iter().map(|w| f64::from(off(w))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::QUANTIZERS;
    use proptest::prelude::*;

    fn norm(name: &str, weights: &[f32], zeros: Zeros) -> f64 {
        let quantizer = QUANTIZERS.iter().find(|q| q.name == name).unwrap();
        let coded = quantizer
            .quantize_matrix(weights, [1, weights.len()], crate::quantize::Spec::new(4, 64, zeros))
            .unwrap();
        weights.iter().enumerate().map(|(i, &w)| f64::from((coded.value(0, i) - w).abs().powf(P))).sum()
    }

    proptest! {
        /// It starts from rtn's grid, so it is never worse in the norm that it looks at.
        #[test]
        fn never_worse_than_rtn(
            weights in proptest::collection::vec(-2.0f32..2.0, 64), shift in -1.0f32..1.0, spread in 1e-3f32..1.0,
        ) {
            let weights: Vec<f32> = weights.iter().map(|w| w * spread + shift).collect();
            for zeros in [Zeros::Free, Zeros::Whole { least: 0 }, Zeros::Whole { least: 1 }, Zeros::Middle, Zeros::Offset] {
                let (hqq, rtn) = (norm("hqq", &weights, zeros), norm("rtn", &weights, zeros));
                prop_assert!(hqq <= rtn * 1.001 + 1e-6, "{zeros:?}: {hqq} {rtn}");
            }
        }
    }

    /// Weights that are nearly all near 0, with a few far from it (a Laplace distribution to the power 3/2).
    #[test]
    fn better_than_rtn_on_heavy_tails() {
        let mut state = 7u64;
        let mut unit = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        let mut weights = Vec::new();
        for _ in 0..64 * 64 {
            let (size, sign) = (-(1.0 - unit()).ln(), unit() - 0.5);
            weights.push(size.powf(1.5).copysign(sign) * 0.02);
        }
        for (zeros, share) in [(Zeros::Free, 0.9), (Zeros::Offset, 0.9)] {
            let (hqq, rtn) = (norm("hqq", &weights, zeros), norm("rtn", &weights, zeros));
            println!("{zeros:?}: {hqq:.4} of {rtn:.4}");
            assert!(hqq < rtn * share, "{zeros:?}: {hqq} {rtn}");
        }
    }
}
