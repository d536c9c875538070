//! Reading safetensors files: a length, a JSON header, and the tensors' bytes to the end of the file.
//!
//! [`parse_header`] takes nothing on trust, and it is a function of bytes alone, so that property tests
//! and a fuzzer can drive it. [`Checkpoint`] maps the files of a model into memory, so that opening one
//! costs nothing and its weights are read from disk as they are packed; a [`Tensor`] gives its pages back
//! when it is dropped.

use super::{MAX_JSON, MESSAGE, QUOTE, Unique, clip, read_json, shipped};
use crate::error::{Error, Result};
use half::slice::HalfFloatSliceExt;
use memmap2::Mmap;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

pub use ::safetensors::Dtype;

/// Bytes of the header's length.
const PREFIX: usize = 8;

/// What a header says of one tensor, checked against the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// What its numbers are.
    pub dtype: Dtype,
    /// Its dimensions, the slowest first; empty for a single number.
    pub shape: Vec<usize>,
    /// How many numbers it has: the product of `shape`.
    pub elements: usize,
    /// Where its bytes lie in the file.
    pub bytes: Range<usize>,
}

/// Reads and checks the header of a safetensors file of `file_len` bytes that starts with `bytes`, which
/// hold the header at least. The tensors come in the order of their bytes, which they fill without gap,
/// overlap or rest. The error is what was found and what was expected.
pub fn parse_header(bytes: &[u8], file_len: u64) -> Result<Vec<TensorInfo>, String> {
    let (data_start, header) = split_header(bytes, file_len)?;
    let header: Header = serde_json::from_slice(header)
        .map_err(|e| clip(&format!("its header is not that of a safetensors file: {e}"), MESSAGE))?;
    lay_out(header, data_start, file_len).map_err(|problem| clip(&problem, MESSAGE))
}

/// Where the tensors start, and the header's text.
fn split_header(bytes: &[u8], file_len: u64) -> Result<(usize, &[u8]), String> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX>().filter(|_| file_len >= PREFIX as u64)
    else {
        return Err(format!("is {file_len} bytes long, expected at least the {PREFIX} of a header's length"));
    };
    let length = u64::from_le_bytes(*prefix);
    if length > MAX_JSON {
        return Err(format!(
            "its header claims {length} bytes, expected at most {MAX_JSON}: not safetensors?"
        ));
    }
    let after = file_len - PREFIX as u64;
    let header = usize::try_from(length).ok().and_then(|length| rest.get(..length));
    let Some(header) = header.filter(|_| length <= after) else {
        return Err(format!(
            "its header claims {length} bytes, but only {after} follow: is the file cut short?"
        ));
    };
    match header.first() {
        Some(b'{') => Ok((PREFIX + header.len(), header)),
        Some(byte) => Err(format!("its header starts with byte {byte:#04x}, expected '{{'")),
        None => Err("its header is empty, expected a JSON object".to_owned()),
    }
}

/// Checks that the tensors are what their shapes say and fill the file from `data_start` to its end.
fn lay_out(Header(mut raw): Header, data_start: usize, file_len: u64) -> Result<Vec<TensorInfo>, String> {
    let file_len = usize::try_from(file_len)
        .map_err(|_| format!("is {file_len} bytes long, more than this machine can address"))?;
    let data_len = file_len.saturating_sub(data_start);
    raw.sort_by_key(|(_, tensor)| tensor.data_offsets);
    let mut next = 0;
    let mut tensors = Vec::with_capacity(raw.len());
    for (name, tensor) in raw {
        let (begin, end) = tensor.data_offsets;
        let problem = |what: String| Err(format!("its tensor {:?} {what}", clip(&name, QUOTE)));
        if end < begin {
            return problem(format!("has offsets [{begin}, {end}], expected the lower one first"));
        }
        let elements = tensor.shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        let bits = elements.and_then(|n| n.checked_mul(tensor.dtype.bitsize()));
        let (Some(elements), Some(bits)) = (elements, bits) else {
            return problem(format!("has shape {:?}, too large for any file", tensor.shape));
        };
        if !bits.is_multiple_of(8) || bits / 8 != end - begin {
            let (dtype, shape) = (tensor.dtype, tensor.shape);
            let found = format!("has {} bytes of data", end - begin);
            return problem(format!("{found}, expected {bits} bits for {dtype} of shape {shape:?}"));
        }
        if begin != next {
            let what = if begin < next { "overlaps the tensor before it" } else { "leaves a gap before it" };
            return problem(format!("{what}: it starts at {begin}, expected {next}"));
        }
        if end > data_len {
            return problem(format!("ends at {end} of {data_len} bytes of data: is the file cut short?"));
        }
        next = end;
        let bytes = data_start + begin..data_start + end;
        tensors.push(TensorInfo { name, dtype: tensor.dtype, shape: tensor.shape, elements, bytes });
    }
    if next != data_len {
        return Err(format!(
            "its tensors end after {next} bytes of data, expected all {data_len} to be used"
        ));
    }
    Ok(tensors)
}

/// A header's tensors in the order of the text, no name twice.
struct Header(Vec<(String, ::safetensors::tensor::TensorInfo)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let (mut tensors, mut names) = (Vec::new(), BTreeSet::new());
                while let Some(name) = map.next_key::<String>()? {
                    if !names.insert(name.clone()) {
                        return Err(serde::de::Error::custom(format!("{name:?} is there twice")));
                    } else if name == "__metadata__" {
                        // Nothing in it is used, but the format says what it is.
                        map.next_value::<Unique<String>>()?;
                    } else {
                        tensors.push((name, map.next_value()?));
                    }
                }
                Ok(Header(tensors))
            }
        }
        deserializer.deserialize_map(Entries)
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
enum Bytes {
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
    /// Opens a `.safetensors` file, a `.safetensors.index.json`, or a directory with either.
    pub fn open(path: &Path) -> Result<Checkpoint> {
        let path = if path.is_dir() { &weights_in(path)? } else { path };
        let mut checkpoint = Checkpoint { shards: Vec::new(), tensors: BTreeMap::new() };
        if path.to_string_lossy().ends_with(".json") {
            checkpoint.add_shards(path)?;
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
    fn map(path: &Path) -> Result<Bytes> {
        let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
        if !file.metadata().map_err(|e| Error::io(path, e))?.is_file() {
            return Err(Error::file(path, "is not a plain file, expected a safetensors file"));
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
        if !matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            let problem = format!("is stored as {} in {}", info.dtype, shard.file_name());
            return Err(Error::tensor(name, format!("{problem}, expected F32, F16 or BF16")));
        }
        entry.read.store(true, Ordering::Relaxed);
        Ok(Tensor { info, bytes: &shard.bytes })
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
        self.tensors.values().map(|entry| entry.info.bytes.len() as u64).sum()
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

/// The weights in a model directory: `model.safetensors`, or the index of several files.
pub(super) fn weights_in(directory: &Path) -> Result<PathBuf> {
    let candidates = ["model.safetensors", "model.safetensors.index.json"].map(|name| directory.join(name));
    if let Some(found) = candidates.into_iter().find(|path| path.exists()) {
        return Ok(found);
    }
    let entries = std::fs::read_dir(directory).map_err(|e| Error::io(directory, e))?;
    let mut names: Vec<_> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let found = if names.is_empty() { "the directory is empty".into() } else { names.join(", ") };
    let expected = "no model.safetensors and no model.safetensors.index.json in it, expected either";
    Err(Error::file(directory, format!("{expected}; found: {}", clip(&found, MESSAGE))))
}

/// A tensor to read from. When it is dropped, the system is told that its part of the file need not stay
/// in memory, so that a checkpoint streams through.
#[derive(Debug)]
pub struct Tensor<'a> {
    info: &'a TensorInfo,
    bytes: &'a Bytes,
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
        let width = self.info.dtype.bitsize() / 8;
        // Nothing says that a tensor is aligned, so numbers are put together from bytes; compilers make
        // plain loads of this.
        let bytes = &self.bytes[self.info.bytes.clone()][range.start * width..range.end * width];
        match self.info.dtype {
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
