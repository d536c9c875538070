//! A tensor: what a file says of it, and reading its numbers or its codes.

use super::ggml::BlockType;
use super::gguf;
use super::packed::{Packed, Part};
use super::shapes::noise;
use super::weights::{Bytes, Shard};
use crate::format::{Codes, Packing};
use half::slice::HalfFloatSliceExt;
use std::ops::Range;
use std::sync::Arc;

pub use ::safetensors::Dtype;

/// What a file says of one tensor, checked against the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// How its numbers are stored.
    pub encoding: Encoding,
    /// Its dimensions, the slowest first; empty for a single number.
    pub shape: Vec<usize>,
    /// How many numbers it has: the product of `shape`.
    pub elements: usize,
    /// Where its bytes lie in the file.
    pub bytes: Range<usize>,
    /// What the file did to it.
    pub change: Change,
}

/// What GGUF files do to a tensor of a Hugging Face checkpoint, which is undone when it is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    #[default]
    None,
    /// The rows of queries and keys lie in another order, within heads of this size.
    Turned(usize),
    /// Rows of queries, keys and values are all queries, then all keys, then all values, and not head by head: heads, and
    /// their size.
    ByKind(usize, usize),
    /// 1 was added to every number.
    PlusOne,
}

impl TensorInfo {
    /// Bytes that it takes in its files.
    pub fn stored_bytes(&self) -> u64 {
        match &self.encoding {
            Encoding::Packed(packed) => packed.bytes() as u64,
            _ => self.bytes.len() as u64,
        }
    }

    /// What its numbers are, where they are stored one by one.
    pub fn dtype(&self) -> Option<Dtype> {
        match self.encoding {
            Encoding::Plain(dtype) => Some(dtype),
            _ => None,
        }
    }
}

/// How a tensor's numbers are stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Encoding {
    /// One by one.
    Plain(Dtype),
    /// In blocks along a row.
    Blocks(&'static BlockType),
    /// As codes that several tensors of the file hold together.
    Packed(Arc<Packed>),
}

impl Eq for Encoding {}

impl Encoding {
    /// The packing that holds exactly what the file says, where it says codes.
    pub fn packing(&self) -> Option<Packing> {
        match self {
            Encoding::Plain(_) => None,
            Encoding::Blocks(t) => t.packing(),
            Encoding::Packed(packed) => packed.packing.ok(),
        }
    }

    /// Why codes cannot run as they are, where they cannot.
    pub fn obstacle(&self) -> Option<&'static str> {
        match self {
            Encoding::Plain(_) => None,
            Encoding::Blocks(t) => t.packing().is_none().then_some("no kernel reads them"),
            Encoding::Packed(packed) => packed.packing.err(),
        }
    }

    /// Whether its numbers are stored as codes.
    pub fn has_codes(&self) -> bool {
        !matches!(self, Encoding::Plain(_))
    }

    /// Bytes of so many numbers in rows of `cols`, unless they do not fill whole bytes or blocks, or are too many.
    pub fn bytes(&self, elements: usize, cols: usize) -> Option<usize> {
        match self {
            Encoding::Plain(dtype) => {
                let bits = elements.checked_mul(dtype.bitsize())?;
                bits.is_multiple_of(8).then_some(bits / 8)
            }
            Encoding::Blocks(t) => {
                cols.is_multiple_of(t.elements).then_some(())?;
                (elements / t.elements).checked_mul(t.bytes)
            }
            Encoding::Packed(packed) => Some(packed.bytes()),
        }
    }
}

impl std::fmt::Display for Encoding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Encoding::Plain(dtype) => dtype.fmt(f),
            Encoding::Blocks(t) => f.write_str(t.name),
            Encoding::Packed(packed) => f.write_str(&packed.layout.name()),
        }
    }
}

/// A tensor to read from. When it is dropped, the system is told that its part of the file need not stay
/// in memory, so that a checkpoint streams through.
#[derive(Debug)]
pub struct Tensor<'a> {
    pub(super) info: &'a TensorInfo,
    pub(super) bytes: &'a Bytes,
    pub(super) shards: &'a [Shard],
}

/// The bytes of a tensor that is part of a matrix.
pub(super) fn part_of<'a>(shards: &'a [Shard], (shard, info): &(usize, TensorInfo)) -> Part<'a> {
    let bytes = &shards[*shard].bytes[info.bytes.clone()];
    Part { dtype: info.dtype().unwrap_or(Dtype::U8), bytes }
}

impl Tensor<'_> {
    /// What it is.
    pub fn info(&self) -> &TensorInfo {
        self.info
    }

    /// The product of its dimensions but the last: 1 for a vector.
    pub fn rows(&self) -> usize {
        self.info.shape.split_last().map_or(1, |(_, rows)| rows.iter().product())
    }

    /// Its last dimension: 1 for a single number.
    pub fn cols(&self) -> usize {
        self.info.shape.last().copied().unwrap_or(1)
    }

    /// The packing that holds exactly what the file says, where it says codes.
    pub fn packing(&self) -> Option<Packing> {
        self.info.encoding.packing()
    }

    /// The column that stands in each place of a row of codes, where they are not in order.
    pub fn order(&self) -> Option<&Arc<[u32]>> {
        match &self.info.encoding {
            Encoding::Packed(packed) => packed.layout.order(),
            _ => None,
        }
    }

    /// Its numbers as the file has them, where those are they: row by row, of 32 or 16 bits.
    pub fn plain(&self) -> Option<(Dtype, &[u8])> {
        match (&self.info.encoding, self.bytes, self.info.change) {
            (_, Bytes::Noise, _) => None,
            (&Encoding::Plain(dtype), bytes, Change::None) => Some((dtype, &bytes[self.info.bytes.clone()])),
            _ => None,
        }
    }

    /// The row of the file that is row `row` of the matrix.
    fn stored_row(&self, row: usize) -> usize {
        match self.info.change {
            Change::Turned(head_dim) => gguf::stored_row(row, head_dim),
            Change::ByKind(heads, head_dim) => {
                let (head, within) = (row / (3 * head_dim), row % (3 * head_dim));
                (within / head_dim * heads + head) * head_dim + within % head_dim
            }
            _ => row,
        }
    }

    /// Reads the numbers `range`, counted row by row, into `out`. Whether they are finite is not judged.
    ///
    /// # Panics
    /// If `range` reaches beyond the tensor or differs from `out` in length.
    pub fn read_f32(&self, range: Range<usize>, out: &mut [f32]) {
        assert!(
            range.start <= range.end && range.end <= self.info.elements,
            "{range:?} is out of the tensor"
        );
        assert_eq!(range.len(), out.len(), "as many numbers are read as there is room for");
        let turned = matches!(self.info.change, Change::Turned(_) | Change::ByKind(..));
        if !turned && !matches!(self.info.encoding, Encoding::Packed(_)) {
            self.read_stored(range, out);
            if self.info.change == Change::PlusOne {
                out.iter_mut().for_each(|x| *x -= 1.0);
            }
            return;
        }
        // A vector's numbers are its rows.
        let cols = if self.info.shape.len() == 1 { 1 } else { self.cols() };
        let (mut at, mut out) = (range.start, out);
        while !out.is_empty() {
            let (row, col) = (at / cols, at % cols);
            let (now, later) = out.split_at_mut((cols - col).min(out.len()));
            let first = self.stored_row(row) * cols + col;
            self.read_stored(first..first + now.len(), now);
            at += now.len();
            out = later;
        }
    }

    /// The same with rows in the order of the file.
    fn read_stored(&self, range: Range<usize>, out: &mut [f32]) {
        if let Bytes::Noise = self.bytes {
            return noise(self.info, range.start, out);
        }
        let bytes = &self.bytes[self.info.bytes.clone()];
        match &self.info.encoding {
            Encoding::Packed(packed) => {
                let cols = self.cols();
                let (row, col) = (range.start / cols, range.start % cols);
                let parts: Vec<Part<'_>> =
                    packed.parts.iter().map(|part| part_of(self.shards, part)).collect();
                if out.len() == cols {
                    return packed.layout.numbers(&parts, row, out);
                }
                let mut whole = vec![0.0; cols];
                packed.layout.numbers(&parts, row, &mut whole);
                out.copy_from_slice(&whole[col..][..out.len()]);
            }
            &Encoding::Plain(dtype) => {
                let width = dtype.bitsize() / 8;
                read_plain(dtype, &bytes[range.start * width..range.end * width], out);
            }
            Encoding::Blocks(t) => {
                let (first, end) = (range.start / t.elements, range.end.div_ceil(t.elements));
                let blocks = &bytes[first * t.bytes..end * t.bytes];
                if range.start.is_multiple_of(t.elements) && range.end.is_multiple_of(t.elements) {
                    return t.read(blocks, out);
                }
                let mut whole = vec![0.0; (end - first) * t.elements];
                t.read(blocks, &mut whole);
                out.copy_from_slice(&whole[range.start - first * t.elements..][..out.len()]);
            }
        }
    }

    /// Reads the codes of `rows` into `tile`, from its row `at` on. An error is the place and the value of a constant that is
    /// not finite.
    ///
    /// # Panics
    /// If the tensor has no [`packing`](Self::packing), or the tile is not of it.
    pub fn read_codes(
        &self,
        rows: Range<usize>,
        at: usize,
        tile: &mut Codes,
    ) -> Result<(), (usize, usize, f32)> {
        match (&self.info.encoding, tile) {
            (Encoding::Blocks(t), tile) => self.read_blocks(t, rows, at, tile),
            (Encoding::Packed(packed), tile) => {
                let parts: Vec<Part<'_>> =
                    packed.parts.iter().map(|part| part_of(self.shards, part)).collect();
                rows.enumerate().try_for_each(|(i, row)| {
                    let read = packed.layout.codes(&parts, row, at + i, tile);
                    read.map_err(|(col, value)| (row, col, value))
                })
            }
            _ => panic!("{} has no such codes", self.info.name),
        }
    }

    fn read_blocks(
        &self,
        t: &BlockType,
        rows: Range<usize>,
        at: usize,
        tile: &mut Codes,
    ) -> Result<(), (usize, usize, f32)> {
        let bytes = &self.bytes[self.info.bytes.clone()];
        let blocks = self.cols() / t.elements;
        let row_bytes = blocks * t.bytes;
        for (i, row) in rows.enumerate() {
            let stored = &bytes[self.stored_row(row) * row_bytes..][..row_bytes];
            for (g, block) in stored.chunks_exact(t.bytes).enumerate() {
                if let Some(value) = t.flaw(block) {
                    return Err((row, g * t.elements, value));
                }
                if let Codes::Affine(tile) = tile {
                    let place = (at + i) * blocks + g;
                    let codes = &mut tile.codes[place * t.elements..][..t.elements];
                    [tile.scales[place], tile.zeros[place]] = t.codes(block, codes);
                }
            }
            if let Codes::Blocks(tile) = tile {
                tile[(at + i) * row_bytes..][..row_bytes].copy_from_slice(stored);
            }
        }
        Ok(())
    }
}

/// Reads numbers. Nothing says that a tensor is aligned, so they are put together from bytes; compilers make plain
/// loads of this.
fn read_plain(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        Dtype::F32 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = f32::from_le_bytes(*bytes);
            }
        }
        Dtype::BF16 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            }
        }
        Dtype::F16 => {
            // By the slice, because the fast conversions work on several at once.
            let mut halves = [half::f16::ZERO; 512];
            for (out, bytes) in out.chunks_mut(512).zip(bytes.chunks(2 * 512)) {
                let halves = &mut halves[..out.len()];
                for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks().0) {
                    *half = half::f16::from_le_bytes(*bytes);
                }
                halves.convert_to_f32_slice(out);
            }
        }
        dtype => unreachable!("Checkpoint::tensor hands out no {dtype}"),
    }
}

impl Drop for Tensor<'_> {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = self.bytes {
            let bytes = &self.info.bytes;
            // SAFETY: the pages are those of a file, mapped to be read only, so that whatever is read
            // there next, be it through another tensor on the same page, comes from the file again.
            let advised = unsafe {
                map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    bytes.start,
                    bytes.end - bytes.start,
                )
            };
            // Advice that is not taken costs memory, not correctness.
            let _ = advised;
        }
    }
}
