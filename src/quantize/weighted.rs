//! The grid with the least squared error where some columns count for more than others: `mse`'s search, with each
//! weight's square multiplied by the importance of its column, as activations tell it.

use super::{Grid, Zeros, inverse, range};

/// Shares of the range that are tried.
const SHARES: [f32; 8] = [1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6];

/// Rounds of refinement of each.
const ROUNDS: usize = 2;

/// The grid of `states` numbers with the least Σ importance · (w − ŵ)².
pub fn choose(group: &[f32], importance: &[f32], states: u32, zeros: Zeros) -> Grid {
    let (low, high) = range(group);
    let (middle, half) = ((low + high) / 2.0, (high - low) / 2.0);
    let search = Search { group, importance, states, zeros };
    let whole = zeros.spanning(low, high, states);
    let mut best = (whole, search.fit(whole).error);
    for share in SHARES {
        let grid = zeros.spanning(middle - half * share, middle + half * share, states);
        search.descend(grid, &mut best);
        if zeros == Zeros::Middle {
            search.descend(Grid { scale: -grid.scale, ..grid }, &mut best);
        }
    }
    if matches!(zeros, Zeros::Whole { .. }) {
        let found = zeros.held(best.0, states);
        search.descend(Grid { zero: found.zero - 1.0, ..found }, &mut best);
        search.descend(Grid { zero: found.zero + 1.0, ..found }, &mut best);
    }
    best.0
}

struct Search<'a> {
    group: &'a [f32],
    importance: &'a [f32],
    states: u32,
    zeros: Zeros,
}

/// What a grid does to a group, and the sums for the best line through (code, weight), all by importance.
struct Fit {
    error: f32,
    /// Σ i, Σ i·code, Σ i·code², Σ i·w, Σ i·code·w
    sums: [f32; 5],
    /// The zero, where it cannot be moved.
    zero: Option<f32>,
}

impl Search<'_> {
    /// Tries a grid and what rounds of refinement make of it.
    fn descend(&self, mut grid: Grid, best: &mut (Grid, f32)) {
        for round in 0..=ROUNDS {
            let fit = self.fit(grid);
            if fit.error < best.1 {
                *best = (grid, fit.error);
            }
            let Some(refined) = fit.refined().filter(|_| round < ROUNDS) else { break };
            grid = refined;
        }
    }

    fn fit(&self, grid: Grid) -> Fit {
        let grid = self.zeros.held(grid, self.states);
        let (inverse, top) = (inverse(grid.scale), (self.states - 1) as f32);
        // In eight partial sums, so that compilers can use vector registers.
        let mut sums = [[0.0f32; 8]; 6];
        let pieces = self.group.chunks(8).zip(self.importance.chunks(8));
        for (weights, importance) in pieces {
            for (lane, (&w, &i)) in weights.iter().zip(importance).enumerate() {
                let code = grid.code(inverse, top, w);
                let off = grid.scale * (code - grid.zero) - w;
                let terms = [i * off * off, i, i * code, i * code * code, i * w, i * code * w];
                sums.iter_mut().zip(terms).for_each(|(sum, term)| sum[lane] += term);
            }
        }
        let [error, sums @ ..] = sums.map(|lanes| lanes.iter().sum::<f32>());
        let fixed = matches!(self.zeros, Zeros::Whole { .. } | Zeros::Middle);
        Fit { error, sums, zero: fixed.then_some(grid.zero) }
    }
}

impl Fit {
    /// The line w ≈ scale · (code − zero) by weighted least squares; none where the codes do not tell one.
    fn refined(&self) -> Option<Grid> {
        let [n, codes, codes_squared, weights, products] = self.sums.map(f64::from);
        if let Some(zero) = self.zero {
            let z = f64::from(zero);
            let spread = codes_squared - 2.0 * z * codes + z * z * n;
            let scale = ((products - z * weights) / spread) as f32;
            return (spread > 0.0 && scale.is_finite() && scale != 0.0).then_some(Grid { scale, zero });
        }
        let spread = codes_squared * n - codes * codes;
        let scale = (products * n - codes * weights) / spread;
        let zero = ((codes - weights / scale) / n) as f32;
        (spread > 0.0 && scale > 0.0 && zero.is_finite()).then_some(Grid { scale: scale as f32, zero })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(grid: Grid, group: &[f32], importance: &[f32], zeros: Zeros) -> f64 {
        let grid = zeros.held(grid, 16);
        let off = |w: f32| grid.scale * (grid.code(inverse(grid.scale), 15.0, w) - grid.zero) - w;
        group.iter().zip(importance).map(|(&w, &i)| f64::from(i) * f64::from(off(w)).powi(2)).sum()
    }

    proptest! {
        /// Never worse than the range, by what it looks at.
        #[test]
        fn never_worse_than_the_range(
            weights in proptest::collection::vec(-2.0f32..2.0, 64),
            importance in proptest::collection::vec(0.01f32..10.0, 64), shift in -1.0f32..1.0,
        ) {
            let weights: Vec<f32> = weights.iter().map(|w| w + shift).collect();
            let (low, high) = range(&weights);
            for zeros in [Zeros::Free, Zeros::Whole { least: 0 }, Zeros::Whole { least: 1 }, Zeros::Middle, Zeros::Offset] {
                let found = error(choose(&weights, &importance, 16, zeros), &weights, &importance, zeros);
                let plain = error(zeros.spanning(low, high, 16), &weights, &importance, zeros);
                prop_assert!(found <= plain * 1.0001 + 1e-9, "{zeros:?}: {found} {plain}");
            }
        }
    }

    /// Outliers that do not matter are given up for those that do.
    #[test]
    fn importance_decides_what_is_given_up() {
        let mut weights: Vec<f32> = (0..64).map(|i| (i as f32 * 0.37).sin()).collect();
        (weights[5], weights[6]) = (1.8, -1.8);
        let mut importance = vec![1.0; 64];
        let zeros = Zeros::Whole { least: 0 };
        importance[5..7].fill(1e-3);
        let given_up = choose(&weights, &importance, 16, zeros);
        importance[5..7].fill(1e3);
        let kept = choose(&weights, &importance, 16, zeros);
        assert!(given_up.scale < kept.scale * 0.8, "{given_up:?} {kept:?}");
    }
}
