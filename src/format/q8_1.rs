//! INT8 with an f16 scale and an f16 offset for each group of columns: MLX's 5, 6 and 8 bits.

use super::affine::affine_format;

/// `w = scale · code + offset`, code in 0..=255.
pub const FORMAT: super::Format = affine_format!("q8_1", 8, Offset, [PAIR, OFFSET], "q8.wgsl");
