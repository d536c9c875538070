//! Weights on their way from a checkpoint into device memory: read, quantized, packed and uploaded a few
//! tiles at a time, so that host memory never holds a matrix twice, let alone the model.

use super::packer::{Outcome, PackedOn, Packer, Place};
use super::stack::{Part, Stack, flawed};
use crate::checkpoint::{Checkpoint, Tensor};
use crate::error::{Error, Result};
use crate::format::{BLOCK, Kind, Packing, Plane, TILE_ROWS};
use crate::kernels::{Activation, Matrix, Shard};
use crate::quantize::{LONGEST_GROUP, Loss, QUANTIZERS, Quantizer, Treatment};
use crate::recording::{Buffer, Executor};
use rayon::prelude::*;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

/// Numbers that the processor packs at a time.
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
    /// Where codes are made.
    pub packed_on: PackedOn,
}

impl Weights {
    /// 16-bit floats, untreated.
    pub const F16: Weights = Weights {
        linear: Packing::F16,
        embedding: Packing::F16,
        stored: false,
        quantizer: QUANTIZERS[0],
        treatment: None,
        packed_on: PackedOn::Fastest,
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
    /// Whether the device packs.
    pub packer: Packer,
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
        let stack = Stack { parts, rows: last.first + last.rows - part.first, cols, in_turns };
        let (packing, start, rows, tiles) = (stack.packing(), part.first, stack.rows, stack.tiles());
        let group = packing.group;
        if !group.is_multiple_of(BLOCK) || group < BLOCK || (!part.own && group > LONGEST_GROUP) {
            let problem =
                format!("groups of {group} weights, expected a multiple of {BLOCK} up to {LONGEST_GROUP}");
            return Err(Error::Usage(problem));
        }
        let source_bytes: u64 = parts.iter().map(|part| part.tensor.info().stored_bytes()).sum();
        let words = (packing.format.tile_words)(cols, packing.group);
        let shard_tiles = self.tiles_of_a_shard(&words).ok_or_else(|| {
            let problem =
                format!("has {cols} columns: 64 rows of it are larger than a binding of the device");
            Error::tensor(stack.name(), problem)
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
            let place = Place { planes: &planes, first: first_tile };
            let (mut first, mut refused) = (first_tile, false);
            while first < end_tile {
                let taken = self.packer.takes(&stack, quantizer);
                let mut end = end_tile;
                let on_device = taken == Some(true) && !refused;
                if on_device {
                    refused = self.packer.pack(self.executor, &stack, place, first..end)? != Outcome::Packed;
                }
                if !on_device || refused {
                    end = (first + batch).min(end_tile);
                    if taken.is_none() {
                        self.packer.touch(&stack, first..end);
                    }
                    let started = Instant::now();
                    let packed = stack.pack(first..end, quantizer)?;
                    for ((plane, words), &of_a_tile) in planes.iter().zip(&packed).zip(&words) {
                        let offset = (of_a_tile * 4 * (first - first_tile)) as u64;
                        self.executor.upload(*plane, offset, bytemuck::cast_slice(words))?;
                    }
                    if taken.is_none() {
                        let packed = (&packed[..], started.elapsed());
                        self.packer.measure(self.executor, &stack, place, first..end, packed)?;
                    }
                }
                (self.progress)(source_bytes * (end - first) as u64 / tiles as u64);
                first = end;
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
