//! A weight on the device.

use super::Activation;
use crate::format::Packing;
use crate::recording::Buffer;

/// Rows of a weight that are packed alike and that one binding can hold.
#[derive(Clone, Debug)]
pub struct Shard {
    /// The first row.
    pub first: usize,
    /// How many.
    pub rows: usize,
    /// How they are packed.
    pub packing: Packing,
    /// The packed planes.
    pub planes: Vec<Buffer>,
    /// The column of the matrix that stands in each place of the packed rows, `[cols]`, where they are not in order.
    pub order: Option<Buffer>,
}

/// A packed weight `[rows, cols]`, split by rows where one binding could not hold it, or where the packing changes.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// Rows.
    pub rows: usize,
    /// Inputs, a multiple of [`BLOCK`](crate::format::BLOCK).
    pub cols: usize,
    /// Its parts, in order.
    pub shards: Vec<Shard>,
    /// Where its rows are in turns one of a gate and one of what it lets through: products with it are `act(gate) · up`.
    pub glu: Option<Activation>,
}

impl Matrix {
    /// Rows that make an output together.
    pub fn fold(&self) -> usize {
        if self.glu.is_some() { 2 } else { 1 }
    }

    /// Bytes of all planes.
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.packing.bytes(shard.rows, self.cols)).sum()
    }

    /// Numbers that a product has for each row of x.
    pub fn outputs(&self) -> usize {
        self.rows / self.fold()
    }

    /// Floats from one row of this matrix's outputs to the next: kept a multiple of 8, so that windows of
    /// eight rows are aligned.
    pub fn stride(&self) -> usize {
        self.outputs().next_multiple_of(8)
    }
}
