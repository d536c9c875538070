//! 16-bit floats: two columns of a row in a word.

use super::affine::wgsl;
use super::{Format, Kind, Plane, TILE_ROWS, Tile, pair, unpair};
use half::f16;

/// `w` rounded to IEEE binary16.
pub const FORMAT: Format = Format {
    name: "f16",
    bits: 16,
    kind: Kind::Float,
    planes: &[Plane::words("words")],
    tile_words: |cols, _| vec![TILE_ROWS * cols / 2],
    pack,
    unpack,
    dots: None,
    wgsl: &[wgsl!("f16.wgsl")],
};

fn pack(tile: Tile<'_>, cols: usize, _: usize, planes: &mut [Vec<u32>]) {
    let Tile::Values(values) = tile else { unreachable!("f16 packs plain values") };
    planes[0].clear();
    planes[0].reserve_exact(TILE_ROWS * cols / 2);
    for col in (0..cols).step_by(2) {
        planes[0].extend(
            values.chunks_exact(cols).map(|row| pair(f16::from_f32(row[col]), f16::from_f32(row[col + 1]))),
        );
    }
}

fn unpack(planes: &[&[u32]], cols: usize, _: usize, out: &mut [f32]) {
    for (i, words) in planes[0].chunks_exact(TILE_ROWS).enumerate() {
        for (row, &word) in words.iter().enumerate() {
            out[row * cols + 2 * i..][..2].copy_from_slice(&unpair(word));
        }
    }
}
