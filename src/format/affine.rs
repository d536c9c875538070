//! What the uniform formats share: integer codes, and a scale and a zero for each group of columns.

use super::{Part, TILE_ROWS, Tile, pair, unpair};
use half::f16;

/// `shaders/format/affine.wgsl`, which comes before the WGSL of each uniform format.
pub(super) const WGSL: Part = ("format/affine.wgsl", include_str!("../../shaders/format/affine.wgsl"));

/// A tile as codes with scales and zeros: `w = scale · (code − zero)`.
pub struct Affine {
    /// Columns of the tile.
    pub cols: usize,
    /// Columns of a group; the last one may be shorter.
    pub group: usize,
    /// `[TILE_ROWS, cols]`
    pub codes: Vec<u8>,
    /// `[TILE_ROWS, groups]`
    pub scales: Vec<f16>,
    /// `[TILE_ROWS, groups]`
    pub zeros: Vec<f16>,
}

impl Affine {
    /// Room for a tile, all zeros.
    pub fn new(cols: usize, group: usize) -> Self {
        let groups = TILE_ROWS * cols.div_ceil(group);
        Affine {
            cols,
            group,
            codes: vec![0; TILE_ROWS * cols],
            scales: vec![f16::ZERO; groups],
            zeros: vec![f16::ZERO; groups],
        }
    }

    /// The number that a code stands for.
    pub fn value(&self, row: usize, col: usize) -> f32 {
        let group = row * self.cols.div_ceil(self.group) + col / self.group;
        self.scales[group].to_f32()
            * (f32::from(self.codes[row * self.cols + col]) - self.zeros[group].to_f32())
    }

    #[cfg(test)]
    pub(super) fn test_pattern(cols: usize, group: usize, bits: u32) -> Self {
        let mut a = Affine::new(cols, group);
        let spread = |i: usize| (i as u32).wrapping_mul(2_654_435_761) >> 8;
        a.codes.iter_mut().enumerate().for_each(|(i, c)| *c = (spread(i) & ((1 << bits) - 1)) as u8);
        a.scales.iter_mut().enumerate().for_each(|(i, s)| *s = f16::from_f32(0.01 + spread(i) as f32 * 1e-9));
        a.zeros.iter_mut().enumerate().for_each(|(i, z)| *z = f16::from_f32((spread(i) % 97) as f32 * 0.16));
        a
    }
}

/// Words of the two planes of a tile: codes, and a scale-and-zero pair a group.
pub(super) fn tile_words(cols: usize, group: usize, bits: u32) -> Vec<usize> {
    vec![TILE_ROWS * cols * bits as usize / 32, TILE_ROWS * cols.div_ceil(group)]
}

/// Packs codes, `32 / bits` neighbouring columns of a row in a word, the first in the low bits.
pub(super) fn pack(tile: Tile<'_>, cols: usize, group: usize, bits: u32, planes: &mut [Vec<u32>]) {
    let Tile::Affine(tile) = tile else { unreachable!("uniform formats pack codes") };
    let (per_word, groups) = (32 / bits as usize, cols.div_ceil(group));
    let [codes, constants] = planes else { unreachable!("two planes") };
    codes.clear();
    constants.clear();
    codes.reserve_exact(TILE_ROWS * cols / per_word);
    constants.reserve_exact(TILE_ROWS * groups);
    for col in (0..cols).step_by(per_word) {
        codes.extend(tile.codes.chunks_exact(cols).map(|row| {
            row[col..col + per_word].iter().rev().fold(0, |word, &code| word << bits | u32::from(code))
        }));
    }
    for g in 0..groups {
        constants
            .extend((0..TILE_ROWS).map(|r| pair(tile.scales[r * groups + g], tile.zeros[r * groups + g])));
    }
}

/// Unpacks to numbers.
pub(super) fn unpack(planes: &[&[u32]], cols: usize, group: usize, bits: u32, out: &mut [f32]) {
    let (per_word, mask) = (32 / bits as usize, (1u32 << bits) - 1);
    for (i, words) in planes[0].chunks_exact(TILE_ROWS).enumerate() {
        let col = i * per_word;
        let constants = &planes[1][col / group * TILE_ROWS..][..TILE_ROWS];
        for (row, (&word, &constant)) in words.iter().zip(constants).enumerate() {
            let [scale, zero] = unpair(constant);
            for (j, w) in out[row * cols + col..][..per_word].iter_mut().enumerate() {
                *w = scale * ((word >> (j as u32 * bits) & mask) as f32 - zero);
            }
        }
    }
}
