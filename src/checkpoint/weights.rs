//! The weights of a model, and reading them.
//!
//! [`Checkpoint`] maps the files of a model into memory, so that opening one costs nothing and its weights are read
//! from disk as they are packed; a [`Tensor`] gives its pages back when it is dropped.

use super::ggml::BlockType;
use super::packed::{Found, Packed, Part, Quantization, Tensors};
use super::{MESSAGE, QUOTE, Source, Unique, clip, gguf, parse_header, read_json, shipped};
use crate::error::{Error, Result};
use crate::format::{Codes, Packing};
use half::f16;
use half::slice::HalfFloatSliceExt;
use memmap2::Mmap;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
            Encoding::Packed(packed) => packed.packing,
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

/// The weights of a model, mapped into memory.
#[derive(Debug)]
pub struct Checkpoint {
    shards: Vec<Shard>,
    tensors: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    bytes: Bytes,
}

/// The bytes of a file.
#[derive(Debug)]
pub(super) enum Bytes {
    /// On disk.
    Mapped(Mmap),
    /// In the program.
    Shipped(&'static [u8]),
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Shipped(bytes) => bytes,
        }
    }
}

#[derive(Debug)]
struct Entry {
    info: TensorInfo,
    shard: usize,
    /// Whether anybody asked for it.
    read: AtomicBool,
}

impl Checkpoint {
    /// Opens the weights of a model. What its configuration says to be the parts of a matrix is put together.
    pub fn of(source: &Source) -> Result<Checkpoint> {
        let mut checkpoint = Checkpoint::open(&source.weights)?;
        if let Some(quantization) = Quantization::open(&source.directory)? {
            checkpoint.assemble(&quantization)?;
        }
        Ok(checkpoint)
    }

    fn assemble(&mut self, quantization: &Quantization) -> Result<()> {
        let found = {
            let infos = self.tensors.iter().map(|(name, entry)| (name.as_str(), &entry.info)).collect();
            let bytes = |name: &str| -> &[u8] {
                let entry = &self.tensors[name];
                &self.shards[entry.shard].bytes[entry.info.bytes.clone()]
            };
            quantization
                .find(&Tensors { infos, bytes: &bytes })
                .map_err(|e| Error::Model(clip(&e, MESSAGE)))?
        };
        for Found { name, shape, layout, parts, also } in found {
            let mut taken = Vec::new();
            for part in &parts {
                let Some(entry) = self.tensors.remove(part) else {
                    return Err(Error::tensor(clip(part, QUOTE), "is part of two matrices"));
                };
                taken.push((entry.shard, entry.info));
            }
            also.iter().for_each(|name| drop(self.tensors.remove(name)));
            let elements = shape[0].checked_mul(shape[1]);
            let elements = elements.ok_or_else(|| {
                Error::tensor(&name, format!("has shape {shape:?}, too large for any file"))
            })?;
            let shards = &self.shards;
            let packed = Packed::new(layout, taken, shape, |part| part_of(shards, part));
            let encoding = Encoding::Packed(Arc::new(packed));
            let info = TensorInfo {
                name: name.clone(),
                encoding,
                shape: shape.to_vec(),
                elements,
                bytes: 0..0,
                change: Change::None,
            };
            let entry = Entry { info, shard: 0, read: AtomicBool::new(false) };
            if self.tensors.insert(name.clone(), entry).is_some() {
                return Err(Error::tensor(
                    clip(&name, QUOTE),
                    "is there as codes and as numbers, expected one",
                ));
            }
        }
        Ok(())
    }

    /// Opens a `.safetensors` file, a `.safetensors.index.json`, a directory with either, or a `.gguf` file.
    pub fn open(path: &Path) -> Result<Checkpoint> {
        let path = if path.is_dir() { &weights_in(path)? } else { path };
        let mut checkpoint = Checkpoint { shards: Vec::new(), tensors: BTreeMap::new() };
        if path.to_string_lossy().ends_with(".json") {
            checkpoint.add_shards(path)?;
        } else if gguf::is_named(path) {
            checkpoint.add_gguf(&gguf::parts(path)?)?;
        } else {
            checkpoint.add(path)?;
        }
        Ok(checkpoint)
    }

    /// Adds the files of the index at `path`.
    fn add_shards(&mut self, path: &Path) -> Result<()> {
        #[derive(Deserialize)]
        struct Index {
            weight_map: Unique<String>,
        }
        let Index { weight_map: Unique(weight_map) } = serde_json::from_str(&read_json(path)?)
            .map_err(|e| Error::file(path, clip(&format!("is not a safetensors index: {e}"), MESSAGE)))?;
        for shard in weight_map.values().collect::<BTreeSet<_>>() {
            // An index must not reach for files elsewhere on the disk, on any system.
            if shard.contains(['/', '\\', ':', '\0'])
                || shard.contains("..")
                || !shard.ends_with(".safetensors")
            {
                let expected = "expected the plain name of a .safetensors file beside the index";
                return Err(Error::file(
                    path,
                    format!("its weight_map names {:?}, {expected}", clip(shard, QUOTE)),
                ));
            }
            let file = path.with_file_name(shard);
            if !file.exists() {
                let index = path.file_name().unwrap_or_default().to_string_lossy();
                let problem = format!("there is no such file, but {index} says that weights are in it");
                return Err(Error::file(file, format!("{problem}; fetch the model again")));
            }
            self.add(&file)?;
        }
        for (name, shard) in &weight_map {
            let found = self.tensors.get(name).map(|entry| &self.shards[entry.shard]);
            if found.is_none_or(|found| found.path != path.with_file_name(shard)) {
                let found = found.map_or("no file".into(), Shard::file_name);
                let problem = format!("the index says that it is in {shard:?}, but it is in {found}");
                return Err(Error::tensor(clip(name, QUOTE), clip(&problem, MESSAGE)));
            }
        }
        Ok(())
    }

    /// Adds the tensors of the file at `path`.
    fn add(&mut self, path: &Path) -> Result<()> {
        let bytes = match shipped::file(path) {
            Some(bytes) => Bytes::Shipped(bytes),
            None => Checkpoint::map(path)?,
        };
        let infos = parse_header(&bytes, bytes.len() as u64).map_err(|problem| Error::file(path, problem))?;
        self.add_tensors(path, bytes, infos)
    }

    /// Adds the tensors of a model in GGUF files.
    fn add_gguf(&mut self, paths: &[PathBuf]) -> Result<()> {
        let files = paths.iter().map(|path| Checkpoint::map(path)).collect::<Result<Vec<_>>>()?;
        let bytes: Vec<&[u8]> = files.iter().map(|bytes| &**bytes).collect();
        let tensors = gguf::tensors(&bytes)
            .map_err(|(file, problem)| Error::file(&paths[file], clip(&problem, MESSAGE)))?;
        let each = paths.iter().zip(files).zip(tensors);
        each.into_iter().try_for_each(|((path, bytes), infos)| self.add_tensors(path, bytes, infos))
    }

    fn add_tensors(&mut self, path: &Path, bytes: Bytes, infos: Vec<TensorInfo>) -> Result<()> {
        let shard = self.shards.len();
        self.shards.push(Shard { path: path.to_owned(), bytes });
        for info in infos {
            let (name, read) = (info.name.clone(), AtomicBool::new(false));
            if let Some(other) = self.tensors.insert(name, Entry { info, shard, read }) {
                let (a, b) = (self.shards[other.shard].file_name(), self.shards[shard].file_name());
                return Err(Error::tensor(
                    clip(&other.info.name, QUOTE),
                    format!("is in both {a} and {b}, expected one"),
                ));
            }
        }
        Ok(())
    }

    /// Maps the file at `path`.
    pub(super) fn map(path: &Path) -> Result<Bytes> {
        let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
        if !file.metadata().map_err(|e| Error::io(path, e))?.is_file() {
            return Err(Error::file(path, "is not a plain file, expected a file of weights"));
        }
        // SAFETY: the mapping is read only and this struct hands out copies of numbers, never references
        // into it. What mapping a file cannot exclude is another program that writes to it meanwhile: then
        // other numbers are read (every bit pattern is one), or, if it is cut short, the system ends this
        // process. Model files are not written to in place.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
        Ok(Bytes::Mapped(map))
    }

    /// What is known of the tensor `name`. This does not count as reading it.
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|entry| &entry.info)
    }

    /// The tensor `name`, which must have exactly this shape and numbers that can be read as `f32`.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor<'_>> {
        let Some(entry) = self.tensors.get(name) else {
            let count = self.tensors.len();
            let near = self.nearest(name).map(|near| format!(", the nearest is {:?}", clip(near, QUOTE)));
            let problem =
                format!("is not among the checkpoint's {count} tensors{}", near.unwrap_or_default());
            return Err(Error::tensor(name, problem));
        };
        let (info, shard) = (&entry.info, &self.shards[entry.shard]);
        if info.shape != shape {
            let problem = format!("has shape {:?} in {}, expected {shape:?}", info.shape, shard.file_name());
            return Err(Error::tensor(name, clip(&problem, MESSAGE)));
        }
        if let Encoding::Plain(dtype) = info.encoding
            && !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
        {
            let problem = format!("is stored as {dtype} in {}", shard.file_name());
            return Err(Error::tensor(name, format!("{problem}, expected F32, F16 or BF16")));
        }
        entry.read.store(true, Ordering::Relaxed);
        Ok(Tensor { info, bytes: &shard.bytes, shards: &self.shards })
    }

    /// The name that shares most of its beginning and end with `name`, if that is half of it or more.
    fn nearest(&self, name: &str) -> Option<&str> {
        let shared = |other: &str| {
            let from_start = name.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
            let from_end = name.bytes().rev().zip(other.bytes().rev()).take_while(|(a, b)| a == b).count();
            (from_start + from_end).min(name.len()).min(other.len())
        };
        let names = self.tensors.keys().map(String::as_str);
        names.max_by_key(|other| shared(other)).filter(|other| shared(other) * 2 >= name.len())
    }

    /// What is known of every tensor, in alphabetical order.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors.values().map(|entry| &entry.info)
    }

    /// Whether any matrix is stored as codes.
    pub fn has_codes(&self) -> bool {
        self.tensors().any(|info| info.encoding.has_codes() && info.shape.len() == 2)
    }

    /// The names of the tensors that nobody asked for, in alphabetical order.
    pub fn unread(&self) -> Vec<String> {
        let unread = self.tensors.values().filter(|entry| !entry.read.load(Ordering::Relaxed));
        unread.map(|entry| entry.info.name.clone()).collect()
    }

    /// A hash of the files, SHA-256 in hexadecimal.
    pub fn hash(&self) -> String {
        let mut hash = Sha256::new();
        self.shards.iter().for_each(|shard| hash.update(&*shard.bytes));
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Bytes of all tensors.
    pub fn total_bytes(&self) -> u64 {
        self.tensors.values().map(|entry| entry.info.stored_bytes()).sum()
    }

    /// Numbers in all tensors.
    pub fn parameters(&self) -> u64 {
        self.tensors.values().map(|entry| entry.info.elements as u64).sum()
    }
}

impl Shard {
    fn file_name(&self) -> String {
        format!("{:?}", self.path.file_name().unwrap_or_default())
    }
}

/// The weights in a model directory: `model.safetensors`, or the index of several files, or else its only GGUF model.
pub(super) fn weights_in(directory: &Path) -> Result<PathBuf> {
    let candidates = ["model.safetensors", "model.safetensors.index.json"].map(|name| directory.join(name));
    if let Some(found) = candidates.into_iter().find(|path| path.exists()) {
        return Ok(found);
    }
    let entries = std::fs::read_dir(directory).map_err(|e| Error::io(directory, e))?;
    let mut names: Vec<_> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let first = |name: &&String| gguf::is_first(name);
    if let [only] = names.iter().filter(first).collect::<Vec<_>>()[..] {
        return Ok(directory.join(only));
    }
    let found = if names.is_empty() { "the directory is empty".into() } else { names.join(", ") };
    let expected =
        "no model.safetensors, no model.safetensors.index.json and not one .gguf file in it, expected any";
    Err(Error::file(directory, format!("{expected}; found: {}", clip(&found, MESSAGE))))
}

/// A tensor to read from. When it is dropped, the system is told that its part of the file need not stay
/// in memory, so that a checkpoint streams through.
#[derive(Debug)]
pub struct Tensor<'a> {
    info: &'a TensorInfo,
    bytes: &'a Bytes,
    shards: &'a [Shard],
}

/// The bytes of a tensor that is part of a matrix.
fn part_of<'a>(shards: &'a [Shard], (shard, info): &(usize, TensorInfo)) -> Part<'a> {
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

    /// The row of the file that is row `row` of the matrix.
    fn stored_row(&self, row: usize) -> usize {
        match self.info.change {
            Change::Turned(head_dim) => gguf::stored_row(row, head_dim),
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
        let turned = matches!(self.info.change, Change::Turned(_));
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
            (Encoding::Packed(packed), Codes::Affine(tile)) => {
                let cols = self.cols();
                let groups = cols.div_ceil(tile.group);
                let parts: Vec<Part<'_>> =
                    packed.parts.iter().map(|part| part_of(self.shards, part)).collect();
                let mut constants = vec![[0.0; 2]; groups];
                for (i, row) in rows.enumerate() {
                    packed.layout.codes(&parts, row, &mut tile.codes[(at + i) * cols..][..cols]);
                    packed.layout.constants(&parts, row, &mut constants);
                    for (g, &[scale, zero]) in constants.iter().enumerate() {
                        if let Some(&value) = [scale, zero].iter().find(|v| !v.is_finite()) {
                            return Err((row, g * tile.group, value));
                        }
                        let place = (at + i) * groups + g;
                        (tile.scales[place], tile.zeros[place]) = (f16::from_f32(scale), f16::from_f32(zero));
                    }
                }
                Ok(())
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
