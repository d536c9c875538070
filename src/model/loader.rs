//! Weights on their way from a checkpoint into device memory: read, quantized, packed and uploaded a few
//! tiles at a time, so that host memory never holds a matrix twice, let alone the model.

use crate::checkpoint::{Checkpoint, Tensor};
use crate::error::{Error, Result};
use crate::format::{Affine, BLOCK, Kind, Packing, TILE_ROWS, Tile};
use crate::kernels::{Matrix, Shard};
use crate::quantize::{Flaw, LONGEST_GROUP, Quantizer};
use crate::recording::{Buffer, Executor};
use rayon::prelude::*;

/// Numbers that are unpacked at a time.
const BATCH: usize = 4 << 20;

/// How weights are stored on the device.
#[derive(Clone, Copy)]
pub struct Weights {
    /// The layers' matrices.
    pub linear: Packing,
    /// The embedding and the output matrix.
    pub embedding: Packing,
    /// How codes are chosen where a packing has codes.
    pub quantizer: &'static Quantizer,
    /// First round every matrix as this packing would, then store what that gives: tells what a quantizer
    /// does apart from what a kernel does.
    pub rounded: Option<Packing>,
}

/// Reads a checkpoint's tensors onto a device.
pub struct Loader<'a> {
    /// Where the weights are.
    pub checkpoint: &'a Checkpoint,
    /// Where they go.
    pub executor: &'a mut dyn Executor,
    /// How they are stored.
    pub weights: Weights,
    /// Positions that the model is to work at.
    pub positions: usize,
    /// Is told of each so many bytes read.
    pub progress: &'a mut dyn FnMut(u64),
}

impl Loader<'_> {
    /// A vector of `len` numbers, as 32-bit floats.
    ///
    /// # Errors
    /// When the tensor is missing, has another shape or holds a number that is not finite.
    pub fn vector(&mut self, name: &str, len: usize) -> Result<Buffer> {
        self.vectors(&[(name.to_owned(), len)])
    }

    /// Several vectors end to end.
    ///
    /// # Errors
    /// As [`vector`](Self::vector).
    pub fn vectors(&mut self, parts: &[(String, usize)]) -> Result<Buffer> {
        let mut values = Vec::new();
        for (name, len) in parts {
            let tensor = self.checkpoint.tensor(name, &[*len])?;
            let first = values.len();
            values.resize(first + len, 0.0);
            tensor.read_f32(0..*len, &mut values[first..]);
            if let Some(i) = values[first..].iter().position(|v| !v.is_finite()) {
                return Err(Error::tensor(
                    name,
                    format!("is {} at [{i}], expected finite numbers", values[first + i]),
                ));
            }
            (self.progress)(tensor.info().bytes.len() as u64);
        }
        self.table(&values, "vector")
    }

    /// Numbers that are computed, not read.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn table(&mut self, values: &[f32], name: &'static str) -> Result<Buffer> {
        let buffer = self.executor.create(values.len() as u64 * 4, name)?;
        self.executor.upload(buffer, 0, bytemuck::cast_slice(values))?;
        Ok(buffer)
    }

    /// The matrices `parts` `[rows, cols]`, one below the other, packed.
    ///
    /// # Errors
    /// When a tensor is missing, has another shape, or holds a weight that the packing cannot.
    pub fn matrix(&mut self, parts: &[(String, usize)], cols: usize, packing: Packing) -> Result<Matrix> {
        let mut tensors = Vec::with_capacity(parts.len());
        let mut rows = 0;
        for (name, part_rows) in parts {
            tensors.push((rows, *part_rows, self.checkpoint.tensor(name, &[*part_rows, cols])?));
            rows += part_rows;
        }
        if !cols.is_multiple_of(BLOCK) {
            return Err(Error::tensor(
                &parts[0].0,
                format!("has {cols} columns, expected a multiple of {BLOCK}"),
            ));
        }
        let group = packing.group;
        if !group.is_multiple_of(BLOCK) || !(BLOCK..=LONGEST_GROUP).contains(&group) {
            let problem =
                format!("groups of {group} weights, expected a multiple of {BLOCK} up to {LONGEST_GROUP}");
            return Err(Error::Usage(problem));
        }
        let source_bytes: u64 = tensors.iter().map(|(_, _, t)| t.info().bytes.len() as u64).sum();
        let words = (packing.format.tile_words)(cols, packing.group);
        let tiles = rows.div_ceil(TILE_ROWS);
        let shard_tiles = self.tiles_of_a_shard(&words).ok_or_else(|| {
            Error::tensor(
                &parts[0].0,
                format!("has {cols} columns: 64 rows of it are larger than a binding of the device"),
            )
        })?;
        let batch = (BATCH / (TILE_ROWS * cols)).clamp(1, shard_tiles);
        let mut shards = Vec::new();
        for first_tile in (0..tiles).step_by(shard_tiles) {
            let end_tile = (first_tile + shard_tiles).min(tiles);
            let mut planes = Vec::with_capacity(words.len());
            for (&words, &name) in words.iter().zip(packing.format.planes) {
                planes.push(self.executor.create((words * 4 * (end_tile - first_tile)) as u64, name)?);
            }
            for start in (first_tile..end_tile).step_by(batch) {
                let end = (start + batch).min(end_tile);
                let packed: Vec<Vec<Vec<u32>>> = (start..end)
                    .into_par_iter()
                    .map(|tile| pack(&tensors, tile * TILE_ROWS, rows, cols, packing, &self.weights))
                    .collect::<Result<_>>()?;
                for (plane, &buffer) in planes.iter().enumerate() {
                    let offset = (words[plane] * 4 * (start - first_tile)) as u64;
                    let together: Vec<u32> =
                        packed.iter().flat_map(|tile| tile[plane].iter().copied()).collect();
                    self.executor.upload(buffer, offset, bytemuck::cast_slice(&together))?;
                }
                (self.progress)(source_bytes * (end - start) as u64 / tiles as u64);
            }
            let first = first_tile * TILE_ROWS;
            shards.push(Shard { first, rows: (end_tile * TILE_ROWS).min(rows) - first, planes });
        }
        Ok(Matrix { rows, cols, packing, shards })
    }

    /// The most tiles of which every plane fits a binding; at most what one dispatch can count.
    fn tiles_of_a_shard(&self, words: &[usize]) -> Option<usize> {
        let limits = self.executor.capabilities();
        let limit = limits.max_binding.min(limits.max_buffer) as usize;
        words.iter().map(|w| limit / (w * 4)).min().map(|tiles| tiles.min(65_535)).filter(|&tiles| tiles > 0)
    }
}

/// Tensors with their first rows and counts of rows.
type Parts<'a> = [(usize, usize, Tensor<'a>)];

fn pack(
    parts: &Parts<'_>,
    first: usize,
    rows: usize,
    cols: usize,
    packing: Packing,
    weights: &Weights,
) -> Result<Vec<Vec<u32>>> {
    let mut values = vec![0.0; TILE_ROWS * cols];
    let end = (first + TILE_ROWS).min(rows);
    for (start, count, tensor) in parts {
        let (from, to) = (first.max(*start), end.min(start + count));
        if from < to {
            let out = &mut values[(from - first) * cols..(to - first) * cols];
            tensor.read_f32((from - start) * cols..(to - start) * cols, out);
        }
    }
    let flawed = |flaw: Flaw| {
        let row = first + flaw.row;
        let part = parts.iter().rev().find(|(start, _, _)| *start <= row);
        let (name, row) = part.map_or(("", row), |(start, _, t)| (t.info().name.as_str(), row - start));
        let problem = format!("is {} at [{row}, {}]", flaw.value, flaw.col);
        Error::tensor(
            name,
            match flaw.value.is_finite() {
                true => format!(
                    "{problem}, beyond what {} holds (65504 is f16's greatest number)",
                    packing.name()
                ),
                false => format!("{problem}, expected finite numbers"),
            },
        )
    };
    if let Some(rounded) = weights.rounded {
        let planes = encode(&values, cols, rounded, weights.quantizer).map_err(flawed)?;
        let planes: Vec<&[u32]> = planes.iter().map(Vec::as_slice).collect();
        (rounded.format.unpack)(&planes, cols, rounded.group, &mut values);
    }
    encode(&values, cols, packing, weights.quantizer).map_err(flawed)
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
        Kind::Affine { bits } => {
            let mut tile = Affine::new(cols, packing.group);
            quantizer.quantize(values, bits, &mut tile)?;
            (packing.format.pack)(Tile::Affine(&tile), cols, packing.group, &mut planes);
        }
    }
    Ok(planes)
}
