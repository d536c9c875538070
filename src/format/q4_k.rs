//! GGUF's Q4_K: 4-bit codes, with an f16 scale and offset for 256 columns and, within them, 6 bits of scale and of
//! offset for every 32.

use super::affine::{CODES, code, pack_bits, wgsl};
use super::{Constant, Format, Kind, Order, Plane, TILE_ROWS, Tile, unpair};

/// Columns of a block.
const BLOCK: usize = 256;
/// Bytes of a block: f16 d and dmin, 12 bytes of 6-bit numbers, then the codes.
const BYTES: usize = 144;

/// `w = d · s · code − dmin · m`, code in 0..=15, s and m in 0..=63.
pub const FORMAT: Format = Format {
    name: "q4_k",
    bits: 4,
    kind: Kind::Blocks {
        cols: BLOCK,
        bytes: BYTES,
        group: 32,
        constants: &[Constant::Half(0), Constant::Half(2)],
    },
    planes: &[Plane::words("codes"), Plane::words("constants")],
    tile_words: |cols, _| vec![TILE_ROWS * cols / 8, TILE_ROWS * cols / BLOCK * 4],
    pack,
    unpack,
    dots: Some(Order::Alternating),
    wgsl: &[wgsl!("q4_k.wgsl"), CODES, wgsl!("q4.wgsl")],
};

fn pack(tile: Tile<'_>, cols: usize, _: usize, planes: &mut [Vec<u32>]) {
    let Tile::Blocks(bytes) = tile else { unreachable!("q4_k is packed from blocks") };
    let mut codes = Vec::with_capacity(TILE_ROWS * cols);
    // Each 32 bytes hold 32 columns in their low nibbles and the next 32 in their high ones.
    for block in bytes.chunks_exact(BYTES) {
        for half in block[16..].chunks_exact(32) {
            codes.extend(half.iter().map(|b| b & 15));
            codes.extend(half.iter().map(|b| b >> 4));
        }
    }
    planes.iter_mut().for_each(Vec::clear);
    pack_bits(&codes, cols, 4, |code| code, &mut planes[0]);
    let row_bytes = cols / BLOCK * BYTES;
    for block in 0..cols / BLOCK {
        for word in 0..4 {
            planes[1].extend(bytes.chunks_exact(row_bytes).map(|row| {
                let at = block * BYTES + word * 4;
                u32::from_le_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]])
            }));
        }
    }
}

/// The 6-bit scale and offset of 32 columns, by their place in the block.
pub fn six_bits(bytes: &[u8; 12], j: usize) -> (u8, u8) {
    match j {
        0..4 => (bytes[j] & 63, bytes[j + 4] & 63),
        _ => (bytes[j + 4] & 15 | bytes[j - 4] >> 6 << 4, bytes[j + 4] >> 4 | bytes[j] >> 6 << 4),
    }
}

fn unpack(planes: &[&[u32]], cols: usize, _: usize, out: &mut [f32]) {
    for row in 0..TILE_ROWS {
        for block in 0..cols / BLOCK {
            let words: [u32; 4] = std::array::from_fn(|i| planes[1][(block * 4 + i) * TILE_ROWS + row]);
            let [d, dmin] = unpair(words[0]);
            let mut packed = [0; 12];
            packed.copy_from_slice(bytemuck::cast_slice(
                &words[1..].iter().map(|w| w.to_le()).collect::<Vec<_>>(),
            ));
            for j in 0..8 {
                let (s, m) = six_bits(&packed, j);
                let (scale, offset) = (d * f32::from(s), dmin * f32::from(m));
                for i in 0..32 {
                    let col = block * BLOCK + j * 32 + i;
                    out[row * cols + col] = scale * code(planes[0], row, col, 4) as f32 - offset;
                }
            }
        }
    }
}
