//! A model directory: one safetensors file, the configuration, the tokenizer's files and a card.

use super::card::{Card, card};
use super::recipe::described;
use super::{Alike, Layout, Piece, Place, Recipe, Settings, Summary, Target, Use, Watch, halves, tensors};
use crate::checkpoint::{Checkpoint, Directory, Dtype, TensorInfo};
use crate::error::{Error, Result};
use half::bf16;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;

/// Files that are taken over as they are, where they are there.
const COPIED: &[&str] = &[
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "LICENSE",
];

/// Largest of those.
const MAX_FILE: u64 = 256 << 20;

/// A model to be written.
pub struct Description<'a> {
    /// What it is called.
    pub name: &'a str,
    /// The directory with its configuration and tokenizer.
    pub directory: &'a Directory,
    /// Its weights.
    pub checkpoint: &'a Checkpoint,
}

/// A tensor, where it comes from and where its pieces go.
struct Job<'a> {
    info: &'a TensorInfo,
    /// None where it stays floats.
    settings: Option<Settings>,
    pieces: Vec<Piece>,
    offsets: Vec<u64>,
}

impl Layout {
    /// The layout called `name`.
    pub fn named(name: &str) -> Option<&'static Layout> {
        super::LAYOUTS.iter().copied().find(|layout| layout.name == name)
    }

    /// Bytes of a matrix of codes; none where it cannot be held.
    pub fn bytes(&self, settings: &Settings, shape: [usize; 2]) -> Option<u64> {
        let pieces = (self.pieces)(settings, "", shape).ok()?;
        Some(pieces.iter().map(size).sum())
    }

    /// Writes the model to `out`, a directory.
    ///
    /// # Errors
    /// When `out` is there and not to be replaced, a matrix cannot be held, a weight is not finite, or writing fails.
    pub fn write(
        &self,
        model: &Description<'_>,
        recipe: &mut Recipe<'_>,
        (out, force): (&Path, bool),
        watch: &mut Watch<'_>,
    ) -> Result<Summary> {
        let place = Place::new(out, force)?;
        let mut summary = Summary { bytes_before: model.checkpoint.total_bytes(), ..Summary::default() };
        let mut jobs = self.jobs(model.checkpoint, recipe, &mut summary)?;
        let config = self.config(model, (&recipe.settings, &jobs), &summary.kept)?;
        recipe.plan(jobs.iter().filter(|job| job.settings.is_some()).map(|job| job.info.name.as_str()));
        let header = lay_out(&mut jobs, &mut summary);
        fs::create_dir(place.path()).map_err(|e| Error::io(place.path(), e))?;
        let mut file = Target::create(place.path().join("model.safetensors"), summary.bytes)?;
        file.write(0, &header)?;
        let mut coded_bytes = 0;
        for job in &jobs {
            let values = recipe.numbers(model.checkpoint, job.info)?;
            let bytes = match &job.settings {
                Some(settings) => {
                    let how = (settings, (self.zeros)(settings.symmetric));
                    let coded = recipe.coded(job.info, &values, how, &mut summary, watch)?;
                    let bytes = (self.encode)(settings, &coded);
                    coded_bytes += bytes.iter().map(|piece| piece.len() as u64).sum::<u64>();
                    bytes
                }
                None => vec![floats(job.info, &values, job.pieces[0].dtype)?],
            };
            for ((bytes, &at), piece) in bytes.iter().zip(&job.offsets).zip(&job.pieces) {
                debug_assert_eq!(bytes.len() as u64, size(piece), "{}", piece.name);
                file.write(at, bytes)?;
            }
            watch.done(job.info)?;
        }
        file.finish()?;
        summary.unscaled = std::mem::take(&mut recipe.unscaled);
        summary.finish(coded_bytes);
        let settings = &recipe.settings;
        for name in COPIED {
            if let Some(bytes) = model.directory.read(name, MAX_FILE)? {
                write(place.path(), name, &bytes)?;
            }
        }
        let card = card(&Card {
            model: model.name,
            layout: &format!("`{}`", self.name),
            how: &described(settings),
            out: &super::file_name(out),
            loads: self.name,
            symmetric: settings.symmetric,
            summary: &summary,
        });
        write(place.path(), "README.md", card.as_bytes())?;
        // Last: what has no configuration is no model.
        write(place.path(), "config.json", format!("{config:#}\n").as_bytes())?;
        place.finish()?;
        Ok(summary)
    }

    /// What becomes of each tensor.
    fn jobs<'a>(
        &self,
        checkpoint: &'a Checkpoint,
        recipe: &Recipe<'_>,
        summary: &mut Summary,
    ) -> Result<Vec<Job<'a>>> {
        let mut jobs = Vec::new();
        for (info, of) in tensors(checkpoint)? {
            let stem = info.name.strip_suffix(".weight").unwrap_or(&info.name);
            let settings = recipe.of(&info.name).filter(|_| of == Use::Quantize);
            if of == Use::Quantize && !self.mixes && settings != Some(recipe.settings) {
                let problem = "is to be stored unlike the others, which this layout cannot say";
                let instead = "choose --to compressed-tensors or gguf";
                return Err(Error::Usage(format!("{} {problem}; {instead}", info.name)));
            }
            let pieces = match (settings, &info.shape[..]) {
                (Some(settings), &[rows, cols]) => match (self.pieces)(&settings, stem, [rows, cols]) {
                    Ok(pieces) => Some((settings, pieces)),
                    Err(_) if self.may_keep => {
                        summary.uneven.push(info.name.clone());
                        None
                    }
                    Err(problem) => {
                        let instead = "choose another --group, or --to compressed-tensors";
                        return Err(Error::tensor(&info.name, format!("has {problem}; {instead}")));
                    }
                },
                (None, _) if of == Use::Quantize => {
                    summary.floats += info.elements as u64;
                    None
                }
                _ => None,
            };
            let (settings, pieces) = pieces.unzip();
            let pieces = pieces.unwrap_or_else(|| {
                let dtype = if of == Use::Copy { info.dtype() } else { None };
                vec![Piece::new(&info.name, "", dtype.unwrap_or(Dtype::F16), &info.shape)]
            });
            if settings.is_none() && of != Use::Copy {
                summary.kept.push(stem.to_owned());
            }
            jobs.push(Job { info, settings, pieces, offsets: Vec::new() });
        }
        match jobs.iter().any(|job| job.settings.is_some()) {
            true => Ok(jobs),
            false if summary.floats > 0 => Err(Error::Usage(
                "every matrix is to stay 16-bit floats: there is nothing to quantize".to_owned(),
            )),
            false => {
                let group = recipe.settings.group;
                Err(Error::Model(format!(
                    "no matrix of the model has whole groups of {group}: choose a smaller --group"
                )))
            }
        }
    }

    /// The model's configuration with what is to be said of its codes.
    fn config(
        &self,
        model: &Description<'_>,
        (settings, jobs): (&Settings, &[Job<'_>]),
        kept: &[String],
    ) -> Result<Value> {
        let path = model.directory.join("config.json");
        let bytes = model.directory.read("config.json", MAX_FILE)?;
        let bytes = bytes.ok_or_else(|| Error::file(&path, "there is no such file"))?;
        let config: Map<String, Value> = serde_json::from_slice(&bytes)
            .map_err(|e| Error::file(&path, format!("is not a JSON object: {e}")))?;
        let mut config = config;
        // Newer files call it dtype.
        let name = if config.contains_key("dtype") { "dtype" } else { "torch_dtype" };
        config.insert(name.to_owned(), json!("float16"));
        // The embedding is kept, and in that layout it is not a linear layer; the rest is named.
        let linear: Vec<String> =
            kept.iter().filter(|name| !name.ends_with("embed_tokens")).cloned().collect();
        let mut groups: Vec<Alike> = Vec::new();
        for (job, own) in jobs.iter().filter_map(|job| Some((job, job.settings?))) {
            let stem = job.info.name.strip_suffix(".weight").unwrap_or(&job.info.name).to_owned();
            match groups.iter_mut().find(|(of, _)| *of == own) {
                Some((_, names)) => names.push(stem),
                None => groups.push((own, vec![stem])),
            }
        }
        config.insert("quantization_config".to_owned(), (self.config)(settings, &groups, &linear));
        Ok(Value::Object(config))
    }
}

fn size(piece: &Piece) -> u64 {
    piece.shape.iter().product::<usize>() as u64 * piece.dtype.bitsize() as u64 / 8
}

/// Gives every piece its place in the file, and makes the header. Pieces of wider types come first, so that all lie where
/// their types can be read in place.
fn lay_out(jobs: &mut [Job<'_>], summary: &mut Summary) -> Vec<u8> {
    let mut order: Vec<(usize, usize)> =
        jobs.iter().enumerate().flat_map(|(j, job)| (0..job.pieces.len()).map(move |p| (j, p))).collect();
    order.sort_by_key(|&(j, p)| std::cmp::Reverse(jobs[j].pieces[p].dtype.bitsize()));
    let mut entries = Map::new();
    entries.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut at = 0;
    jobs.iter_mut().for_each(|job| job.offsets = vec![0; job.pieces.len()]);
    for (j, p) in order {
        let piece = &jobs[j].pieces[p];
        let end = at + size(piece);
        let entry = json!({"dtype": piece.dtype, "shape": piece.shape, "data_offsets": [at, end]});
        entries.insert(piece.name.clone(), entry);
        jobs[j].offsets[p] = at;
        at = end;
    }
    let mut text = Value::Object(entries).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let start = 8 + text.len() as u64;
    jobs.iter_mut().flat_map(|job| &mut job.offsets).for_each(|offset| *offset += start);
    summary.bytes = start + at;
    [&(text.len() as u64).to_le_bytes()[..], &text].concat()
}

/// Numbers in the type in which they were read, or in 16-bit floats.
fn floats(info: &TensorInfo, values: &[f32], dtype: Dtype) -> Result<Vec<u8>> {
    match dtype {
        Dtype::F32 => Ok(values.iter().flat_map(|w| w.to_le_bytes()).collect()),
        Dtype::BF16 => Ok(values.iter().flat_map(|&w| bf16::from_f32(w).to_le_bytes()).collect()),
        _ => halves(info, values),
    }
}

fn write(directory: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = directory.join(name);
    fs::write(&path, bytes).map_err(|e| Error::io(&path, e))
}
