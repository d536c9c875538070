//! Quantizers: how scales and codes are chosen for the uniform formats.
//!
//! A quantizer looks at each group of weights by itself and chooses its scale and zero; codes then follow by
//! rounding to the nearest. One that is [`Calibrated`] looks at a whole matrix, and at what the matrix is multiplied with
//! ([`Statistics`]). A quantizer is one file and one line in [`QUANTIZERS`].
//!
//! A [`Treatment`] asks what a set of states does to a matrix apart from any packed format.

mod awq;
mod cholesky;
mod gptq;
mod grid;
mod hqq;
mod lanes;
mod lloyd;
mod matrix;
mod mse;
mod nf4;
mod rtn;
mod statistics;
mod treatment;
mod weighted;

pub use grid::{Grid, Zeros};
pub use matrix::Coded;
pub use statistics::Statistics;
pub use treatment::{Disturb, Granularity, Loss, Scheme, Treatment};

use crate::format::Affine;
use grid::{inverse, range};
use half::f16;

/// Every quantizer there is; the first is the default.
pub const QUANTIZERS: &[&Quantizer] =
    &[&mse::QUANTIZER, &rtn::QUANTIZER, &hqq::QUANTIZER, &gptq::QUANTIZER, &awq::QUANTIZER];

/// The longest group of a packed format.
pub const LONGEST_GROUP: usize = 128;

/// A way to choose a group's scale and zero.
pub struct Quantizer {
    /// Its name.
    pub name: &'static str,
    /// The grids of so many states for the groups of so many neighbours of a row of finite weights, before they are rounded to
    /// what can be stored of them. The last group may be shorter.
    pub choose: fn(row: &[f32], group: usize, states: u32, zeros: Zeros) -> Vec<Grid>,
    /// What it does where it is known what a matrix is multiplied with; none where it does not look at that.
    pub calibrated: Option<Calibrated>,
}

/// How a quantizer uses activations.
pub struct Calibrated {
    /// Rounds a matrix `[rows, cols]`.
    pub round: Round,
    /// Factors for the columns of matrices that read the same activations, where they are to be multiplied with any.
    pub factors: Option<Factors>,
}

/// Rounds a matrix `[rows, cols]` by what it is multiplied with.
pub type Round = fn(&[f32], [usize; 2], Spec, &Statistics) -> Result<Coded, Flaw>;

/// Factors `[cols]` by rows of the matrices and what these are multiplied with.
pub type Factors = fn(&[Sample], Spec, &Statistics) -> Vec<f32>;

/// Rows of a matrix.
#[derive(Clone, Debug)]
pub struct Sample {
    /// `[rows, cols]`
    pub weights: Vec<f32>,
    /// How many rows each stands for.
    pub share: f64,
}

/// What a matrix is rounded to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spec {
    /// Bits that a code is stored in, at most 8.
    pub bits: u32,
    /// How many numbers a group has, 2 to 2^bits.
    pub states: u32,
    /// Columns that share a grid.
    pub group: usize,
    /// What can be stored of a grid.
    pub zeros: Zeros,
}

impl Spec {
    /// `2^bits` states in groups of `group`.
    pub fn new(bits: u32, group: usize, zeros: Zeros) -> Self {
        Spec { bits, states: 1 << bits, group, zeros }
    }

    /// What is added to a code in storage: fewer states than codes lie about the middle where that is the zero.
    fn shift(self) -> u8 {
        match self.zeros {
            Zeros::Middle => ((1u32 << self.bits) / 2 - self.states / 2) as u8,
            _ => 0,
        }
    }
}

impl PartialEq for Quantizer {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl std::fmt::Debug for Quantizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Quantizer {
    /// The quantizer called `name`.
    pub fn named(name: &str) -> Option<&'static Quantizer> {
        QUANTIZERS.iter().copied().find(|q| q.name == name)
    }

    /// Quantizes a tile `[TILE_ROWS, cols]` to `2^bits` states.
    ///
    /// # Errors
    /// The row and the column of a weight that is not finite, or of a group whose scale is beyond f16.
    pub fn quantize(&self, tile: &[f32], bits: u32, out: &mut Affine) -> Result<(), Flaw> {
        let (cols, spec) = (out.cols, Spec::new(bits, out.group, Zeros::Free));
        let Affine { codes, scales, zeros, .. } = out;
        self.quantize_rows(tile, cols, spec, Line { codes, scales, zeros })
    }

    /// Quantizes rows `[rows, cols]`.
    fn quantize_rows(&self, weights: &[f32], cols: usize, spec: Spec, out: Line<'_>) -> Result<(), Flaw> {
        // Rows of whole groups lie one behind the other like one long row.
        let whole = cols.is_multiple_of(spec.group);
        let width = if whole { weights.len() } else { cols }.max(1);
        let groups = width.div_ceil(spec.group);
        let constants = out.scales.chunks_mut(groups).zip(out.zeros.chunks_mut(groups));
        let lines = out.codes.chunks_mut(width).zip(weights.chunks(width)).zip(constants);
        for (i, ((codes, weights), (scales, zeros))) in lines.enumerate() {
            self.quantize_row(weights, spec, Line { codes, scales, zeros }).map_err(|(at, value)| {
                let at = i * width + at;
                Flaw { row: at / cols, col: at % cols, value }
            })?;
        }
        Ok(())
    }

    /// Quantizes a row; else the column and the value of a weight that cannot be held.
    fn quantize_row(&self, row: &[f32], spec: Spec, out: Line<'_>) -> Result<(), (usize, f32)> {
        let Spec { states, group, zeros, .. } = spec;
        let (top, shift) = ((states - 1) as f32, spec.shift());
        let grids = (self.choose)(row, group, states, zeros);
        let groups = row.chunks(group).zip(out.codes.chunks_mut(group));
        for (g, ((weights, codes), grid)) in groups.zip(grids).enumerate() {
            let stored = finite(weights).and_then(|()| held(grid, weights, states, zeros));
            let stored = stored.map_err(|i| (g * group + i, weights[i]))?;
            (out.scales[g], out.zeros[g]) = stored;
            let grid = zeros.grid(stored, states);
            let inverse = inverse(grid.scale);
            for (code, &w) in codes.iter_mut().zip(weights) {
                *code = grid.code(inverse, top, w) as u8 + shift;
            }
        }
        Ok(())
    }
}

/// Scale and zero or offset of a group's grid as they are stored; else the place of a weight that cannot be held.
fn held(grid: Grid, group: &[f32], states: u32, zeros: Zeros) -> Result<(f16, f16), usize> {
    let (scale, zero) = zeros.stored(grid, states);
    if scale.is_finite() && zero.is_finite() { Ok((scale, zero)) } else { Err(farthest(group)) }
}

/// The grids of a row's groups by what chooses that of one.
fn each(row: &[f32], group: usize, grid: impl Fn(&[f32]) -> Grid) -> Vec<Grid> {
    row.chunks(group).map(grid).collect()
}

/// Room for a row's codes and, group by group, its constants.
struct Line<'a> {
    codes: &'a mut [u8],
    scales: &'a mut [f16],
    zeros: &'a mut [f16],
}

/// Else the place of the first weight that is not finite.
fn finite(group: &[f32]) -> Result<(), usize> {
    group.iter().position(|w| !w.is_finite()).map_or(Ok(()), Err)
}

/// The place of the weight farthest from 0.
fn farthest(group: &[f32]) -> usize {
    group.iter().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())).map_or(0, |m| m.0)
}

/// A weight that a format cannot hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flaw {
    /// Row within the tile, or the treated matrix.
    pub row: usize,
    /// Column.
    pub col: usize,
    /// The weight.
    pub value: f32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::TILE_ROWS;
    use proptest::prelude::*;

    fn squared_error(quantizer: &Quantizer, weights: &[f32], bits: u32, group: usize) -> f64 {
        let cols = weights.len();
        let mut tile = vec![0.0; TILE_ROWS * cols];
        tile[..cols].copy_from_slice(weights);
        let mut out = Affine::new(cols, group);
        quantizer.quantize(&tile, bits, &mut out).unwrap();
        weights.iter().enumerate().map(|(i, &w)| (f64::from(w) - f64::from(out.value(0, i))).powi(2)).sum()
    }

    const ALL_ZEROS: [Zeros; 5] =
        [Zeros::Free, Zeros::Whole { least: 0 }, Zeros::Whole { least: 1 }, Zeros::Middle, Zeros::Offset];

    proptest! {
        /// The search starts from the plain range, so it never does worse.
        #[test]
        fn mse_is_never_worse_than_rtn(
            weights in proptest::collection::vec(-2.0f32..2.0, 64),
            shift in -1.0f32..1.0, spread in 1e-4f32..1.0, bits in prop_oneof![Just(4u32), Just(8)],
        ) {
            let weights: Vec<f32> = weights.iter().map(|w| w * spread + shift).collect();
            let error = |name| squared_error(Quantizer::named(name).unwrap(), &weights, bits, 32);
            prop_assert!(error("mse") <= error("rtn") * 1.001 + 1e-12);
        }

        /// The same whatever can be stored of a grid; and what is stored is of that kind.
        #[test]
        fn constrained_grids_are_searched_as_well(
            weights in proptest::collection::vec(-2.0f32..2.0, 72),
            shift in -3.0f32..3.0, spread in 1e-3f32..1.0, bits in prop_oneof![Just(4u32), Just(8)],
        ) {
            let weights: Vec<f32> = weights.iter().map(|w| w * spread + shift).collect();
            for zeros in ALL_ZEROS {
                let coded = |name: &str| {
                    Quantizer::named(name).unwrap().quantize_matrix(&weights, [1, 72], Spec::new(bits, 32, zeros)).unwrap()
                };
                let [best, plain] = ["mse", "rtn"].map(coded);
                let (b, p) = (best.squared_error(&weights), plain.squared_error(&weights));
                prop_assert!(b <= p * 1.001 + 1e-9, "{zeros:?}: {b} {p}");
                for coded in [best, plain] {
                    prop_assert!(coded.codes.iter().all(|&code| u32::from(code) < 1 << bits));
                    let stored = coded.zeros.iter().map(|zero| zero.to_f32());
                    let right = |zero: f32| match zeros {
                        Zeros::Whole { least } => zero.fract() == 0.0 && (f32::from(least)..(1 << bits) as f32).contains(&zero),
                        Zeros::Middle => zero == 0.0,
                        Zeros::Free | Zeros::Offset => zero.is_finite(),
                    };
                    prop_assert!(stored.clone().all(right), "{zeros:?}: {:?}", stored.collect::<Vec<_>>());
                }
            }
        }

        /// A group's range is covered to within a step, of its own or of what reaches to 0, and the rounding of
        /// constants.
        #[test]
        fn rtn_is_within_a_step_of_any_kind(
            weights in proptest::collection::vec(-2.0f32..2.0, 32), shift in -3.0f32..3.0,
        ) {
            let weights: Vec<f32> = weights.iter().map(|w| w + shift).collect();
            let (low, high) = range(&weights);
            for zeros in ALL_ZEROS {
                let coded =
                    Quantizer::named("rtn").unwrap().quantize_matrix(&weights, [1, 32], Spec::new(4, 32, zeros)).unwrap();
                let step = match zeros {
                    Zeros::Free | Zeros::Offset => (high - low) / 15.0,
                    Zeros::Whole { .. } => (high.max(0.0) - low.min(0.0)) / 14.0,
                    Zeros::Middle => high.abs().max(low.abs()) / 7.5,
                };
                // Half a step by rounding, and half of one at the ends where the zero was rounded too.
                let most = if matches!(zeros, Zeros::Whole { .. }) { 1.0 } else { 0.5 };
                for (col, &w) in weights.iter().enumerate() {
                    let off = (coded.value(0, col) - w).abs();
                    prop_assert!(off <= step * (most + 0.03) + 3e-3, "{zeros:?}: {off} {step}");
                }
            }
        }

        /// Rounding is to within half a step, and a little for the rounding of scale and zero to f16.
        #[test]
        fn rtn_is_within_half_a_step(weights in proptest::collection::vec(-2.0f32..2.0, 32)) {
            let low = weights.iter().copied().fold(f32::MAX, f32::min);
            let high = weights.iter().copied().fold(f32::MIN, f32::max);
            let error = squared_error(Quantizer::named("rtn").unwrap(), &weights, 4, 32);
            let step = f64::from(high - low) / 15.0;
            prop_assert!(error.sqrt() <= (32.0f64).sqrt() * (step * 0.52 + 1e-6));
        }

        /// Numbers that already lie on a grid of 16, and reach both its ends, are found again, as in a
        /// checkpoint that was rounded before.
        #[test]
        fn mse_finds_a_grid(codes in proptest::collection::vec(0u8..16, 32), zero in 0.0f32..15.0, scale in 0.01f32..1.0) {
            let codes = [&[0, 15], &codes[2..]].concat();
            let (scale, zero) = (f16::from_f32(scale).to_f32(), f16::from_f32(zero).to_f32());
            let weights: Vec<f32> = codes.iter().map(|&c| scale * (f32::from(c) - zero)).collect();
            let error = squared_error(Quantizer::named("mse").unwrap(), &weights, 4, 32);
            prop_assert!(error.sqrt() <= f64::from(scale) * 0.05, "{error} {scale}");
        }
    }

    #[test]
    fn groups_of_one_value_are_exact_or_nearly() {
        for quantizer in QUANTIZERS {
            for value in [0.0f32, 1.0, -3.5, 1e-4, 1000.0, 6e4] {
                let error = squared_error(quantizer, &[value; 32], 4, 32);
                // f16's own rounding of the scale, which below 6e-5 is to a fixed step.
                let each = f64::from(value.abs()) * 1e-3 + 15.0 * 3e-8;
                assert!(error.sqrt() <= each * 32.0f64.sqrt(), "{value}: {error}");
            }
        }
    }

    /// Numbers that a layout can hold are found again: codes, scales and zeros are those that made them.
    #[test]
    fn mse_finds_constrained_grids() {
        for (zeros, zero, other) in [
            (Zeros::Whole { least: 0 }, 3.0, 3.0),
            (Zeros::Whole { least: 1 }, 1.0, 1.0),
            (Zeros::Middle, 8.0, 0.0),
            (Zeros::Offset, 2.5, -0.3125),
        ] {
            for scale in [0.125f32, if zeros == Zeros::Middle { -0.125 } else { 0.125 }] {
                let codes: Vec<u8> = (0..64u8).map(|i| (i * 7 + i / 16) % 16).collect();
                let weights: Vec<f32> = codes.iter().map(|&c| scale * (f32::from(c) - zero)).collect();
                let found =
                    QUANTIZERS[0].quantize_matrix(&weights, [1, 64], Spec::new(4, 32, zeros)).unwrap();
                assert_eq!(found.codes, codes, "{zeros:?}");
                assert_eq!(found.scales, [f16::from_f32(scale); 2], "{zeros:?}");
                assert_eq!(found.zeros, [f16::from_f32(other); 2], "{zeros:?}");
                assert_eq!(found.squared_error(&weights), 0.0);
            }
        }
    }

    #[test]
    fn what_cannot_be_held_is_named() {
        let mut tile = vec![0.0; TILE_ROWS * 64];
        tile[3 * 64 + 40] = f32::NAN;
        let flaw = QUANTIZERS[0].quantize(&tile, 4, &mut Affine::new(64, 32)).unwrap_err();
        assert_eq!((flaw.row, flaw.col), (3, 40));
        tile[3 * 64 + 40] = 3e6;
        let flaw = QUANTIZERS[0].quantize(&tile, 4, &mut Affine::new(64, 32)).unwrap_err();
        assert_eq!((flaw.row, flaw.col, flaw.value), (3, 40, 3e6));
    }
}
