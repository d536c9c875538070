//! What the formats of 16 numbers at uneven distances share: codes, and an f32 scale for each group of columns.

use super::affine::{code, pack_bits};
use super::{TILE_ROWS, Tile};

/// A tile as codes with scales.
pub struct States {
    /// Columns of a group; the last one may be shorter.
    pub group: usize,
    /// `[TILE_ROWS, cols]`, 4 bits each.
    pub codes: Vec<u8>,
    /// `[TILE_ROWS, groups]`
    pub scales: Vec<f32>,
}

impl States {
    /// Room for a tile, all zeros.
    pub fn new(cols: usize, group: usize) -> Self {
        let scales = vec![0.0; TILE_ROWS * cols.div_ceil(group)];
        States { group, codes: vec![0; TILE_ROWS * cols], scales }
    }
}

/// Words of the planes of a tile.
pub(super) fn tile_words(cols: usize, group: usize) -> Vec<usize> {
    vec![TILE_ROWS * cols / 8, TILE_ROWS * cols.div_ceil(group), 16]
}

/// Packs a tile of codes.
pub(super) fn pack(tile: Tile<'_>, cols: usize, group: usize, states: &[f32; 16], planes: &mut [Vec<u32>]) {
    let Tile::States(tile) = tile else { unreachable!("states are packed from their codes") };
    planes.iter_mut().for_each(Vec::clear);
    pack_bits(&tile.codes, cols, 4, |code| code, &mut planes[0]);
    let groups = cols.div_ceil(group);
    for g in 0..groups {
        planes[1].extend((0..TILE_ROWS).map(|row| tile.scales[row * groups + g].to_bits()));
    }
    planes[2].extend(states.iter().map(|state| state.to_bits()));
}

/// Unpacks to numbers.
pub(super) fn unpack(planes: &[&[u32]], cols: usize, group: usize, out: &mut [f32]) {
    for (i, out) in out.iter_mut().enumerate() {
        let (row, col) = (i / cols, i % cols);
        let state = planes[2][code(planes[0], row, col, 4) as usize];
        let scale = planes[1][col / group * TILE_ROWS + row];
        *out = f32::from_bits(scale) * f32::from_bits(state);
    }
}

/// A format of those states.
macro_rules! states_format {
    ($name:literal, $states:expr) => {
        $crate::format::Format {
            name: $name,
            bits: 4,
            kind: $crate::format::Kind::States(&$states),
            planes: &[
                $crate::format::Plane::words("codes"),
                $crate::format::Plane::words("scales"),
                $crate::format::Plane::numbers("states"),
            ],
            tile_words: $crate::format::states::tile_words,
            pack: |tile, cols, group, planes| {
                $crate::format::states::pack(tile, cols, group, &$states, planes)
            },
            unpack: $crate::format::states::unpack,
            dots: None,
            wgsl: &[
                $crate::format::affine::wgsl!("states.wgsl"),
                $crate::format::affine::wgsl!("scaled.wgsl"),
                $crate::format::affine::ROWS,
            ],
        }
    };
}
pub(super) use states_format;

#[cfg(test)]
impl States {
    pub(super) fn test_pattern(cols: usize, group: usize) -> Self {
        let mut states = States::new(cols, group);
        states.codes.iter_mut().enumerate().for_each(|(i, code)| *code = (i * 37 % 251 % 16) as u8);
        states.scales.iter_mut().enumerate().for_each(|(i, scale)| *scale = 0.01 + i as f32 * 1e-5);
        states
    }
}
