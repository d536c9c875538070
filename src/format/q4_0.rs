//! INT4 around 0, with an f16 scale for each group of columns: GGUF's Q4_0, and other symmetric 4-bit files.

use super::affine::affine_format;

/// `w = scale · (code − 8)`, code in 0..=15.
pub const FORMAT: super::Format = affine_format!("q4_0", 4, Middle, [MIDDLE], "q4.wgsl");
