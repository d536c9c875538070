//! MXFP4 of the OCP's microscaling formats: 16 floating point numbers of 4 bits (E2M1), and a power of two for every 32
//! columns.

use super::affine::{ROWS, code, pack_bits, wgsl};
use super::{Constant, Format, Kind, Plane, TILE_ROWS, Tile};

/// Columns of a block.
const BLOCK: usize = 32;
/// Bytes of a block: the exponent, then codes, those of the first half of the columns in the low nibbles.
const BYTES: usize = 17;

/// Twice the states of E2M1's 4-bit codes.
pub const E2M1: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// `w = state · 2^(e − 127)`, states 0, ½, 1, 1½, 2, 3, 4, 6 and their negatives.
pub const FORMAT: Format = Format {
    name: "mxfp4",
    bits: 4,
    kind: Kind::Blocks { cols: BLOCK, bytes: BYTES, group: BLOCK, constants: &[Constant::Exponent(0)] },
    planes: &[Plane::words("codes"), Plane::words("exponents")],
    tile_words: |cols, _| vec![TILE_ROWS * cols / 8, TILE_ROWS * (cols / BLOCK).div_ceil(4)],
    pack,
    unpack,
    dots: None,
    wgsl: &[wgsl!("mxfp4.wgsl"), wgsl!("scaled.wgsl"), ROWS],
};

/// `2^(e − 128)`: half of the scale, because states are counted in halves.
pub fn half_scale(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x20_0000 << e } else { u32::from(e - 1) << 23 })
}

fn pack(tile: Tile<'_>, cols: usize, _: usize, planes: &mut [Vec<u32>]) {
    let Tile::Blocks(bytes) = tile else { unreachable!("mxfp4 is packed from blocks") };
    planes.iter_mut().for_each(Vec::clear);
    let nibbles = bytes.chunks_exact(BYTES).flat_map(|block| {
        let (low, high) = (block[1..].iter().map(|b| b & 15), block[1..].iter().map(|b| b >> 4));
        low.chain(high)
    });
    pack_bits(&nibbles.collect::<Vec<_>>(), cols, 4, |code| code, &mut planes[0]);
    let blocks = cols / BLOCK;
    for first in (0..blocks).step_by(4) {
        planes[1].extend((0..TILE_ROWS).map(|row| {
            let block =
                |i: usize| if first + i < blocks { bytes[(row * blocks + first + i) * BYTES] } else { 0 };
            u32::from_le_bytes(std::array::from_fn(block))
        }));
    }
}

fn unpack(planes: &[&[u32]], cols: usize, _: usize, out: &mut [f32]) {
    for (i, out) in out.iter_mut().enumerate() {
        let (row, col) = (i / cols, i % cols);
        let exponents = planes[1][col / BLOCK / 4 * TILE_ROWS + row].to_le_bytes();
        let state = E2M1[code(planes[0], row, col, 4) as usize];
        *out = half_scale(exponents[col / BLOCK % 4]) * f32::from(state);
    }
}
