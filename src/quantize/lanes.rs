//! The search of `mse` for short groups, several at once: each has a lane of the vector registers, so that nothing is added
//! up across lanes. What a group is given does not depend on its neighbours.
//!
//! Loops over lanes, of arrays in memory, are what compilers make vector instructions of.

use super::{Grid, LONGEST_GROUP, Zeros, inverse};
use half::f16;
use half::slice::HalfFloatSliceExt;

/// Groups that are searched at once: two vector registers of AVX2.
pub const LANES: usize = 16;

/// A number of each group.
type Lanes = [f32; LANES];

/// A grid of each group.
#[derive(Clone, Copy)]
struct Grids {
    scale: Lanes,
    zero: Lanes,
}

/// Shares of the range that are tried. Below 0.7 nothing was ever best on bell-shaped groups of 32 to 128.
const SHARES: [f32; 7] = [1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7];

/// Rounds of refinement of each.
const ROUNDS: usize = 2;

/// Parts that sums are added up in, of every eighth weight each.
const PARTS: usize = 8;

/// Grids for the groups of `group` neighbours, at most [`LANES`] of at most [`LONGEST_GROUP`]; those of lanes without a group
/// mean nothing.
pub fn search(weights: &[f32], group: usize, states: u32, zeros: Zeros) -> [Grid; LANES] {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("f16c") {
        // SAFETY: the processor has AVX2 and F16C.
        return unsafe { search_avx2(weights, group, states, zeros) };
    }
    search_any(weights, group, states, zeros)
}

/// The same operations in the same order: the result is the same to the bit.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
fn search_avx2(weights: &[f32], group: usize, states: u32, zeros: Zeros) -> [Grid; LANES] {
    search_any(weights, group, states, zeros)
}

#[inline(always)]
fn search_any(weights: &[f32], group: usize, states: u32, zeros: Zeros) -> [Grid; LANES] {
    let mut columns = [[0.0; LANES]; LONGEST_GROUP];
    for (lane, weights) in weights.chunks(group).enumerate() {
        for (column, &w) in columns.iter_mut().zip(weights) {
            column[lane] = w;
        }
    }
    let columns = &columns[..group];
    let (mut low, mut high) = (columns[0], columns[0]);
    for w in columns {
        for l in 0..LANES {
            low[l] = low[l].min(w[l]);
            high[l] = high[l].max(w[l]);
        }
    }
    let mut sum = [0.0; LANES];
    for first in 0..PARTS.min(group) {
        let mut part = [0.0; LANES];
        for w in columns[first..].iter().step_by(PARTS) {
            for l in 0..LANES {
                part[l] += w[l];
            }
        }
        add(&mut sum, &part);
    }
    let best = spanning(&low, &high, states, zeros);
    let mut search = Search { columns, sum, states, zeros, best, least: [0.0; LANES] };
    search.least = search.fit(&best).error;
    for share in SHARES {
        let (mut from, mut to) = (low, high);
        for l in 0..LANES {
            let (middle, half) = ((low[l] + high[l]) / 2.0, (high[l] - low[l]) / 2.0);
            (from[l], to[l]) = (middle - half * share, middle + half * share);
        }
        let mut grids = spanning(&from, &to, states, zeros);
        search.descend(grids);
        if zeros == Zeros::Middle {
            for scale in &mut grids.scale {
                *scale = -*scale;
            }
            search.descend(grids);
        }
    }
    if matches!(zeros, Zeros::Whole { .. }) {
        let found = search.held(&search.best);
        for step in [-1.0, 1.0] {
            let mut grids = found;
            for zero in &mut grids.zero {
                *zero += step;
            }
            search.descend(grids);
        }
    }
    let mut out = [Grid { scale: 0.0, zero: 0.0 }; LANES];
    for (l, out) in out.iter_mut().enumerate() {
        *out = search.best.of(l);
    }
    out
}

#[inline(always)]
fn add(sum: &mut Lanes, part: &Lanes) {
    for l in 0..LANES {
        sum[l] += part[l];
    }
}

/// Grids that reach from `low` to `high`.
#[inline(always)]
fn spanning(low: &Lanes, high: &Lanes, states: u32, zeros: Zeros) -> Grids {
    let mut grids = Grids { scale: [0.0; LANES], zero: [0.0; LANES] };
    for l in 0..LANES {
        grids.set(l, zeros.spanning(low[l], high[l], states));
    }
    grids
}

impl Grids {
    #[inline(always)]
    fn of(&self, lane: usize) -> Grid {
        Grid { scale: self.scale[lane], zero: self.zero[lane] }
    }

    #[inline(always)]
    fn set(&mut self, lane: usize, grid: Grid) {
        (self.scale[lane], self.zero[lane]) = (grid.scale, grid.zero);
    }
}

struct Search<'a> {
    /// `[group]`
    columns: &'a [Lanes],
    /// Σ w
    sum: Lanes,
    states: u32,
    zeros: Zeros,
    best: Grids,
    /// Σ (w − ŵ)² of the best.
    least: Lanes,
}

/// What grids do to their groups, and sums for the best line through (code, weight).
struct Fit {
    error: Lanes,
    codes: Lanes,
    codes_squared: Lanes,
    products: Lanes,
    /// Zeros as they are stored.
    zero: Lanes,
}

impl Fit {
    /// Nothing counted yet.
    #[inline(always)]
    fn new(zero: Lanes) -> Self {
        let zeros = [0.0; LANES];
        Fit { error: zeros, codes: zeros, codes_squared: zeros, products: zeros, zero }
    }

    /// Counts a weight of each group. A function of its own, so that compilers know that nothing in it overlaps.
    #[inline(always)]
    fn count(&mut self, w: &Lanes, grids: &Grids, inverses: &Lanes, top: f32) {
        for l in 0..LANES {
            let grid = grids.of(l);
            let code = grid.code(inverses[l], top, w[l]);
            let off = grid.scale * (code - grid.zero) - w[l];
            self.error[l] += off * off;
            self.codes[l] += code;
            self.codes_squared[l] += code * code;
            self.products[l] += code * w[l];
        }
    }
}

impl Search<'_> {
    /// Tries grids and what rounds of refinement make of them.
    #[inline(always)]
    fn descend(&mut self, mut grids: Grids) {
        for round in 0..=ROUNDS {
            let fit = self.fit(&grids);
            for l in 0..LANES {
                let better = fit.error[l] < self.least[l];
                self.best.scale[l] = if better { grids.scale[l] } else { self.best.scale[l] };
                self.best.zero[l] = if better { grids.zero[l] } else { self.best.zero[l] };
                self.least[l] = if better { fit.error[l] } else { self.least[l] };
            }
            if round < ROUNDS {
                self.refine(&fit, &mut grids);
            }
        }
    }

    /// What is left of grids once they are stored: [`Zeros::held`].
    #[inline(always)]
    fn held(&self, grids: &Grids) -> Grids {
        let (mut scale, mut second) = (grids.scale, [0.0; LANES]);
        to_halves(&mut scale);
        for l in 0..LANES {
            second[l] = self.zeros.second(grids.of(l), scale[l], self.states);
        }
        to_halves(&mut second);
        // Not −0.
        second.iter_mut().for_each(|second| *second += 0.0);
        let mut held = *grids;
        for l in 0..LANES {
            held.set(l, self.zeros.read((scale[l], second[l]), self.states));
        }
        held
    }

    #[inline(always)]
    fn fit(&self, grids: &Grids) -> Fit {
        let held = self.held(grids);
        let mut inverses = held.scale;
        for scale in &mut inverses {
            *scale = inverse(*scale);
        }
        let top = (self.states - 1) as f32;
        let mut fit = Fit::new(held.zero);
        for first in 0..PARTS.min(self.columns.len()) {
            let mut part = Fit::new(held.zero);
            for w in self.columns[first..].iter().step_by(PARTS) {
                part.count(w, &held, &inverses, top);
            }
            add(&mut fit.error, &part.error);
            add(&mut fit.codes, &part.codes);
            add(&mut fit.codes_squared, &part.codes_squared);
            add(&mut fit.products, &part.products);
        }
        fit
    }

    /// The least-squares lines w ≈ scale · code + offset, as grids; grids stay as they are where codes do not tell one.
    #[inline(always)]
    fn refine(&self, fit: &Fit, grids: &mut Grids) {
        let n = self.columns.len();
        for l in 0..LANES {
            let [codes, squares, products] = [fit.codes[l], fit.codes_squared[l], fit.products[l]];
            let (found, refined) = match self.zeros {
                Zeros::Free | Zeros::Offset => {
                    let n = n as f32;
                    let spread = squares * n - codes * codes;
                    let scale = (products * n - codes * self.sum[l]) / spread;
                    let offset = (self.sum[l] - scale * codes) / n;
                    // Both above 0. One comparison, of which compilers make a vector instruction.
                    (spread.min(scale) > 0.0, Grid { scale, zero: -offset / scale })
                }
                // Through the zero, which cannot be moved: Σ (code − zero) · w / Σ (code − zero)².
                Zeros::Whole { .. } | Zeros::Middle => {
                    let [codes, squares, products] = [codes, squares, products].map(f64::from);
                    let z = f64::from(fit.zero[l]);
                    let spread = squares - 2.0 * z * codes + z * z * n as f64;
                    let scale = ((products - z * f64::from(self.sum[l])) / spread) as f32;
                    ((spread > 0.0) & (scale != 0.0), Grid { scale, zero: fit.zero[l] })
                }
            };
            grids.scale[l] = if found { refined.scale } else { grids.scale[l] };
            grids.zero[l] = if found { refined.zero } else { grids.zero[l] };
        }
    }
}

/// Rounds to 16 bits.
#[inline(always)]
fn to_halves(numbers: &mut Lanes) {
    let mut halves = [f16::ZERO; LANES];
    halves.convert_from_f32_slice(numbers);
    halves.convert_to_f32_slice(numbers);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Alone in a lane, or among others, in any lane: a group is given the same grid.
        #[test]
        fn neighbours_do_not_matter(
            weights in proptest::collection::vec(-2.0f32..2.0, LANES * 24), shift in -1.0f32..1.0, lane in 0..LANES,
        ) {
            let weights: Vec<f32> = weights.iter().map(|w| w + shift).collect();
            for zeros in [Zeros::Free, Zeros::Whole { least: 1 }, Zeros::Middle, Zeros::Offset] {
                let alone = search(&weights[lane * 24..][..24], 24, 16, zeros)[0];
                prop_assert_eq!(search(&weights, 24, 16, zeros)[lane], alone);
            }
        }

        /// With vector instructions and without.
        #[test]
        fn the_processor_does_not_matter(weights in proptest::collection::vec(-2.0f32..2.0, LANES * 32)) {
            for zeros in [Zeros::Free, Zeros::Whole { least: 0 }, Zeros::Middle, Zeros::Offset] {
                prop_assert_eq!(search(&weights, 32, 16, zeros), search_any(&weights, 32, 16, zeros));
            }
        }
    }
}
