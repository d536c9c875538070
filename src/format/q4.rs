//! Uniform INT4, 16 states: eight columns of a row in a word, with an f16 scale and zero for each group of columns.

use super::{Format, Kind, affine};

/// `w = scale · (code − zero)`, code in 0..=15.
pub const FORMAT: Format = Format {
    name: "q4",
    bits: 4,
    kind: Kind::Affine { bits: 4 },
    planes: &["codes", "constants"],
    tile_words: |cols, group| affine::tile_words(cols, group, 4),
    pack: |tile, cols, group, planes| affine::pack(tile, cols, group, 4, planes),
    unpack: |planes, cols, group, out| affine::unpack(planes, cols, group, 4, out),
    wgsl: &[affine::WGSL, ("format/q4.wgsl", include_str!("../../shaders/format/q4.wgsl"))],
};
