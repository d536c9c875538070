//! Writing models: weights quantized matrix by matrix, into files that other programs read too.
//!
//! A layout of codes in safetensors is one file here and one line in [`LAYOUTS`]; [`gguf`] has the block types of GGUF
//! files. A model goes through in one pass: at any time one matrix is in memory, as numbers and as codes.
//!
//! What is written lies under a temporary name until it is whole ([`Place`]).

mod card;
mod compressed_tensors;
mod directory;
pub mod gguf;
mod gptq;
mod place;

pub use directory::Description;
pub use place::Place;

use crate::checkpoint::{Checkpoint, Dtype, Encoding, TensorInfo};
use crate::error::{Error, Result};
use crate::quantize::{Coded, Flaw, Quantizer, Zeros};
use half::f16;
use half::slice::HalfFloatSliceExt;
use serde::Serialize;
use serde_json::Value;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Every layout of codes in safetensors; the first is the default.
pub const LAYOUTS: &[&Layout] = &[&compressed_tensors::LAYOUT, &gptq::LAYOUT];

/// How a safetensors file holds matrices of codes.
pub struct Layout {
    /// Its name, the `quant_method` of a configuration.
    pub name: &'static str,
    /// What of a grid can be stored, when zeros may be anywhere or are to be in the middle.
    pub zeros: fn(symmetric: bool) -> Zeros,
    /// The tensors of the matrix `stem.weight`, in the order in which they are encoded, or why it cannot be held.
    pieces: fn(&Settings, stem: &str, shape: [usize; 2]) -> Pieces,
    /// Whether a matrix that cannot be held may stay as floats, its name being listed.
    may_keep: bool,
    /// The bytes of each piece.
    encode: fn(&Settings, &Coded) -> Vec<Vec<u8>>,
    /// The `quantization_config`; `kept` are the names of the matrices that are floats, less `.weight`.
    config: fn(&Settings, kept: &[String]) -> Value,
}

impl std::fmt::Debug for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// How a model is quantized.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// What chooses scales and codes.
    pub quantizer: &'static Quantizer,
    /// Bits of a code, 4 or 8.
    pub bits: u32,
    /// Columns that share a scale.
    pub group: usize,
    /// Whether codes are counted from the middle.
    pub symmetric: bool,
}

/// The tensors of a matrix, or why it cannot be held.
type Pieces = std::result::Result<Vec<Piece>, String>;

/// A tensor of a file that is being written.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

impl Piece {
    fn new(stem: &str, suffix: &str, dtype: Dtype, shape: &[usize]) -> Self {
        Piece { name: format!("{stem}{suffix}"), dtype, shape: shape.to_vec() }
    }
}

/// What became of a model.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Matrices that are codes now.
    pub matrices: usize,
    /// Matrices that are 16-bit floats.
    pub kept: Vec<String>,
    /// Bytes of the weights before.
    pub bytes_before: u64,
    /// Bytes of the weights now, headers included.
    pub bytes: u64,
    /// Bits of a weight of the quantized matrices, scales and zeros included.
    pub bits_per_weight: f64,
    /// Σ (w − ŵ)² / Σ w² over the quantized matrices.
    pub relative_error: f64,
    /// The same by kinds of matrix, in the order of their names.
    pub kinds: Vec<Kind>,
}

/// Matrices of one kind, as `mlp.up_proj`, over all layers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Kind {
    /// The end of their names.
    pub kind: String,
    /// How many there are.
    pub matrices: usize,
    /// Weights in all of them.
    pub weights: u64,
    /// Σ (w − ŵ)² / Σ w²
    pub relative_error: f64,
    #[serde(skip)]
    error: f64,
    #[serde(skip)]
    power: f64,
}

impl Summary {
    /// Counts a quantized matrix.
    fn add(&mut self, name: &str, weights: &[f32], coded: &Coded) {
        let stem = name.strip_suffix(".weight").unwrap_or(name);
        // All that comes after the number of the layer, and of an expert if there is one.
        let kind = stem.rsplit('.').take_while(|part| !numbered(part)).collect::<Vec<_>>();
        let kind = kind.into_iter().rev().collect::<Vec<_>>().join(".");
        let place = self.kinds.binary_search_by(|k| k.kind.as_str().cmp(&kind)).unwrap_or_else(|place| {
            self.kinds.insert(place, Kind { kind, ..Kind::default() });
            place
        });
        let kind = &mut self.kinds[place];
        kind.matrices += 1;
        kind.weights += weights.len() as u64;
        kind.error += coded.squared_error(weights);
        kind.power += weights.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>();
        self.matrices += 1;
    }

    /// Works out what is told of all.
    fn finish(&mut self, coded_bytes: u64) {
        let ratio = |error: f64, power: f64| if power > 0.0 { error / power } else { 0.0 };
        self.kinds.iter_mut().for_each(|kind| kind.relative_error = ratio(kind.error, kind.power));
        let sum = |of: fn(&Kind) -> f64| self.kinds.iter().map(of).sum::<f64>();
        self.relative_error = ratio(sum(|k| k.error), sum(|k| k.power));
        self.bits_per_weight = coded_bytes as f64 * 8.0 / sum(|k| k.weights as f64).max(1.0);
    }
}

/// What goes on while a model is written.
pub struct Watch<'a> {
    /// Is told of each so many bytes of the checkpoint done.
    pub progress: &'a mut dyn FnMut(u64),
    /// Whether to stop.
    pub interrupted: &'a dyn Fn() -> bool,
}

impl Watch<'_> {
    fn done(&mut self, info: &TensorInfo) -> Result<()> {
        (self.progress)(info.stored_bytes());
        match (self.interrupted)() {
            true => Err(Error::Model("interrupted: nothing is left of what was written".to_owned())),
            false => Ok(()),
        }
    }
}

/// Whether a part of a tensor's name is a number.
fn numbered(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())
}

/// What is done with a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// A matrix of a layer: it becomes codes.
    Quantize,
    /// A matrix that stays: the embedding, the output layer, a router of experts.
    Keep,
    /// A vector, or something with more dimensions.
    Copy,
    /// No model reads it.
    Drop,
}

impl Use {
    fn of(info: &TensorInfo) -> Use {
        let name = info.name.as_str();
        let buffers = [".inv_freq", ".attn.bias", ".attention.bias", ".masked_bias"];
        let readable = matches!(
            info.encoding,
            Encoding::Plain(Dtype::F32 | Dtype::F16 | Dtype::BF16)
                | Encoding::Blocks(_)
                | Encoding::Packed(_)
        );
        if !readable || buffers.iter().any(|end| name.ends_with(end)) {
            return Use::Drop;
        }
        let [_, _] = info.shape[..] else { return Use::Copy };
        let in_layer = name.split('.').any(numbered) && name.ends_with(".weight");
        let router = name.ends_with(".gate.weight") || name.ends_with(".router.weight");
        if in_layer && !router { Use::Quantize } else { Use::Keep }
    }
}

/// The tensors of a model to be written, in alphabetical order, with what is done with each.
///
/// # Errors
/// When there is no matrix to quantize, or the weights are codes already.
fn tensors(checkpoint: &Checkpoint) -> Result<Vec<(&TensorInfo, Use)>> {
    if let Some(info) = checkpoint.tensors().find(|info| info.encoding.has_codes() && info.shape.len() == 2) {
        let problem = format!(
            "is stored as {} already, and rounding twice adds up: expected a model in 16- or 32-bit floats",
            info.encoding
        );
        return Err(Error::tensor(&info.name, problem));
    }
    let all: Vec<(&TensorInfo, Use)> = checkpoint.tensors().map(|info| (info, Use::of(info))).collect();
    match all.iter().any(|(_, of)| *of == Use::Quantize) {
        true => Ok(all.into_iter().filter(|(_, of)| *of != Use::Drop).collect()),
        false => {
            Err(Error::Model("the model has no matrix in a layer: there is nothing to quantize".to_owned()))
        }
    }
}

/// The numbers of a tensor, all of them finite.
fn numbers(checkpoint: &Checkpoint, info: &TensorInfo) -> Result<Vec<f32>> {
    let tensor = checkpoint.tensor(&info.name, &info.shape)?;
    let mut values = vec![0.0; info.elements];
    tensor.read_f32(0..values.len(), &mut values);
    match values.iter().position(|w| !w.is_finite()) {
        Some(i) => {
            let cols = tensor.cols().max(1);
            Err(flawed(info, Flaw { row: i / cols, col: i % cols, value: values[i] }))
        }
        None => Ok(values),
    }
}

/// Quantizes a matrix.
fn coded(info: &TensorInfo, values: &[f32], settings: &Settings, zeros: Zeros) -> Result<Coded> {
    let &[rows, cols] = info.shape.as_slice() else { unreachable!("only matrices are quantized") };
    let spec = crate::quantize::Spec::new(settings.bits, settings.group, zeros);
    settings.quantizer.quantize_matrix(values, [rows, cols], spec).map_err(|flaw| flawed(info, flaw))
}

fn flawed(info: &TensorInfo, Flaw { row, col, value }: Flaw) -> Error {
    let expected = match value.is_finite() {
        true => "beyond what 16-bit scales hold (65504 is f16's greatest number)",
        false => "expected finite numbers",
    };
    Error::tensor(&info.name, format!("is {value} at [{row}, {col}], {expected}"))
}

/// 16-bit floats.
fn halves(info: &TensorInfo, values: &[f32]) -> Result<Vec<u8>> {
    if let Some(i) = values.iter().position(|&w| !f16::from_f32(w).is_finite()) {
        let cols = info.shape.last().copied().unwrap_or(1).max(1);
        return Err(flawed(info, Flaw { row: i / cols, col: i % cols, value: values[i] }));
    }
    let mut halves = vec![f16::ZERO; values.len()];
    halves.convert_from_f32_slice(values);
    Ok(halves.iter().flat_map(|h| h.to_le_bytes()).collect())
}

/// 32-bit words with `bits` bits of each code, the first in the low bits; the last word is filled up with zeros.
fn words(codes: impl Iterator<Item = u8>, bits: u32, out: &mut Vec<u8>) {
    let mut word = 0u32;
    let mut at = 0;
    for code in codes {
        word |= u32::from(code) << at;
        at += bits;
        if at == 32 {
            out.extend(word.to_le_bytes());
            (word, at) = (0, 0);
        }
    }
    if at > 0 {
        out.extend(word.to_le_bytes());
    }
}

/// A file that is written here and there.
struct Target {
    file: File,
    path: PathBuf,
}

impl Target {
    fn create(path: PathBuf, len: u64) -> Result<Self> {
        let file = File::create_new(&path).map_err(|e| Error::io(&path, e))?;
        file.set_len(len).map_err(|e| Error::io(&path, e))?;
        Ok(Target { file, path })
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        let written = self.file.seek(SeekFrom::Start(at)).and_then(|_| self.file.write_all(bytes));
        written.map_err(|e| Error::io(&self.path, e))
    }

    /// Waits until it is on disk.
    fn finish(self) -> Result<()> {
        self.file.sync_all().map_err(|e| Error::io(&self.path, e))
    }
}

/// The settings, as a model's card has them.
fn described(settings: &Settings) -> String {
    format!(
        "{} bits, {} in groups of {} weights of a row, scales in 16-bit floats, chosen by `{}`",
        settings.bits,
        if settings.symmetric { "codes counted from the middle" } else { "codes counted from a zero" },
        settings.group,
        settings.quantizer.name
    )
}

/// The name of a path without directories.
fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
