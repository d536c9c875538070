//! Writing models: weights quantized matrix by matrix, into files that other programs read too.
//!
//! A layout of codes in safetensors is one file here and one line in [`LAYOUTS`]; [`gguf`] has the block types of GGUF
//! files. A model goes through in one pass: at any time one matrix is in memory, as numbers and as codes.
//!
//! What is written lies under a temporary name until it is whole ([`Place`]).

mod budget;
mod calibration;
mod card;
mod compressed_tensors;
mod directory;
pub mod gguf;
mod gptq;
mod place;
mod recipe;
mod scaling;
mod sensitivity;
mod summary;

pub use calibration::Calibration;
pub use directory::Description;
pub use place::Place;
pub use recipe::{Recipe, Settings, Stored};
pub use scaling::Scaling;
pub use sensitivity::{Budget, Part, choose as choose_bits};
pub use summary::{Kind, Summary};

use crate::checkpoint::{Checkpoint, Dtype, Encoding, TensorInfo};
use crate::error::{Error, Result};
use crate::model::is_buffer;
use crate::quantize::{Coded, Flaw, Zeros};
use half::f16;
use half::slice::HalfFloatSliceExt;
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
    /// Whether matrices may be stored in several ways.
    pub mixes: bool,
    /// The `quantization_config`: what most are stored as, which are stored how, and `kept`, the names of those that are
    /// floats. Names are less `.weight`.
    config: fn(&Settings, groups: &[Alike], kept: &[String]) -> Value,
}

impl std::fmt::Debug for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Matrices that are stored alike, and how.
type Alike = (Settings, Vec<String>);

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
            true => Err(interrupted()),
            false => Ok(()),
        }
    }
}

fn interrupted() -> Error {
    Error::Model("interrupted: nothing is left of what was written".to_owned())
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
    fn of(info: &TensorInfo) -> Result<Use> {
        let name = info.name.as_str();
        if is_buffer(name) {
            return Ok(Use::Drop);
        }
        match info.encoding {
            Encoding::Blocks(_) | Encoding::Packed(_) => {}
            Encoding::Plain(Dtype::F32 | Dtype::F16 | Dtype::BF16) => {}
            // Counters and masks; weights would be missed.
            Encoding::Plain(dtype) if is_whole(dtype) && !name.ends_with(".weight") => return Ok(Use::Drop),
            _ => {
                let problem = format!("is stored as {}, expected F32, F16 or BF16", info.encoding);
                return Err(Error::tensor(name, problem));
            }
        }
        if info.elements == 0 {
            return Err(Error::tensor(name, format!("has shape {:?}: it is empty", info.shape)));
        }
        let [_, _] = info.shape[..] else { return Ok(Use::Copy) };
        let in_layer = name.split('.').any(numbered) && name.ends_with(".weight");
        let router = name.ends_with(".gate.weight") || name.ends_with(".router.weight");
        Ok(if in_layer && !router { Use::Quantize } else { Use::Keep })
    }
}

/// Whether numbers of that type are whole.
fn is_whole(dtype: Dtype) -> bool {
    use Dtype::{BOOL, I8, I16, I32, I64, U8, U16, U32, U64};
    matches!(dtype, BOOL | I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64)
}

/// The tensors of a model to be written, in alphabetical order, with what is done with each.
///
/// # Errors
/// When there is no matrix to quantize, the weights are codes already, or one cannot be read.
fn tensors(checkpoint: &Checkpoint) -> Result<Vec<(&TensorInfo, Use)>> {
    if let Some(info) = checkpoint.tensors().find(|info| info.encoding.has_codes() && info.shape.len() == 2) {
        let problem = format!(
            "is stored as {} already, and rounding twice adds up: expected a model in 16- or 32-bit floats",
            info.encoding
        );
        return Err(Error::tensor(&info.name, problem));
    }
    let all = checkpoint.tensors().map(|info| Ok((info, Use::of(info)?)));
    let all = all.collect::<Result<Vec<_>>>()?;
    match all.iter().any(|(_, of)| *of == Use::Quantize) {
        true => Ok(all.into_iter().filter(|(_, of)| *of != Use::Drop).collect()),
        false => {
            Err(Error::Model("the model has no matrix in a layer: there is nothing to quantize".to_owned()))
        }
    }
}

/// The names of the matrices that can become codes.
///
/// # Errors
/// When there are none, the weights are codes already, or one cannot be read.
pub fn matrices(checkpoint: &Checkpoint) -> Result<Vec<String>> {
    let all = tensors(checkpoint)?.into_iter().filter(|(_, of)| *of == Use::Quantize);
    Ok(all.map(|(info, _)| info.name.clone()).collect())
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

/// The name of a path without directories.
fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Config, locate};
    use crate::quantize::QUANTIZERS;
    use safetensors::{SafeTensors, serialize, tensor::TensorView};

    /// A tiny model with a tokenizer, and a tensor more; the error if it has one that cannot be written to `out`.
    fn write(model: &str, more: (&str, Dtype, &[usize]), out: &str) -> (tempfile::TempDir, Result<()>) {
        let tiny = |model: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny").join(model);
        let directory = tempfile::tempdir().unwrap();
        for (model, file) in
            [(model, "config.json"), ("llama", "tokenizer.json"), ("llama", "tokenizer_config.json")]
        {
            std::fs::copy(tiny(model).join(file), directory.path().join(file)).unwrap();
        }
        let file = std::fs::read(tiny(model).join("model.safetensors")).unwrap();
        let (name, dtype, shape) = more;
        let bytes = vec![0x3a; shape.iter().product::<usize>() * dtype.bitsize() / 8];
        let mut all = SafeTensors::deserialize(&file).unwrap().tensors();
        all.retain(|(other, _)| other != name);
        all.push((name.to_owned(), TensorView::new(dtype, shape.to_vec(), &bytes).unwrap()));
        std::fs::write(directory.path().join("model.safetensors"), serialize(all, None).unwrap()).unwrap();
        let written = write_to(directory.path(), &directory.path().join(out));
        (directory, written)
    }

    fn write_to(model: &Path, out: &Path) -> Result<()> {
        let source = locate(model.to_str().unwrap())?;
        let checkpoint = Checkpoint::of(&source)?;
        let model = Description { name: "tiny", directory: &source.directory, checkpoint: &checkpoint };
        let settings =
            Settings { quantizer: QUANTIZERS[0], bits: 4, states: None, group: 8, symmetric: false };
        let mut watch = Watch { progress: &mut |_| {}, interrupted: &|| false };
        let mut recipe = Recipe::plain(settings);
        match out.extension() {
            Some(_) => {
                let kind = gguf::Type::named("f16").unwrap();
                kind.write(&model, &mut recipe, (out, false), &mut watch).map(drop)
            }
            None => LAYOUTS[0].write(&model, &mut recipe, (out, false), &mut watch).map(drop),
        }
    }

    /// Whoever reads a GGUF file uses an output matrix that is there, also one that the model does not read.
    #[test]
    fn a_tied_model_stays_tied_in_gguf() {
        let config = |directory: &Path, file: &str| {
            let source = locate(directory.join(file).to_str().unwrap()).unwrap();
            (Config::open(&source.directory).unwrap(), Checkpoint::of(&source).unwrap())
        };
        let tied = "llama-gqa-llama3";
        let source = locate(&format!("{}/tests/data/tiny/{tied}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let vocab = Config::open(&source.directory).unwrap().vocab_size;
        let (directory, written) = write(tied, ("lm_head.weight", Dtype::F16, &[vocab, 64]), "out.gguf");
        written.unwrap();
        let (config, checkpoint) = config(directory.path(), "out.gguf");
        assert!(config.tie_word_embeddings);
        assert!(checkpoint.get("lm_head.weight").is_none());
        assert!(checkpoint.get("model.embed_tokens.weight").is_some());
    }

    /// What cannot be written is not left out, where the model may need it.
    #[test]
    fn tensors_that_cannot_be_written_are_named() {
        for out in ["out", "out.gguf"] {
            for (name, dtype, shape, problem) in [
                ("model.layers.0.mlp.up_proj.weight", Dtype::F64, &[8, 8][..], "is stored as F64"),
                ("model.layers.0.mlp.up_proj.weight", Dtype::I8, &[8, 8], "is stored as I8"),
                ("model.norm.weight", Dtype::F8_E4M3, &[8], "is stored as F8_E4M3"),
                ("model.layers.0.extra.weight", Dtype::F16, &[5, 0], "has shape [5, 0]: it is empty"),
                ("extra", Dtype::F32, &[1 << 40, 0], "has shape [1099511627776, 0]: it is empty"),
            ] {
                let error = write("llama", (name, dtype, shape), out).1.unwrap_err().to_string();
                assert!(error.contains(name) && error.contains(problem), "{out}: {error}");
            }
            for (name, dtype) in [
                ("model.layers.0.self_attn.rotary_emb.inv_freq", Dtype::F64),
                ("model.layers.0.attn.bias", Dtype::BOOL),
                ("model.embed_tokens.position_ids", Dtype::I64),
            ] {
                write("llama", (name, dtype, &[4]), out).1.unwrap_or_else(|e| panic!("{out} {name}: {e}"));
            }
        }
    }
}
