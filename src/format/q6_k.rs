//! GGUF's Q6_K: 6-bit codes around 0, with an f16 scale for 256 columns and, within them, 8 bits of scale for every 16.

use super::affine::{CODES, ROWS, code, pack_bits, wgsl};
use super::{Constant, Format, Kind, Order, Plane, TILE_ROWS, Tile, pair, unpair};
use half::f16;

/// Columns of a block.
const BLOCK: usize = 256;
/// Bytes of a block: low nibbles, high pairs of bits, scales, and f16 d.
const BYTES: usize = 210;

/// `w = d · s · (code − 32)`, code in 0..=63, s in −128..=127.
pub const FORMAT: Format = Format {
    name: "q6_k",
    bits: 6,
    kind: Kind::Blocks { cols: BLOCK, bytes: BYTES, group: 16, constants: &[Constant::Half(208)] },
    planes: &[Plane::words("codes"), Plane::words("high"), Plane::words("scales"), Plane::pairs("d")],
    tile_words: |cols, _| {
        let blocks = cols / BLOCK;
        vec![TILE_ROWS * cols / 8, TILE_ROWS * cols / 16, TILE_ROWS * blocks * 4, TILE_ROWS / 2 * blocks]
    },
    pack,
    unpack,
    dots: Some(Order::Alternating),
    wgsl: &[wgsl!("q6_k.wgsl"), CODES, ROWS],
};

fn pack(tile: Tile<'_>, cols: usize, _: usize, planes: &mut [Vec<u32>]) {
    let Tile::Blocks(bytes) = tile else { unreachable!("q6_k is packed from blocks") };
    let mut codes = Vec::with_capacity(TILE_ROWS * cols);
    for block in bytes.chunks_exact(BYTES) {
        codes.extend((0..BLOCK).map(|i| six_bits(block, i)));
    }
    planes.iter_mut().for_each(Vec::clear);
    pack_bits(&codes, cols, 4, |code| code & 15, &mut planes[0]);
    pack_bits(&codes, cols, 2, |code| code >> 4, &mut planes[1]);
    let row_bytes = cols / BLOCK * BYTES;
    for block in 0..cols / BLOCK {
        let at = |row: usize, byte: usize| bytes[row * row_bytes + block * BYTES + byte];
        for word in 0..4 {
            let scales = |row: usize| std::array::from_fn(|i| at(row, 192 + word * 4 + i));
            planes[2].extend((0..TILE_ROWS).map(|row| u32::from_le_bytes(scales(row))));
        }
        let d = |row: usize| f16::from_le_bytes([at(row, 208), at(row, 209)]);
        planes[3].extend((0..TILE_ROWS).step_by(2).map(|row| pair(d(row), d(row + 1))));
    }
}

/// The code of a column. In each half of the block, four columns 32 apart share a byte of high bits, and two columns
/// 64 apart a byte of low ones.
pub fn six_bits(block: &[u8], i: usize) -> u8 {
    let (half, part, j) = (i / 128, i % 128 / 32, i % 32);
    let low = block[half * 64 + part % 2 * 32 + j] >> (part / 2 * 4) & 15;
    let high = block[128 + half * 32 + j] >> (part * 2) & 3;
    low | high << 4
}

fn unpack(planes: &[&[u32]], cols: usize, _: usize, out: &mut [f32]) {
    for row in 0..TILE_ROWS {
        for block in 0..cols / BLOCK {
            let d = unpair(planes[3][block * TILE_ROWS / 2 + row / 2])[row % 2];
            for s in 0..16 {
                let scales = planes[2][(block * 4 + s / 4) * TILE_ROWS + row].to_le_bytes();
                let scale = d * f32::from(scales[s % 4] as i8);
                for i in 0..16 {
                    let col = block * BLOCK + s * 16 + i;
                    let code = code(planes[0], row, col, 4) | code(planes[1], row, col, 2) << 4;
                    out[row * cols + col] = scale * (code as f32 - 32.0);
                }
            }
        }
    }
}
