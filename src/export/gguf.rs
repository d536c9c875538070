//! GGUF files: blocks of 32 weights, with the tokenizer and all that is known of the model in the same file.

use super::directory::Description;
use super::{Place, Recipe, Settings, Summary, Target, Use, Watch, halves, tensors};
use crate::checkpoint::ggml::{BLOCK_TYPES, BlockType};
use crate::checkpoint::gguf::{Naming, Stored, Value, stored_row, vocabulary, write_header};
use crate::checkpoint::{Config, TensorInfo};
use crate::error::{Error, Result};
use crate::model::rope_factors;
use crate::quantize::{Coded, Zeros};
use crate::text::Tokenizer;
use serde_json::Value as Json;
use std::path::Path;

/// Numbers of the types of plain numbers.
const F32: u32 = 0;
const F16: u32 = 1;

/// What `general.file_type` says of a file, by the type of most of its matrices.
const FILE_TYPES: [(&str, i128); 4] = [("f16", 1), ("q4_0", 2), ("q4_1", 3), ("q8_0", 7)];

/// Largest file of a tokenizer.
const MAX_FILE: u64 = 256 << 20;

/// A type that matrices are written in.
#[derive(Clone, Copy, Debug)]
pub struct Type {
    /// Its name, `q4_0` and so on.
    pub name: &'static str,
    /// Bits of a code, and what of a grid can be stored; none for 16-bit floats.
    pub codes: Option<(u32, Zeros)>,
}

/// Every type that matrices can be written in.
pub const TYPES: &[Type] = &[
    Type { name: "q4_0", codes: Some((4, Zeros::Middle)) },
    Type { name: "q4_1", codes: Some((4, Zeros::Offset)) },
    Type { name: "q8_0", codes: Some((8, Zeros::Middle)) },
    Type { name: "f16", codes: None },
];

/// Weights of a block.
pub const BLOCK: usize = 32;

impl Type {
    /// The type called `name`.
    pub fn named(name: &str) -> Option<&'static Type> {
        TYPES.iter().find(|t| t.name == name)
    }

    /// The type of codes of so many bits, 4 or 8, or of floats.
    pub fn of_bits(bits: u32, symmetric: bool) -> Option<&'static Type> {
        Type::named(match (bits, symmetric) {
            (16, _) => "f16",
            (8, _) => "q8_0",
            (_, true) => "q4_0",
            (_, false) => "q4_1",
        })
    }

    /// Bytes of a matrix of that type; none where it has no whole blocks.
    pub fn bytes(&self, [rows, cols]: [usize; 2]) -> Option<u64> {
        let weights = rows.checked_mul(cols)?;
        let bytes = match self.block() {
            Some(block) if cols.is_multiple_of(BLOCK) => (weights / BLOCK).checked_mul(block.bytes)?,
            Some(_) => return None,
            None => weights.checked_mul(2)?,
        };
        Some(bytes as u64)
    }

    /// How matrices of that type are quantized; none for 16-bit floats.
    pub fn settings(&self, settings: Settings) -> Option<Settings> {
        self.codes.map(|(bits, _)| Settings { bits, group: BLOCK, ..settings })
    }

    fn block(&self) -> Option<&'static BlockType> {
        BLOCK_TYPES.iter().find(|block| block.name.eq_ignore_ascii_case(self.name))
    }

    /// Writes the model to the file `out`; what the recipe says of bits holds where it is other than the type's.
    ///
    /// # Errors
    /// When `out` is there and not to be replaced, GGUF files cannot say what the model or its tokenizer is, a weight is
    /// not finite, or writing fails.
    pub fn write(
        &self,
        model: &Description<'_>,
        recipe: &mut Recipe<'_>,
        (out, force): (&Path, bool),
        watch: &mut Watch<'_>,
    ) -> Result<Summary> {
        let place = Place::new(out, force)?;
        let config = Config::open(model.directory)?;
        let naming = Naming::of(&config).map_err(Error::Model)?;
        let mut summary = Summary { bytes_before: model.checkpoint.total_bytes(), ..Summary::default() };
        let mut metadata = naming.describe(&config).map_err(Error::Model)?;
        metadata.extend(self.general(model.name));
        metadata.extend(tokenizer(model, &config)?);

        let jobs = self.jobs(model, (naming, config.tie_word_embeddings), recipe, &mut summary)?;
        recipe.plan(jobs.iter().filter(|job| job.settings.is_some()).map(|job| job.info.name.as_str()));
        let mut stored: Vec<Stored> = jobs.iter().map(|job| job.stored.clone()).collect();
        let factors = rope_factors(config.rope);
        stored.extend(factors.as_ref().map(|factors| Stored {
            name: "rope_freqs.weight".to_owned(),
            shape: vec![factors.len()],
            kind: F32,
            bytes: factors.len() * 4,
        }));
        let (header, offsets) = write_header(&metadata, &stored);
        summary.bytes = offsets.last().copied().unwrap_or_default();
        let mut file = Target::create(place.path().to_owned(), summary.bytes)?;
        file.write(0, &header)?;
        let mut coded_bytes = 0;
        for (job, &at) in jobs.iter().zip(&offsets) {
            let mut values = recipe.numbers(model.checkpoint, job.info)?;
            if naming.turned(&job.stored.name) {
                values = turned(&values, job.info, config.head_dim)?;
            }
            let bytes = match (&job.block, &job.settings) {
                (Some((block, zeros)), Some(settings)) => {
                    let coded = recipe.coded(job.info, &values, (settings, *zeros), &mut summary, watch)?;
                    coded_bytes += job.stored.bytes as u64;
                    blocks(block, &coded)
                }
                _ if job.stored.kind == F16 => halves(job.info, &values)?,
                _ => values.iter().flat_map(|w| w.to_le_bytes()).collect(),
            };
            file.write(at, &bytes)?;
            watch.done(job.info)?;
        }
        if let (Some(factors), Some(&at)) = (&factors, offsets.get(jobs.len())) {
            file.write(at, &factors.iter().flat_map(|f| f.to_le_bytes()).collect::<Vec<u8>>())?;
        }
        file.finish()?;
        summary.unscaled = std::mem::take(&mut recipe.unscaled);
        summary.finish(coded_bytes);
        place.finish()?;
        Ok(summary)
    }

    fn general(&self, name: &str) -> Vec<(String, Value)> {
        let kind = FILE_TYPES.iter().find(|(name, _)| *name == self.name).map_or(0, |(_, number)| *number);
        let name = name.trim_end_matches('/').rsplit('/').next().unwrap_or(name);
        vec![
            ("general.name".to_owned(), Value::Text(name.to_owned())),
            ("general.file_type".to_owned(), Value::Integer(kind)),
            ("general.quantization_version".to_owned(), Value::Integer(2)),
        ]
    }

    fn jobs<'a>(
        &self,
        model: &Description<'a>,
        (naming, tied): (Naming, bool),
        recipe: &Recipe<'_>,
        summary: &mut Summary,
    ) -> Result<Vec<Job<'a>>> {
        let mut jobs = Vec::new();
        for (info, of) in tensors(model.checkpoint)? {
            let Some(name) = naming.stored_name(&info.name) else {
                return Err(Error::tensor(&info.name, "has no name in GGUF files of this architecture"));
            };
            // Whoever reads such a file takes an output matrix that is there, and not the embedding.
            if tied && name.starts_with("output.") {
                continue;
            }
            let cols = info.shape.last().copied().unwrap_or(1);
            let own = recipe.stored.get(&info.name).map(|stored| stored.bits);
            let own = own.filter(|&bits| self.codes.is_none_or(|(usual, _)| usual != bits));
            let kind = own.map_or(Some(self), |bits| Type::of_bits(bits, recipe.settings.symmetric));
            let kind = kind.filter(|_| of == Use::Quantize);
            if kind.is_some_and(|kind| kind.codes.is_some()) && !cols.is_multiple_of(BLOCK) {
                summary.uneven.push(info.name.clone());
            }
            let kind = kind.filter(|_| cols.is_multiple_of(BLOCK));
            let block = kind.and_then(|kind| Some((kind.block()?, kind.codes?.1)));
            let settings = kind.and_then(|kind| kind.settings(recipe.settings));
            if own == Some(16) && of == Use::Quantize {
                summary.floats += info.elements as u64;
            }
            let (kind, bytes) = match (block, of) {
                (Some((block, _)), _) => (block.id, info.elements / BLOCK * block.bytes),
                (None, Use::Copy) => (F32, info.elements * 4),
                (None, _) => (F16, info.elements * 2),
            };
            if block.is_none() && of != Use::Copy {
                summary.kept.push(info.name.strip_suffix(".weight").unwrap_or(&info.name).to_owned());
            }
            jobs.push(Job {
                info,
                block,
                settings,
                stored: Stored { name, shape: info.shape.clone(), kind, bytes },
            });
        }
        Ok(jobs)
    }
}

/// A tensor, where it comes from and what it becomes.
struct Job<'a> {
    info: &'a TensorInfo,
    /// The type of its blocks, and what it holds of a grid.
    block: Option<(&'static BlockType, Zeros)>,
    /// How it is quantized.
    settings: Option<Settings>,
    stored: Stored,
}

/// The rows of queries or keys in the order in which files have them.
fn turned(values: &[f32], info: &TensorInfo, head_dim: usize) -> Result<Vec<f32>> {
    let rows = info.shape.first().copied().unwrap_or(0);
    if head_dim == 0 || !head_dim.is_multiple_of(2) || !rows.is_multiple_of(head_dim) {
        let problem = format!("has {rows} rows, expected heads of {head_dim}, an even number");
        return Err(Error::tensor(&info.name, problem));
    }
    let cols = values.len() / rows.max(1);
    let mut out = vec![0.0; values.len()];
    for (row, numbers) in values.chunks(cols.max(1)).enumerate() {
        out[stored_row(row, head_dim) * cols..][..cols].copy_from_slice(numbers);
    }
    Ok(out)
}

fn blocks(block: &BlockType, coded: &Coded) -> Vec<u8> {
    let mut out = Vec::with_capacity(coded.codes.len() / BLOCK * block.bytes);
    let constants = coded.scales.iter().zip(&coded.zeros);
    for (codes, (&scale, &offset)) in coded.codes.chunks(BLOCK).zip(constants) {
        // Types that are not written are not in the table above.
        let _ = block.write(codes, [scale, offset], &mut out);
    }
    out
}

/// What the metadata says of the tokenizer.
fn tokenizer(model: &Description<'_>, config: &Config) -> Result<Vec<(String, Value)>> {
    let read = |name: &str| -> Result<Json> {
        let path = model.directory.join(name);
        match model.directory.read(name, MAX_FILE)? {
            Some(bytes) => {
                serde_json::from_slice(&bytes).map_err(|e| Error::file(path, format!("is not JSON: {e}")))
            }
            None => Ok(Json::Null),
        }
    };
    let (json, settings) = (read("tokenizer.json")?, read("tokenizer_config.json")?);
    let mut all = vocabulary(&json, &settings, config.vocab_size).map_err(Error::Model)?;
    let mut set = |key: &str, value: Value| {
        let key = format!("tokenizer.{key}");
        if !all.iter().any(|(other, _)| *other == key) {
            all.push((key, value));
        }
    };
    let mut ends = config.eos_token_ids.iter();
    for (key, id) in
        [("bos", config.bos_token_id), ("eos", ends.next().copied()), ("eot", ends.next().copied())]
    {
        if let Some(id) = id {
            set(&format!("ggml.{key}_token_id"), Value::Integer(id.into()));
        }
    }
    let reader = Tokenizer::open(model.directory, config.vocab_size)?;
    let begins = reader.bos().is_some() && reader.encode("a", true)?.first().copied() == reader.bos();
    set("ggml.add_bos_token", Value::Flag(begins));
    if let Some(template) = reader.template() {
        set("chat_template", Value::Text(template.to_owned()));
    }
    Ok(all)
}
