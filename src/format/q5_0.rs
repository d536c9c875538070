//! INT5 around 0, with an f16 scale for each group of columns: GGUF's Q5_0.

use super::affine::affine_format;

/// `w = scale · (code − 16)`, code in 0..=31.
pub const FORMAT: super::Format = affine_format!("q5_0", 5, Middle, [MIDDLE], "q5.wgsl", "rows.wgsl");
