//! Quantizers: how scales and codes are chosen for the uniform formats.
//!
//! A quantizer looks at one group of weights at a time and chooses its scale and zero; codes then follow by
//! rounding to the nearest. A quantizer is one file and one line in [`QUANTIZERS`].
//!
//! A [`Treatment`] asks what a set of states does to a matrix apart from any packed format.

mod lloyd;
mod mse;
mod nf4;
mod rtn;
mod treatment;

pub use treatment::{Disturb, Granularity, Loss, Scheme, Treatment};

use crate::format::{Affine, TILE_ROWS};
use half::f16;

/// Every quantizer there is; the first is the default.
pub const QUANTIZERS: &[&Quantizer] = &[&mse::QUANTIZER, &rtn::QUANTIZER];

/// The longest group of a packed format.
pub const LONGEST_GROUP: usize = 128;

/// A way to choose a group's scale and zero.
pub struct Quantizer {
    /// Its name.
    pub name: &'static str,
    /// Scale and zero for a group of finite weights and so many states, before they are rounded to f16.
    pub choose: fn(group: &[f32], states: u32) -> Grid,
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

/// The numbers that codes stand for: `scale · (code − zero)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// Distance of two neighbours.
    pub scale: f32,
    /// The code that stands for 0, not a whole number as a rule.
    pub zero: f32,
}

/// The greatest zero, as a multiple of the scale: a quarter of what f16 holds, to be safe from rounding.
const MOST_ZERO: f32 = 16_384.0;

impl Grid {
    /// The grid of `states` numbers from `low` to `high`.
    fn spanning(low: f32, high: f32, states: u32) -> Self {
        // A group of (nearly) one value lies at one end of a grid that reaches to 0: the zero of its own range
        // would be beyond what f16 holds.
        let steps = (states - 1) as f32;
        let narrow = (high - low) * MOST_ZERO <= low.abs().max(high.abs()) * steps;
        let (low, high) = if narrow { (low.min(0.0), high.max(0.0)) } else { (low, high) };
        let scale = (high - low) / steps;
        Grid { scale, zero: if scale > 0.0 { -low / scale } else { 0.0 } }
    }

    /// The grid as it is stored.
    fn rounded(self) -> (f16, f16) {
        let scale = f16::from_f32(self.scale);
        (scale, if scale == f16::ZERO { f16::ZERO } else { f16::from_f32(self.zero) })
    }
}

/// Rounds to the nearest whole number; for |x| < 2^22, in two operations that vectorize.
#[inline(always)]
fn round(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0; // 1.5 · 2^23
    (x + SHIFT) - SHIFT
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
        let (cols, group, states) = (out.cols, out.group, 1u32 << bits);
        let groups = cols.div_ceil(group);
        let top = (states - 1) as f32;
        for row in 0..TILE_ROWS {
            let weights = &tile[row * cols..][..cols];
            let codes = &mut out.codes[row * cols..][..cols];
            for (g, (weights, codes)) in weights.chunks(group).zip(codes.chunks_mut(group)).enumerate() {
                let flaw = |i: usize| Flaw { row, col: g * group + i, value: weights[i] };
                let (scale, zero) = self.fit(weights, states).map_err(flaw)?;
                out.scales[row * groups + g] = scale;
                out.zeros[row * groups + g] = zero;
                let (inverse, zero) = (inverse(scale.to_f32()), zero.to_f32());
                for (code, &w) in codes.iter_mut().zip(weights) {
                    *code = round((w * inverse + zero).clamp(0.0, top)) as u8;
                }
            }
        }
        Ok(())
    }

    /// Scale and zero of a group as they are stored; else the place of a weight that cannot be held.
    fn fit(&self, group: &[f32], states: u32) -> Result<(f16, f16), usize> {
        finite(group)?;
        let (scale, zero) = (self.choose)(group, states).rounded();
        if scale.is_finite() && zero.is_finite() { Ok((scale, zero)) } else { Err(farthest(group)) }
    }
}

/// What weights are multiplied by for a code: a grid of scale 0 has only the one at its zero.
#[inline(always)]
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
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
    use proptest::prelude::*;

    fn squared_error(quantizer: &Quantizer, weights: &[f32], bits: u32, group: usize) -> f64 {
        let cols = weights.len();
        let mut tile = vec![0.0; TILE_ROWS * cols];
        tile[..cols].copy_from_slice(weights);
        let mut out = Affine::new(cols, group);
        quantizer.quantize(&tile, bits, &mut out).unwrap();
        weights.iter().enumerate().map(|(i, &w)| (f64::from(w) - f64::from(out.value(0, i))).powi(2)).sum()
    }

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
