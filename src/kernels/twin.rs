//! What a twin is called with.

use crate::format::Packing;
use crate::recording::Consts;

/// A binding of a twin, in 32-bit words.
pub enum Slot<'a> {
    /// Bound for reading.
    Read(&'a [u32]),
    /// Bound for writing.
    Write(&'a mut [u32]),
}

impl<'a> Slot<'a> {
    /// The words of a binding that is only read.
    pub fn words(self) -> &'a [u32] {
        match self {
            Slot::Read(words) => words,
            Slot::Write(words) => words,
        }
    }

    /// The same as floats.
    pub fn floats(self) -> &'a [f32] {
        bytemuck::cast_slice(self.words())
    }

    /// The words of a binding that is written.
    pub fn words_mut(self) -> &'a mut [u32] {
        match self {
            Slot::Write(words) => words,
            Slot::Read(_) => panic!("a twin writes what its kernel binds for reading"),
        }
    }

    /// The same as floats.
    pub fn floats_mut(self) -> &'a mut [f32] {
        bytemuck::cast_slice_mut(self.words_mut())
    }
}

/// One launch of a twin: the same constants and bindings as its kernel's.
pub struct Invocation<'a> {
    /// The constants.
    pub consts: &'a Consts,
    /// Group 0.
    pub bindings: Vec<Slot<'a>>,
    /// Group 1: the planes of one shard of a weight.
    pub planes: Vec<&'a [u32]>,
    /// How those planes are packed.
    pub packing: Option<Packing>,
}

impl<'a> Invocation<'a> {
    /// The bindings of group 0, as many as the kernel declares.
    pub fn take<const N: usize>(&mut self) -> [Slot<'a>; N] {
        let bindings = std::mem::take(&mut self.bindings);
        bindings.try_into().unwrap_or_else(|b: Vec<_>| panic!("a twin takes {N} bindings, not {}", b.len()))
    }

    /// Unpacks one tile of the weight into `[TILE_ROWS, cols]`.
    pub fn unpack_tile(&self, tile: usize, cols: usize, out: &mut [f32]) {
        let Some(packing) = self.packing else { panic!("a twin unpacks a weight that its dispatch has not") };
        let words = (packing.format.tile_words)(cols, packing.group);
        let planes: Vec<&[u32]> =
            self.planes.iter().zip(words).map(|(plane, words)| &plane[tile * words..][..words]).collect();
        (packing.format.unpack)(&planes, cols, packing.group, out);
    }
}

/// Words of a row record; see `shaders/common.wgsl`.
pub const ROW_WORDS: usize = 8;

/// The sequence of row `i` of a row table, if the row is in use.
pub fn active(rows: &[u32], i: usize) -> Option<Record> {
    let r = &rows[i * ROW_WORDS..][..ROW_WORDS];
    (r[2] != super::NONE).then(|| Record {
        token: r[0],
        position: r[1] as usize,
        sequence: r[2] as usize,
        expected: r[3],
        slot: r[4] as usize,
    })
}

/// A row record in use.
pub struct Record {
    pub token: u32,
    pub position: usize,
    pub sequence: usize,
    pub expected: u32,
    pub slot: usize,
}
