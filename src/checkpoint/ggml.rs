//! The block types of GGUF files: how a run of a row's numbers is stored together.
//!
//! Layouts as in ggml's `ggml-common.h` and `ggml-quants.c`; `tests/data/gguf/` has blocks of each type with the numbers
//! that gguf-py reads from them. A row is a whole number of blocks.

use crate::format::Constant::{self, Exponent, Half};
use crate::format::{Form, Format, Kind, Packing, mxfp4, q4_0, q4_1, q4_k, q5_0, q6_k, q8_0};
use half::f16;

/// A block type.
pub struct BlockType {
    /// Its name, as GGUF writes it.
    pub name: &'static str,
    /// Its number in a file.
    pub id: u32,
    /// Numbers in a block.
    pub elements: usize,
    /// Bytes of a block.
    pub bytes: usize,
    /// What its columns share, which a file may have made infinite.
    constants: &'static [Constant],
    /// Reads a block's numbers.
    read: fn(&[u8], &mut [f32]),
    /// The format that holds exactly what the file says.
    native: Option<&'static Format>,
    /// Reads a block's codes, for a format of codes; the result is scale and offset.
    codes: fn(&[u8], &mut [u8]) -> [f16; 2],
}

impl std::fmt::Debug for BlockType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for BlockType {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl BlockType {
    /// The block type of that number.
    pub fn numbered(id: u32) -> Option<&'static BlockType> {
        BLOCK_TYPES.iter().find(|t| t.id == id)
    }

    /// The packing that holds exactly what the file says, where there is one.
    pub fn packing(&self) -> Option<Packing> {
        let format = self.native?;
        let group = match format.kind {
            Kind::Blocks { group, .. } => group,
            _ => self.elements,
        };
        Some(Packing { format, group })
    }

    /// Reads whole blocks.
    ///
    /// # Panics
    /// If `out` is not as long as the blocks are.
    pub fn read(&self, blocks: &[u8], out: &mut [f32]) {
        assert_eq!(
            blocks.len() / self.bytes,
            out.len() / self.elements,
            "as many numbers as there is room for"
        );
        for (block, out) in blocks.chunks_exact(self.bytes).zip(out.chunks_exact_mut(self.elements)) {
            (self.read)(block, out);
        }
    }

    /// A block's codes, its scale and what [`Form`] says of zeros.
    pub fn codes(&self, block: &[u8], codes: &mut [u8]) -> [f16; 2] {
        (self.codes)(block, codes)
    }

    /// Writes a block of codes, which is what [`codes`](Self::codes) reads; none where no such blocks are written here.
    pub fn write(&self, codes: &[u8], [scale, offset]: [f16; 2], out: &mut Vec<u8>) -> Option<()> {
        let halves = |out: &mut Vec<u8>| {
            let (low, high) = codes.split_at(codes.len() / 2);
            out.extend(low.iter().zip(high).map(|(low, high)| low | high << 4));
        };
        match self.name {
            "Q4_0" => {
                out.extend(scale.to_le_bytes());
                halves(out);
            }
            "Q4_1" => {
                out.extend(scale.to_le_bytes());
                out.extend(offset.to_le_bytes());
                halves(out);
            }
            "Q8_0" => {
                out.extend(scale.to_le_bytes());
                out.extend(codes.iter().map(|code| code ^ 128));
            }
            _ => return None,
        }
        Some(())
    }

    /// A constant of the block that is not finite.
    pub fn flaw(&self, block: &[u8]) -> Option<f32> {
        self.constants.iter().find_map(|constant| constant.flaw(block))
    }
}

/// Every block type that can be read.
pub const BLOCK_TYPES: &[BlockType] = &[
    plain(
        "Q4_0",
        2,
        32,
        18,
        &[Half(0)],
        Some(&q4_0::FORMAT),
        |b, out| affine(b, out, Form::Middle, 4, q4),
        q4,
    ),
    plain(
        "Q4_1",
        3,
        32,
        20,
        &[Half(0), Half(2)],
        Some(&q4_1::FORMAT),
        |b, out| affine(b, out, Form::Offset, 4, q4_with_offset),
        q4_with_offset,
    ),
    plain(
        "Q5_0",
        6,
        32,
        22,
        &[Half(0)],
        Some(&q5_0::FORMAT),
        |b, out| affine(b, out, Form::Middle, 5, q5),
        q5,
    ),
    plain(
        "Q5_1",
        7,
        32,
        24,
        &[Half(0), Half(2)],
        None,
        |b, out| affine(b, out, Form::Offset, 5, q5_with_offset),
        q5_with_offset,
    ),
    plain(
        "Q8_0",
        8,
        32,
        34,
        &[Half(0)],
        Some(&q8_0::FORMAT),
        |b, out| affine(b, out, Form::Middle, 8, q8),
        q8,
    ),
    plain("Q2_K", 10, 256, 84, &[Half(80), Half(82)], None, q2_k, none),
    plain("Q3_K", 11, 256, 110, &[Half(108)], None, q3_k, none),
    plain("Q4_K", 12, 256, 144, &[Half(0), Half(2)], Some(&q4_k::FORMAT), q4_k, none),
    plain("Q5_K", 13, 256, 176, &[Half(0), Half(2)], None, q5_k, none),
    plain("Q6_K", 14, 256, 210, &[Half(208)], Some(&q6_k::FORMAT), q6_k, none),
    plain("IQ4_NL", 20, 32, 18, &[Half(0)], None, iq4_nl, none),
    plain("IQ4_XS", 23, 256, 136, &[Half(0)], None, iq4_xs, none),
    plain("MXFP4", 39, 32, 17, &[Exponent(0)], Some(&mxfp4::FORMAT), mxfp4, none),
];

#[allow(clippy::too_many_arguments, reason = "a row of the table above")]
const fn plain(
    name: &'static str,
    id: u32,
    elements: usize,
    bytes: usize,
    constants: &'static [Constant],
    native: Option<&'static Format>,
    read: fn(&[u8], &mut [f32]),
    codes: fn(&[u8], &mut [u8]) -> [f16; 2],
) -> BlockType {
    BlockType { name, id, elements, bytes, constants, read, native, codes }
}

fn half_bits(b: &[u8], at: usize) -> f16 {
    f16::from_le_bytes([b[at], b[at + 1]])
}

fn half(b: &[u8], at: usize) -> f32 {
    half_bits(b, at).to_f32()
}

fn none(_: &[u8], _: &mut [u8]) -> [f16; 2] {
    unreachable!("read as numbers, or packed as blocks")
}

/// Low nibbles are the first half of a block, high ones the second.
fn nibbles(bytes: &[u8], codes: &mut [u8]) {
    let (low, high) = codes.split_at_mut(bytes.len());
    for ((low, high), b) in low.iter_mut().zip(high).zip(bytes) {
        (*low, *high) = (b & 15, b >> 4);
    }
}

fn q4(b: &[u8], codes: &mut [u8]) -> [f16; 2] {
    nibbles(&b[2..18], codes);
    [half_bits(b, 0), f16::ZERO]
}

fn q4_with_offset(b: &[u8], codes: &mut [u8]) -> [f16; 2] {
    nibbles(&b[4..20], codes);
    [half_bits(b, 0), half_bits(b, 2)]
}

/// Nibbles, and 32 fifth bits before them.
fn fifth_bits(b: &[u8], at: usize, codes: &mut [u8]) {
    nibbles(&b[at + 4..at + 20], codes);
    for (i, code) in codes.iter_mut().enumerate() {
        *code |= (b[at + i / 8] >> (i % 8) & 1) << 4;
    }
}

fn q5(b: &[u8], codes: &mut [u8]) -> [f16; 2] {
    fifth_bits(b, 2, codes);
    [half_bits(b, 0), f16::ZERO]
}

fn q5_with_offset(b: &[u8], codes: &mut [u8]) -> [f16; 2] {
    fifth_bits(b, 4, codes);
    [half_bits(b, 0), half_bits(b, 2)]
}

/// With a sign in the file, without one and around 128 here.
fn q8(b: &[u8], codes: &mut [u8]) -> [f16; 2] {
    codes.iter_mut().zip(&b[2..34]).for_each(|(code, b)| *code = b ^ 128);
    [half_bits(b, 0), f16::ZERO]
}

fn affine(b: &[u8], out: &mut [f32], form: Form, bits: u32, codes: fn(&[u8], &mut [u8]) -> [f16; 2]) {
    let mut of_block = [0; 32];
    let constants = codes(b, &mut of_block).map(f16::to_f32);
    for (out, code) in out.iter_mut().zip(of_block) {
        *out = form.value(bits, f32::from(code), constants);
    }
}

/// Sixteen columns share a byte: 4 bits of scale, 4 of offset.
fn q2_k(b: &[u8], out: &mut [f32]) {
    let (d, dmin) = (half(b, 80), half(b, 82));
    for (s, out) in out.chunks_exact_mut(16).enumerate() {
        let (scale, offset) = (d * f32::from(b[s] & 15), dmin * f32::from(b[s] >> 4));
        // In each half of the block, four columns 32 apart share a byte.
        let (half, part, side) = (s / 8, s % 8 / 2, s % 2);
        for (i, out) in out.iter_mut().enumerate() {
            let code = b[16 + half * 32 + side * 16 + i] >> (part * 2) & 3;
            *out = scale * f32::from(code) - offset;
        }
    }
}

/// Two bits of a code, and a third that counts 4 where it is not set; 6 bits of scale for sixteen columns.
fn q3_k(b: &[u8], out: &mut [f32]) {
    let d = half(b, 108);
    let scales = &b[96..108];
    for (s, out) in out.chunks_exact_mut(16).enumerate() {
        let low = if s < 8 { scales[s] & 15 } else { scales[s - 8] >> 4 };
        let high = scales[8 + s % 4] >> (s / 4 * 2) & 3;
        let scale = d * (f32::from(low | high << 4) - 32.0);
        let (half, part, side) = (s / 8, s % 8 / 2, s % 2);
        for (i, out) in out.iter_mut().enumerate() {
            let code = b[32 + half * 32 + side * 16 + i] >> (part * 2) & 3;
            let third = b[side * 16 + i] >> (half * 4 + part) & 1;
            *out = scale * (f32::from(code) - f32::from(4 * (1 - third)));
        }
    }
}

/// Scale and offset of each 32 columns of a Q4_K or Q5_K block.
fn k_constants(b: &[u8], j: usize) -> (f32, f32) {
    let mut packed = [0; 12];
    packed.copy_from_slice(&b[4..16]);
    let (scale, offset) = q4_k::six_bits(&packed, j);
    (half(b, 0) * f32::from(scale), half(b, 2) * f32::from(offset))
}

fn q4_k(b: &[u8], out: &mut [f32]) {
    for (j, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, offset) = k_constants(b, j);
        for (i, out) in out.iter_mut().enumerate() {
            let code = b[16 + j / 2 * 32 + i] >> (j % 2 * 4) & 15;
            *out = scale * f32::from(code) - offset;
        }
    }
}

fn q5_k(b: &[u8], out: &mut [f32]) {
    for (j, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, offset) = k_constants(b, j);
        for (i, out) in out.iter_mut().enumerate() {
            let low = b[48 + j / 2 * 32 + i] >> (j % 2 * 4) & 15;
            let fifth = b[16 + i] >> j & 1;
            *out = scale * f32::from(low | fifth << 4) - offset;
        }
    }
}

fn q6_k(b: &[u8], out: &mut [f32]) {
    let d = half(b, 208);
    for (i, out) in out.iter_mut().enumerate() {
        let scale = d * f32::from(b[192 + i / 16] as i8);
        *out = scale * (f32::from(q6_k::six_bits(b, i)) - 32.0);
    }
}

/// The sixteen states of the IQ4 types.
const IQ4: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

fn table(bytes: &[u8], states: impl Fn(u8) -> f32, out: &mut [f32]) {
    let mut codes = [0; 32];
    nibbles(bytes, &mut codes);
    out.iter_mut().zip(codes).for_each(|(out, code)| *out = states(code));
}

fn iq4_nl(b: &[u8], out: &mut [f32]) {
    let d = half(b, 0);
    table(&b[2..18], |code| d * f32::from(IQ4[usize::from(code)]), out);
}

fn iq4_xs(b: &[u8], out: &mut [f32]) {
    let high = u16::from_le_bytes([b[2], b[3]]);
    for (j, out) in out.chunks_exact_mut(32).enumerate() {
        let scale = u16::from(b[4 + j / 2] >> (j % 2 * 4) & 15) | (high >> (2 * j) & 3) << 4;
        let scale = half(b, 0) * (f32::from(scale) - 32.0);
        table(&b[8 + j * 16..][..16], |code| scale * f32::from(IQ4[usize::from(code)]), out);
    }
}

fn mxfp4(b: &[u8], out: &mut [f32]) {
    let scale = mxfp4::half_scale(b[0]);
    table(&b[1..17], |code| scale * f32::from(mxfp4::E2M1[usize::from(code)]), out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Affine, Codes, TILE_ROWS};

    /// What a device would hold of a tile of random blocks is what the blocks say, bit for bit.
    #[test]
    fn native_packings_hold_exactly_what_the_file_says() {
        let mut state = 1u32;
        let mut random = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let mut native = 0;
        for t in BLOCK_TYPES {
            let Some(packing) = t.packing() else { continue };
            let cols = 2 * t.elements;
            let mut bytes: Vec<u8> = (0..TILE_ROWS * 2 * t.bytes).map(|_| random()).collect();
            for block in bytes.chunks_exact_mut(t.bytes) {
                t.constants.iter().for_each(|c| c.set(block, f32::from(random()) * 0.01 - 1.003));
                assert_eq!(t.flaw(block), None);
            }
            let mut expected = vec![0.0; TILE_ROWS * cols];
            t.read(&bytes, &mut expected);
            let codes = match packing.format.kind {
                Kind::Blocks { .. } => Codes::Blocks(bytes),
                _ => {
                    let mut affine = Affine::new(cols, packing.group);
                    for (i, block) in bytes.chunks_exact(t.bytes).enumerate() {
                        let [scale, other] =
                            t.codes(block, &mut affine.codes[i * t.elements..][..t.elements]);
                        (affine.scales[i], affine.zeros[i]) = (scale, other);
                    }
                    Codes::Affine(affine)
                }
            };
            let mut planes = vec![Vec::new(); packing.format.planes.len()];
            (packing.format.pack)(codes.tile(), cols, packing.group, &mut planes);
            let planes: Vec<&[u32]> = planes.iter().map(Vec::as_slice).collect();
            let mut found = vec![0.0; TILE_ROWS * cols];
            (packing.format.unpack)(&planes, cols, packing.group, &mut found);
            assert_eq!(found, expected, "{}", t.name);
            native += 1;
        }
        assert_eq!(native, 7);
    }

    #[test]
    fn blocks_are_written_as_they_are_read() {
        let mut written = 0;
        for t in BLOCK_TYPES.iter().filter(|t| t.elements == 32) {
            let codes: Vec<u8> =
                (0..32u8).map(|i| i.wrapping_mul(if t.name == "Q8_0" { 37 } else { 7 }) & 15).collect();
            let codes: Vec<u8> =
                if t.name == "Q8_0" { codes.iter().map(|c| c * 16 + 5).collect() } else { codes };
            let offset = if t.name == "Q4_1" { f16::from_f32(-0.75) } else { f16::ZERO };
            let constants = [f16::from_f32(0.25), offset];
            let mut block = Vec::new();
            if t.write(&codes, constants, &mut block).is_none() {
                continue;
            }
            let mut found = [0; 32];
            assert_eq!((block.len(), t.codes(&block, &mut found)), (t.bytes, constants), "{}", t.name);
            assert_eq!(found[..], codes, "{}", t.name);
            written += 1;
        }
        assert_eq!(written, 3);
    }

    #[test]
    fn constants_that_are_not_finite_are_found() {
        for t in BLOCK_TYPES {
            for constant in t.constants {
                let mut block = vec![0; t.bytes];
                assert_eq!(t.flaw(&block), None, "{}", t.name);
                constant.set(&mut block, f32::NEG_INFINITY);
                assert!(t.flaw(&block).is_some(), "{}", t.name);
            }
        }
    }
}
