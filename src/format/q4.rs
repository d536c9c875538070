//! Uniform INT4, 16 states, with an f16 scale and an f16 zero for each group of columns.

use super::affine::affine_format;

/// `w = scale · (code − zero)`, code in 0..=15.
pub const FORMAT: super::Format = affine_format!("q4", 4, Zero, [PAIR, ZERO], "q4.wgsl");
