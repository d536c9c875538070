//! Tensors that are packed alike and lie one below the other as one matrix, and packing tiles of it on the processor.

use crate::checkpoint::{Dtype, Tensor};
use crate::error::{Error, Result};
use crate::format::{Affine, Codes, Kind, Packing, TILE_ROWS, Tile};
use crate::quantize::{Flaw, Quantizer};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// A tensor that is part of a matrix.
pub(super) struct Part<'a> {
    /// Its first row in the matrix.
    pub first: usize,
    pub rows: usize,
    pub packing: Packing,
    /// Whether the packing is the checkpoint's own.
    pub own: bool,
    pub tensor: Tensor<'a>,
    /// The column that stands in each place of its rows of codes, where they are not in order.
    pub order: Option<Arc<[u32]>>,
    /// Its weights where they are not the checkpoint's.
    pub treated: Option<Vec<f32>>,
}

/// Neighbouring parts that are packed alike.
pub(super) struct Stack<'a> {
    /// At least one.
    pub parts: &'a [Part<'a>],
    /// Rows of all.
    pub rows: usize,
    pub cols: usize,
    /// Whether the rows of their two halves lie in turns.
    pub in_turns: bool,
}

/// Rows of a tile that come from one part, one after the other.
struct Run {
    part: usize,
    /// Rows of the part.
    rows: Range<usize>,
    /// The first of them in the tile.
    at: usize,
}

impl Stack<'_> {
    /// How many tiles it is.
    pub fn tiles(&self) -> usize {
        self.rows.div_ceil(TILE_ROWS)
    }

    /// How all of it is packed.
    pub fn packing(&self) -> Packing {
        self.parts[0].packing
    }

    /// The name of its first tensor.
    pub fn name(&self) -> &str {
        &self.parts[0].tensor.info().name
    }

    /// What numbers are as [`read`](Self::read) gives them: what all parts store, or else floats.
    pub fn encoding(&self) -> Dtype {
        let of = |part: &Part<'_>| match part.treated {
            Some(_) => Dtype::F32,
            None => part.tensor.plain().map_or(Dtype::F32, |(dtype, _)| dtype),
        };
        let first = of(&self.parts[0]);
        if self.parts.iter().all(|part| of(part) == first) { first } else { Dtype::F32 }
    }

    /// The numbers `[tiles, TILE_ROWS, cols]` of some tiles, of 32 bits or two in a word; 0 behind the last row.
    pub fn read(&self, tiles: Range<usize>, encoding: Dtype, out: &mut Vec<u32>) {
        let row = self.cols * encoding.bitsize() / 32;
        out.resize(tiles.len() * TILE_ROWS * row, 0);
        out.par_chunks_exact_mut(TILE_ROWS * row).zip(tiles.into_par_iter()).for_each(|(out, tile)| {
            let mut filled = 0;
            for Run { part, rows, at } in self.runs(tile) {
                let out = &mut out[at * row..][..rows.len() * row];
                let range = rows.start * self.cols..rows.end * self.cols;
                let part = &self.parts[part];
                match (&part.treated, part.tensor.plain()) {
                    (Some(treated), _) => out.copy_from_slice(bytemuck::cast_slice(&treated[range])),
                    (None, Some((stored, bytes))) if stored == encoding => {
                        let bytes = &bytes[rows.start * row * 4..rows.end * row * 4];
                        bytemuck::cast_slice_mut(out).copy_from_slice(bytes);
                    }
                    _ => part.tensor.read_f32(range, bytemuck::cast_slice_mut(out)),
                }
                filled = at + rows.len();
            }
            out[filled * row..].fill(0);
        });
    }

    /// Where the rows of a tile come from.
    fn runs(&self, tile: usize) -> Vec<Run> {
        let firsts: Vec<usize> = self.parts.iter().map(|part| part.first).collect();
        let first = tile * TILE_ROWS;
        runs(&firsts, first..(first + TILE_ROWS).min(self.rows), self.in_turns.then_some(self.rows))
    }

    /// Packs some tiles; the words of each plane.
    ///
    /// # Errors
    /// When there is a weight that the packing cannot hold.
    pub fn pack(&self, tiles: Range<usize>, quantizer: &Quantizer) -> Result<Vec<Vec<u32>>> {
        let packed: Vec<Vec<Vec<u32>>> =
            tiles.into_par_iter().map(|tile| self.pack_tile(tile, quantizer)).collect::<Result<_>>()?;
        let planes = 0..self.packing().format.planes.len();
        let together = |plane: usize| packed.iter().flat_map(|tile| tile[plane].iter().copied()).collect();
        Ok(planes.map(together).collect())
    }

    fn pack_tile(&self, tile: usize, quantizer: &Quantizer) -> Result<Vec<Vec<u32>>> {
        let (parts, cols, packing, runs) = (self.parts, self.cols, self.packing(), self.runs(tile));
        let name = |run: &Run| &parts[run.part].tensor.info().name;
        if parts[0].own {
            let mut tile = Codes::new(packing, cols);
            for run in &runs {
                parts[run.part]
                    .tensor
                    .read_codes(run.rows.clone(), run.at, &mut tile)
                    .map_err(|(row, col, value)| flawed(Flaw { row, col, value }, name(run), &packing))?;
            }
            let mut planes = vec![Vec::new(); packing.format.planes.len()];
            (packing.format.pack)(tile.tile(), cols, packing.group, &mut planes);
            return Ok(planes);
        }
        let mut values = vec![0.0; TILE_ROWS * cols];
        for run in &runs {
            let range = run.rows.start * cols..run.rows.end * cols;
            let out = &mut values[run.at * cols..][..range.len()];
            match &parts[run.part].treated {
                Some(treated) => out.copy_from_slice(&treated[range]),
                None => parts[run.part].tensor.read_f32(range, out),
            }
        }
        encode(&values, cols, packing, quantizer).map_err(|flaw| {
            let run = &runs[runs.partition_point(|run| run.at <= flaw.row) - 1];
            flawed(Flaw { row: run.rows.start + flaw.row - run.at, ..flaw }, name(run), &packing)
        })
    }
}

/// The error that tells of a flaw.
pub(super) fn flawed(flaw: Flaw, name: &str, packing: &Packing) -> Error {
    let problem = format!("is {} at [{}, {}]", flaw.value, flaw.row, flaw.col);
    Error::tensor(
        name,
        match flaw.value.is_finite() {
            true => {
                format!("{problem}, beyond what {} holds (65504 is f16's greatest number)", packing.name())
            }
            false => format!("{problem}, expected finite numbers"),
        },
    )
}

/// Where `rows`, counted from the first of the parts, come from, if the parts' first rows are those. Where all that many rows
/// lie in turns, each second one is of the second half.
fn runs(firsts: &[usize], rows: Range<usize>, in_turns: Option<usize>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (at, row) in rows.enumerate() {
        let row = firsts[0] + in_turns.map_or(row, |all| row % 2 * (all / 2) + row / 2);
        let part = firsts.partition_point(|&first| first <= row) - 1;
        let row = row - firsts[part];
        match runs.last_mut().filter(|run| run.part == part && run.rows.end == row) {
            Some(run) => run.rows.end += 1,
            None => runs.push(Run { part, rows: row..row + 1, at }),
        }
    }
    runs
}

/// Packs a tile of numbers.
fn encode(
    values: &[f32],
    cols: usize,
    packing: Packing,
    quantizer: &Quantizer,
) -> Result<Vec<Vec<u32>>, Flaw> {
    let mut planes = vec![Vec::new(); packing.format.planes.len()];
    match packing.format.kind {
        Kind::Float => {
            let fits = |v: f32| half::f16::from_f32(v).is_finite();
            if let Some(i) = values.iter().position(|&v| !fits(v)) {
                return Err(Flaw { row: i / cols, col: i % cols, value: values[i] });
            }
            (packing.format.pack)(Tile::Values(values), cols, packing.group, &mut planes);
        }
        Kind::Affine { bits, .. } => {
            let mut tile = Affine::new(cols, packing.group);
            quantizer.quantize(values, bits, &mut tile)?;
            (packing.format.pack)(Tile::Affine(&tile), cols, packing.group, &mut planes);
        }
        Kind::States(_) | Kind::Blocks { .. } => {
            unreachable!("nothing is quantized to {}", packing.format.name)
        }
    }
    Ok(planes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tile's rows: part, rows of it, first row of the tile.
    fn listed(runs: &[Run]) -> Vec<(usize, Range<usize>, usize)> {
        runs.iter().map(|run| (run.part, run.rows.clone(), run.at)).collect()
    }

    #[test]
    fn rows_of_a_tile_come_from_parts_one_after_the_other() {
        // Parts of 10, 3 and 87 rows that begin with row 5 of a matrix.
        let firsts = [5, 15, 18];
        assert_eq!(listed(&runs(&firsts, 0..64, None)), [(0, 0..10, 0), (1, 0..3, 10), (2, 0..51, 13)]);
        assert_eq!(listed(&runs(&firsts, 64..100, None)), [(2, 51..87, 0)]);
    }

    #[test]
    fn rows_of_two_halves_come_in_turns() {
        let two = runs(&[0, 50], 64..68, Some(100));
        assert_eq!(listed(&two), [(0, 32..33, 0), (1, 32..33, 1), (0, 33..34, 2), (1, 33..34, 3)]);
        let one = runs(&[0], 0..3, Some(100));
        assert_eq!(listed(&one), [(0, 0..1, 0), (0, 50..51, 1), (0, 1..2, 2)]);
    }
}
