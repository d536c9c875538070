//! INT4 with an f16 scale and an f16 offset for each group of columns: GGUF's Q4_1, and MLX's 4 bits.

use super::affine::affine_format;

/// `w = scale · code + offset`, code in 0..=15.
pub const FORMAT: super::Format = affine_format!("q4_1", 4, Offset, [PAIR, OFFSET], "q4.wgsl");
