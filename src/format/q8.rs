//! Uniform INT8, 256 states: four columns of a row in a word, with an f16 scale and zero for each group of columns.

use super::{Format, Kind, affine};

/// `w = scale · (code − zero)`, code in 0..=255.
pub const FORMAT: Format = Format {
    name: "q8",
    bits: 8,
    kind: Kind::Affine { bits: 8 },
    planes: &["codes", "constants"],
    tile_words: |cols, group| affine::tile_words(cols, group, 8),
    pack: |tile, cols, group, planes| affine::pack(tile, cols, group, 8, planes),
    unpack: |planes, cols, group, out| affine::unpack(planes, cols, group, 8, out),
    wgsl: &[affine::WGSL, ("format/q8.wgsl", include_str!("../../shaders/format/q8.wgsl"))],
};
