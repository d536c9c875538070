//! Weights on their way from a checkpoint into device memory: read, quantized, packed and uploaded a few
//! tiles at a time, so that host memory never holds a matrix twice, let alone the model.

use crate::checkpoint::{Checkpoint, Tensor};
use crate::error::{Error, Result};
use crate::format::{Affine, BLOCK, Codes, Kind, Packing, Plane, TILE_ROWS, Tile};
use crate::kernels::{Activation, Matrix, Shard};
use crate::quantize::{Flaw, LONGEST_GROUP, Loss, QUANTIZERS, Quantizer, Treatment};
use crate::recording::{Buffer, Executor};
use rayon::prelude::*;
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// Numbers that are unpacked at a time.
const BATCH: usize = 4 << 20;

/// How weights are stored on the device.
#[derive(Clone)]
pub struct Weights {
    /// The layers' matrices.
    pub linear: Packing,
    /// The embedding and the output matrix.
    pub embedding: Packing,
    /// Whether weights that the checkpoint has as codes stay what they are, in a packing of their own.
    pub stored: bool,
    /// How codes are chosen where a packing has codes.
    pub quantizer: &'static Quantizer,
    /// What a tensor goes through before it is packed, by its name. A tensor that is packed as codes is left as
    /// it is, and only measured: its packing is what treats it.
    pub treatment: Option<Treat>,
}

impl Weights {
    /// 16-bit floats, untreated.
    pub const F16: Weights = Weights {
        linear: Packing::F16,
        embedding: Packing::F16,
        stored: false,
        quantizer: QUANTIZERS[0],
        treatment: None,
    };
}

/// Chooses a tensor's treatment by its name.
pub type Treat = Rc<dyn Fn(&str) -> Option<Treatment>>;

/// What is done with a matrix.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    /// Its rows are looked up, or some of them are multiplied with.
    Table,
    /// All of it is multiplied with.
    Product,
    /// The same; its first half is a gate, and its second what that lets through.
    Glu(Activation),
    /// The same, but its tensors are stored the other way around.
    Turned,
}

/// Reads a checkpoint's tensors onto a device.
pub struct Loader<'a> {
    /// Where the weights are.
    pub checkpoint: &'a Checkpoint,
    /// Where they go.
    pub executor: &'a mut dyn Executor,
    /// How they are stored.
    pub weights: &'a Weights,
    /// Tokens that a text may have.
    pub context: usize,
    /// Positions that the model is to work at: those of a text, and a few past its end.
    pub positions: usize,
    /// Is told of each so many bytes read.
    pub progress: &'a mut dyn FnMut(u64),
    /// Memory to use before any is created: that of the same model, loaded before.
    pub reuse: VecDeque<Buffer>,
    /// Memory that was used, in order.
    pub buffers: Vec<Buffer>,
    /// What treatment did to each tensor.
    pub losses: Vec<(String, Loss)>,
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
            (self.progress)(tensor.info().stored_bytes());
        }
        self.table(&values, "vector")
    }

    /// The first `rows` rows of a table `[of, cols]`, as 32-bit floats; zeros past its end.
    ///
    /// # Errors
    /// As [`vector`](Self::vector).
    pub fn rows(&mut self, name: &str, [of, cols]: [usize; 2], rows: usize) -> Result<Buffer> {
        let tensor = self.checkpoint.tensor(name, &[of, cols])?;
        let mut values = vec![0.0; rows * cols];
        let there = rows.min(of) * cols;
        tensor.read_f32(0..there, &mut values[..there]);
        if let Some(i) = values.iter().position(|v| !v.is_finite()) {
            let place = format!("[{}, {}]", i / cols, i % cols);
            return Err(Error::tensor(name, format!("is {} at {place}, expected finite numbers", values[i])));
        }
        (self.progress)(tensor.info().stored_bytes());
        self.table(&values, "table")
    }

    /// A vector of `len` numbers, if there is such a tensor.
    ///
    /// # Errors
    /// When it has another shape, or holds a number that is not finite or 0.
    pub fn optional(&mut self, name: &str, len: usize) -> Result<Option<Vec<f32>>> {
        if self.checkpoint.get(name).is_none() {
            return Ok(None);
        }
        let values = whole(&self.checkpoint.tensor(name, &[len])?);
        match values.iter().position(|v| !v.is_finite() || *v == 0.0) {
            Some(i) => {
                Err(Error::tensor(name, format!("is {} at [{i}], expected finite numbers, not 0", values[i])))
            }
            None => Ok(Some(values)),
        }
    }

    /// Numbers that are computed, not read.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn table(&mut self, values: &[f32], name: &'static str) -> Result<Buffer> {
        let buffer = self.create(values.len() as u64 * 4, name)?;
        self.executor.upload(buffer, 0, bytemuck::cast_slice(values))?;
        Ok(buffer)
    }

    /// Memory for `len` bytes.
    fn create(&mut self, len: u64, name: &'static str) -> Result<Buffer> {
        let buffer = match self.reuse.pop_front().filter(|b| (b.len, b.name) == (len, name)) {
            Some(buffer) => buffer,
            None => self.executor.create(len, name)?,
        };
        self.buffers.push(buffer);
        Ok(buffer)
    }

    /// The matrices `parts` `[rows, cols]`, one below the other, packed: as `packing` says, or as the checkpoint has them
    /// where that is what is wanted.
    ///
    /// # Errors
    /// When a tensor is missing, has another shape, or holds a weight that the packing cannot.
    pub fn matrix(&mut self, parts: &[(String, usize)], cols: usize, packing: Packing) -> Result<Matrix> {
        self.matrix_for(Role::Table, parts, cols, packing)
    }

    /// The same for a matrix that nothing is done with but [`matmul`](crate::recording::Recorder::matmul): its columns may
    /// lie in an order of their own.
    ///
    /// # Errors
    /// As [`matrix`](Self::matrix).
    pub fn product(&mut self, parts: &[(String, usize)], cols: usize, packing: Packing) -> Result<Matrix> {
        self.matrix_for(Role::Product, parts, cols, packing)
    }

    /// The same where the first half of its rows is a gate, and the second what that lets through. They lie in turns if all are
    /// packed alike; see [`Matrix::glu`].
    ///
    /// # Errors
    /// As [`matrix`](Self::matrix).
    pub fn glu(
        &mut self,
        parts: &[(String, usize)],
        cols: usize,
        packing: Packing,
        activation: Activation,
    ) -> Result<Matrix> {
        self.matrix_for(Role::Glu(activation), parts, cols, packing)
    }

    /// The same where the tensors are stored the other way around, `[cols, rows]`. They are held in host memory whole.
    ///
    /// # Errors
    /// As [`matrix`](Self::matrix).
    pub fn transposed(&mut self, parts: &[(String, usize)], cols: usize, packing: Packing) -> Result<Matrix> {
        self.matrix_for(Role::Turned, parts, cols, packing)
    }

    fn matrix_for(
        &mut self,
        role: Role,
        parts: &[(String, usize)],
        cols: usize,
        packing: Packing,
    ) -> Result<Matrix> {
        let transposed = role == Role::Turned;
        if !cols.is_multiple_of(BLOCK) {
            let problem = format!("has {cols} columns, expected a multiple of {BLOCK}");
            return Err(Error::tensor(&parts[0].0, problem));
        }
        let mut rows = 0;
        let mut shards: Vec<Shard> = Vec::new();
        // Parts that are packed alike are one matrix.
        let mut alike: Vec<Part<'_>> = Vec::new();
        for (name, part_rows) in parts {
            let shape = if transposed { [cols, *part_rows] } else { [*part_rows, cols] };
            let tensor = self.checkpoint.tensor(name, &shape)?;
            let own = tensor.packing().filter(|own| self.weights.stored && own.fitting(cols) == cols);
            let own = own.filter(|_| !transposed && (role != Role::Table || tensor.order().is_none()));
            let turned = transposed.then(|| transpose(&tensor, *part_rows, cols));
            let treated = match self.weights.treatment.as_ref().and_then(|treat| treat(name)) {
                Some(treatment) => {
                    let mut values = turned.clone().unwrap_or_else(|| whole(&tensor));
                    let loss = treatment.apply(&mut values, *part_rows, cols, name);
                    let loss = loss.map_err(|flaw| flawed(flaw, name, &packing))?;
                    self.losses.push((name.clone(), loss));
                    if packing.format.kind == Kind::Float { Some(values) } else { turned }
                }
                None => turned,
            };
            let part = Part {
                first: rows,
                rows: *part_rows,
                packing: own.unwrap_or(packing),
                own: own.is_some(),
                order: tensor.order().filter(|_| own.is_some()).cloned(),
                tensor,
                treated,
            };
            let kind = |part: &Part<'_>| (part.packing, part.own, part.order.clone());
            if alike.last().is_some_and(|last| kind(last) != kind(&part)) {
                shards.extend(self.shards(&std::mem::take(&mut alike), cols, false)?);
            }
            alike.push(part);
            rows += part_rows;
        }
        let glu = match role {
            Role::Glu(activation) if shards.is_empty() && rows.is_multiple_of(2) => Some(activation),
            _ => None,
        };
        shards.extend(self.shards(&alike, cols, glu.is_some())?);
        Ok(Matrix { rows, cols, shards, glu })
    }

    /// Packs and uploads neighbouring parts that are packed alike; the rows of their two halves in turns, if so.
    fn shards(&mut self, parts: &[Part<'_>], cols: usize, in_turns: bool) -> Result<Vec<Shard>> {
        let (Some(part), Some(last)) = (parts.first(), parts.last()) else { return Ok(Vec::new()) };
        let (packing, start, name) = (part.packing, part.first, &part.tensor.info().name);
        let rows = last.first + last.rows - start;
        let firsts: Vec<usize> = parts.iter().map(|part| part.first).collect();
        let group = packing.group;
        if !group.is_multiple_of(BLOCK) || group < BLOCK || (!part.own && group > LONGEST_GROUP) {
            let problem =
                format!("groups of {group} weights, expected a multiple of {BLOCK} up to {LONGEST_GROUP}");
            return Err(Error::Usage(problem));
        }
        let source_bytes: u64 = parts.iter().map(|part| part.tensor.info().stored_bytes()).sum();
        let words = (packing.format.tile_words)(cols, packing.group);
        let tiles = rows.div_ceil(TILE_ROWS);
        let shard_tiles = self.tiles_of_a_shard(&words).ok_or_else(|| {
            let problem =
                format!("has {cols} columns: 64 rows of it are larger than a binding of the device");
            Error::tensor(name, problem)
        })?;
        let batch = (BATCH / (TILE_ROWS * cols)).clamp(1, shard_tiles);
        let quantizer = self.weights.quantizer;
        let order = match &part.order {
            Some(columns) => {
                let buffer = self.create(4 * cols as u64, "order")?;
                self.executor.upload(buffer, 0, bytemuck::cast_slice(columns))?;
                Some(buffer)
            }
            None => None,
        };
        let mut shards = Vec::new();
        for first_tile in (0..tiles).step_by(shard_tiles) {
            let end_tile = (first_tile + shard_tiles).min(tiles);
            let mut planes = Vec::with_capacity(words.len());
            for (&words, &Plane { name, .. }) in words.iter().zip(packing.format.planes) {
                planes.push(self.create((words * 4 * (end_tile - first_tile)) as u64, name)?);
            }
            for first in (first_tile..end_tile).step_by(batch) {
                let end = (first + batch).min(end_tile);
                let packed: Vec<Vec<Vec<u32>>> = (first..end)
                    .into_par_iter()
                    .map(|tile| {
                        let first = tile * TILE_ROWS;
                        let all = first..(first + TILE_ROWS).min(rows);
                        let runs = runs(&firsts, all, in_turns.then_some(rows));
                        pack(parts, &runs, cols, packing, quantizer)
                    })
                    .collect::<Result<_>>()?;
                for (plane, &buffer) in planes.iter().enumerate() {
                    let offset = (words[plane] * 4 * (first - first_tile)) as u64;
                    let together: Vec<u32> =
                        packed.iter().flat_map(|tile| tile[plane].iter().copied()).collect();
                    self.executor.upload(buffer, offset, bytemuck::cast_slice(&together))?;
                }
                (self.progress)(source_bytes * (end - first) as u64 / tiles as u64);
            }
            let first = first_tile * TILE_ROWS;
            let rows = (end_tile * TILE_ROWS).min(rows) - first;
            shards.push(Shard { first: start + first, rows, packing, planes, order });
        }
        Ok(shards)
    }

    /// The most tiles of which every plane fits a binding; at most what one dispatch can count.
    fn tiles_of_a_shard(&self, words: &[usize]) -> Option<usize> {
        let limits = self.executor.capabilities();
        let limit = limits.max_binding.min(limits.max_buffer) as usize;
        words.iter().map(|w| limit / (w * 4)).min().map(|tiles| tiles.min(65_535)).filter(|&tiles| tiles > 0)
    }
}

/// A tensor that is part of a matrix.
struct Part<'a> {
    /// Its first row in the matrix.
    first: usize,
    rows: usize,
    packing: Packing,
    /// Whether the packing is the checkpoint's own.
    own: bool,
    tensor: Tensor<'a>,
    /// The column that stands in each place of its rows of codes, where they are not in order.
    order: Option<Arc<[u32]>>,
    /// Its weights where they are not the checkpoint's.
    treated: Option<Vec<f32>>,
}

fn whole(tensor: &Tensor<'_>) -> Vec<f32> {
    let mut values = vec![0.0; tensor.info().elements];
    tensor.read_f32(0..values.len(), &mut values);
    values
}

/// The numbers of a tensor `[cols, rows]` as `[rows, cols]`.
fn transpose(tensor: &Tensor<'_>, rows: usize, cols: usize) -> Vec<f32> {
    let values = whole(tensor);
    let mut turned = vec![0.0; values.len()];
    turned.par_chunks_exact_mut(cols).enumerate().for_each(|(row, out)| {
        out.iter_mut().enumerate().for_each(|(col, out)| *out = values[col * rows + row]);
    });
    turned
}

fn flawed(flaw: Flaw, name: &str, packing: &Packing) -> Error {
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

/// Rows of a tile that come from one part, one after the other.
struct Run {
    part: usize,
    /// Rows of the part.
    rows: Range<usize>,
    /// The first of them in the tile.
    at: usize,
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

/// Packs a tile.
fn pack(
    parts: &[Part<'_>],
    runs: &[Run],
    cols: usize,
    packing: Packing,
    quantizer: &Quantizer,
) -> Result<Vec<Vec<u32>>> {
    let name = |run: &Run| &parts[run.part].tensor.info().name;
    if parts[0].own {
        let mut tile = Codes::new(packing, cols);
        for run in runs {
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
    for run in runs {
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
