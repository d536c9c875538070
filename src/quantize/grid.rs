//! Grids of evenly spaced numbers, and how layouts store them.

use crate::format::Form;
use half::f16;

/// The numbers that codes stand for: `scale · (code − zero)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// Distance of two neighbours.
    pub scale: f32,
    /// The code that stands for 0, not a whole number as a rule.
    pub zero: f32,
}

/// What a layout can store of a grid, besides its scale, which is a 16-bit float.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zeros {
    /// The zero as a 16-bit float.
    Free,
    /// The zero as a code.
    Whole {
        /// The least one that can be stored: some files count from 1.
        least: u8,
    },
    /// Nothing: the zero is the code in the middle, `2^(bits − 1)`.
    Middle,
    /// The number of code 0 as a 16-bit float.
    Offset,
}

/// The greatest zero, as a multiple of the scale: a quarter of what f16 holds, to be safe from rounding.
const MOST_ZERO: f32 = 16_384.0;

impl Zeros {
    /// What codes are counted from then.
    pub fn form(self) -> Form {
        match self {
            Zeros::Free | Zeros::Whole { .. } => Form::Zero,
            Zeros::Middle => Form::Middle,
            Zeros::Offset => Form::Offset,
        }
    }

    /// A grid of `states` numbers that reaches from `low` to `high`, to half a step.
    #[inline(always)]
    pub(super) fn spanning(self, low: f32, high: f32, states: u32) -> Grid {
        let top = (states - 1) as f32;
        match self {
            Zeros::Free | Zeros::Offset => Grid::spanning(low, high, states),
            Zeros::Whole { least } => {
                let Grid { scale, zero } = Grid::spanning(low.min(0.0), high.max(0.0), states);
                // A zero that had to be moved leaves less room above it.
                let moved = zero < f32::from(least) - 0.5;
                let scale = if moved { high.max(0.0) / (top - f32::from(least)) } else { scale };
                Grid { scale, zero: zero.clamp(least.into(), top) }
            }
            Zeros::Middle => Grid { scale: 2.0 * low.abs().max(high.abs()) / top, zero: (states / 2) as f32 },
        }
    }

    /// The two numbers that are stored for a grid: its scale, and its zero or its offset, or 0.
    #[inline(always)]
    pub(super) fn stored(self, grid: Grid, states: u32) -> (f16, f16) {
        let scale = f16::from_f32(grid.scale);
        let second = f16::from_f32(self.second(grid, scale.to_f32(), states));
        // Not −0.
        (scale, if second == f16::ZERO { f16::ZERO } else { second })
    }

    /// The second number that is stored for a grid, before it is rounded; `scale` is the first one, rounded.
    #[inline(always)]
    pub(super) fn second(self, grid: Grid, scale: f32, states: u32) -> f32 {
        match self {
            Zeros::Free if scale == 0.0 => 0.0,
            Zeros::Free => grid.zero,
            Zeros::Whole { least } => round(grid.zero.clamp(least.into(), (states - 1) as f32)),
            Zeros::Middle => 0.0,
            Zeros::Offset => -grid.zero * grid.scale,
        }
    }

    /// The grid of two stored numbers.
    #[inline(always)]
    pub(super) fn grid(self, (scale, second): (f16, f16), states: u32) -> Grid {
        self.read((scale.to_f32(), second.to_f32()), states)
    }

    /// The same for numbers that were rounded to what is stored.
    #[inline(always)]
    pub(super) fn read(self, (scale, second): (f32, f32), states: u32) -> Grid {
        let zero = match self {
            Zeros::Free | Zeros::Whole { .. } => second,
            Zeros::Middle => (states / 2) as f32,
            Zeros::Offset if scale == 0.0 => 0.0,
            Zeros::Offset => -second / scale,
        };
        Grid { scale, zero }
    }

    /// What is left of a grid once it is stored.
    #[inline(always)]
    pub(super) fn held(self, grid: Grid, states: u32) -> Grid {
        self.grid(self.stored(grid, states), states)
    }
}

impl Grid {
    /// The grid of `states` numbers from `low` to `high`.
    #[inline(always)]
    fn spanning(low: f32, high: f32, states: u32) -> Self {
        // A group of (nearly) one value lies at one end of a grid that reaches to 0: the zero of its own range
        // would be beyond what f16 holds.
        let steps = (states - 1) as f32;
        let narrow = (high - low) * MOST_ZERO <= low.abs().max(high.abs()) * steps;
        let (low, high) = if narrow { (low.min(0.0), high.max(0.0)) } else { (low, high) };
        // Not −0.
        let scale = (high - low) / steps + 0.0;
        Grid { scale, zero: if scale > 0.0 { -low / scale } else { 0.0 } }
    }

    /// The code of the number on the grid that is nearest to `w`, `inverse` being [`inverse`] of its scale.
    #[inline(always)]
    pub(super) fn code(self, inverse: f32, top: f32, w: f32) -> f32 {
        round((w * inverse + self.zero).clamp(0.0, top))
    }
}

/// Rounds to the nearest whole number; for |x| < 2^22, in two operations that vectorize.
#[inline(always)]
pub(super) fn round(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0; // 1.5 · 2^23
    (x + SHIFT) - SHIFT
}

/// What weights are multiplied by for a code: a grid of scale 0 has only the one at its zero.
#[inline(always)]
pub(super) fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// Least and greatest of a group.
#[inline(always)]
pub(super) fn range(group: &[f32]) -> (f32, f32) {
    group.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &w| (low.min(w), high.max(w)))
}
