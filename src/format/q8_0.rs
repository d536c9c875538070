//! INT8 around 0, with an f16 scale for each group of columns: GGUF's Q8_0, and other symmetric 8-bit files.

use super::affine::affine_format;

/// `w = scale · (code − 128)`, code in 0..=255.
pub const FORMAT: super::Format = affine_format!("q8_0", 8, Middle, [MIDDLE], "q8.wgsl");
