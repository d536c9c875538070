//! The weights of a model: the tensors of its files, by name.
//!
//! [`Checkpoint`] maps the files of a model into memory, so that opening one costs nothing and its weights are read
//! from disk as they are packed; a [`Tensor`] gives its pages back when it is dropped.

use super::multimodal::{Fate, Kind};
use super::packed::{Found, Packed, Quantization, Tensors};
use super::tensor::{Change, Dtype, Encoding, Tensor, TensorInfo, part_of};
use super::{MAX_JSON, MESSAGE, QUOTE, Source, Unique, clip, gguf, parse_header, read_json, shipped};
use crate::error::{Error, Result};
use memmap2::Mmap;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The weights of a model, mapped into memory.
#[derive(Debug)]
pub struct Checkpoint {
    shards: Vec<Shard>,
    tensors: BTreeMap<String, Entry>,
    /// Tensors of other models in the same files.
    aside: usize,
}

#[derive(Debug)]
pub(super) struct Shard {
    path: PathBuf,
    pub(super) bytes: Bytes,
}

/// The bytes of a file.
#[derive(Debug)]
pub(super) enum Bytes {
    /// On disk.
    Mapped(Mmap),
    /// In the program.
    Shipped(&'static [u8]),
    /// Nowhere: numbers are made as they are read.
    Noise,
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Shipped(bytes) => bytes,
            Bytes::Noise => &[],
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
    /// Opens the weights of a model. What its configuration says to be the parts of a matrix is put together, and where
    /// several models share the files, the language model is taken.
    pub fn of(source: &Source) -> Result<Checkpoint> {
        let mut checkpoint = Checkpoint::open(&source.weights)?;
        let Some(bytes) = source.directory.read("config.json", MAX_JSON)? else { return Ok(checkpoint) };
        let problem =
            |problem: String| Error::file(source.directory.join("config.json"), clip(&problem, MESSAGE));
        let config: Value =
            serde_json::from_slice(&bytes).map_err(|e| problem(format!("is not JSON: {e}")))?;
        if let Some(quantization) = Quantization::of(&config).map_err(problem)? {
            checkpoint.assemble(&quantization)?;
        }
        if let Some(kind) = config.as_object().and_then(Kind::of) {
            checkpoint.take_text(kind)?;
        }
        Ok(checkpoint)
    }

    /// Tensors of one file, which need not exist.
    pub(super) fn made(path: &Path, bytes: Bytes, infos: Vec<TensorInfo>) -> Checkpoint {
        let entry = |info: TensorInfo| {
            let name = info.name.clone();
            (name, Entry { info, shard: 0, read: AtomicBool::new(false) })
        };
        let tensors = infos.into_iter().map(entry).collect();
        Checkpoint { shards: vec![Shard { path: path.to_owned(), bytes }], tensors, aside: 0 }
    }

    /// Leaves the tensors of the language model alone, by the names that they would have then.
    fn take_text(&mut self, kind: &Kind) -> Result<()> {
        for (name, mut entry) in std::mem::take(&mut self.tensors) {
            match kind.fate(&name) {
                Fate::Other => self.aside += 1,
                Fate::Text(own) => {
                    entry.info.name.clone_from(&own);
                    if self.tensors.insert(own.clone(), entry).is_some() {
                        return Err(Error::tensor(clip(&own, QUOTE), "is there by two names, expected one"));
                    }
                }
            }
        }
        Ok(())
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
            // Its other size would not be bounded by the file, and is counted up to below.
            if elements == 0 {
                return Err(Error::tensor(clip(&name, QUOTE), format!("has shape {shape:?}: it is empty")));
            }
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
        let mut checkpoint = Checkpoint { shards: Vec::new(), tensors: BTreeMap::new(), aside: 0 };
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

    /// How many tensors of the files belong to other models than the language model: to one that reads images.
    pub fn aside(&self) -> usize {
        self.aside
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
