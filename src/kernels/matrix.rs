//! A weight on the device.

use crate::format::Packing;
use crate::recording::Buffer;

/// Rows of a weight that one binding can hold.
#[derive(Clone, Debug)]
pub struct Shard {
    /// The first row.
    pub first: usize,
    /// How many.
    pub rows: usize,
    /// The packed planes.
    pub planes: Vec<Buffer>,
}

/// A packed weight `[rows, cols]`, split by rows where one binding could not hold it.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// Outputs.
    pub rows: usize,
    /// Inputs, a multiple of [`BLOCK`](crate::format::BLOCK).
    pub cols: usize,
    /// How it is packed.
    pub packing: Packing,
    /// Its parts; all but the last start and end on a tile.
    pub shards: Vec<Shard>,
}

impl Matrix {
    /// Floats from one row of this matrix's outputs to the next: kept a multiple of 8, so that windows of
    /// eight rows are aligned.
    pub fn stride(&self) -> usize {
        self.rows.next_multiple_of(8)
    }
}
