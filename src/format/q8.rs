//! Uniform INT8, 256 states, with an f16 scale and an f16 zero for each group of columns.

use super::affine::affine_format;

/// `w = scale · (code − zero)`, code in 0..=255.
pub const FORMAT: super::Format = affine_format!("q8", 8, Zero, [PAIR, ZERO], "q8.wgsl");
