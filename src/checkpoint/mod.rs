//! Checkpoints: the files that a model is published in, and what this program believes of them.
//!
//! A Hugging Face model directory has a `config.json` ([`Config`]), weights in one or more safetensors
//! files ([`Checkpoint`]), and a tokenizer, which is not read here. A [GGUF](gguf) file has all of that in itself.
//! [`locate`] turns what a user typed (a file, a directory, a hub id) into a [`Source`]; the [`hub`] fetches what is not
//! on disk yet.
//!
//! Whatever is read here may come from a stranger. A file is either exactly what its format says or it is
//! refused with a message that names the file, what was found and what was expected; a tensor is handed
//! out only when its name, shape and number type are what the model asked for.

pub mod config;
pub mod files;
pub mod ggml;
pub mod gguf;
pub mod hub;
mod multimodal;
mod packed;
pub mod safetensors;
pub mod shapes;
pub mod shipped;
mod tensor;
mod weights;

use crate::error::{Error, Result};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

pub use self::config::{Config, Rope, RopeFactors, RopeScaling};
pub use self::files::Directory;
pub use self::safetensors::parse_header;
pub use self::tensor::{Change, Dtype, Encoding, Tensor, TensorInfo};
pub use self::weights::Checkpoint;

/// Where a model lies on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The directory with `config.json` and the tokenizer's files.
    pub directory: Directory,
    /// The weights, for [`Checkpoint::open`]: a `.safetensors` or `.gguf` file, or the index of several.
    pub weights: PathBuf,
}

/// Finds the model that `model` names: a `.safetensors` file (or its `.safetensors.index.json`), a `.gguf` file, a model
/// directory, [`shipped::NAME`] for the model inside the program, or else a hub id, `owner/name`, which is fetched if
/// it is not in the cache.
pub fn locate(model: &str) -> Result<Source> {
    let path = Path::new(model);
    if model == shipped::NAME && !path.exists() {
        return Ok(shipped::source());
    }
    if path.is_dir() {
        return in_directory(path);
    }
    if path.exists() {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = Directory::from(parent.unwrap_or(Path::new(".")));
        return if model.ends_with(".safetensors") || model.ends_with(".safetensors.index.json") {
            Ok(Source { directory, weights: path.to_owned() })
        } else if gguf::is_named(path) {
            gguf::source(path)
        } else {
            Err(Error::file(path, "expected a .safetensors or .gguf file or a model directory"))
        };
    }
    if hub::looks_like_id(model) {
        return in_directory(&hub::Hub::from_env().fetch(model, std::io::stderr().is_terminal())?);
    }
    let expected = "expected a .safetensors or .gguf file, a model directory or a hub id (owner/name)";
    Err(Error::file(path, format!("there is no such file or directory; {expected}")))
}

fn in_directory(directory: &Path) -> Result<Source> {
    let weights = weights::weights_in(directory)?;
    match gguf::is_named(&weights) {
        true => gguf::source(&weights),
        false => Ok(Source { directory: directory.into(), weights }),
    }
}

/// Longest JSON text, alone or as a safetensors header, that is read.
const MAX_JSON: u64 = 100_000_000;

/// Reads a JSON file whole, unless it is too large to be one or is not a plain file (reading a pipe or a
/// device might never end).
fn read_json(path: &Path) -> Result<String> {
    let metadata = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if !metadata.is_file() {
        return Err(Error::file(path, "is not a plain file, expected a JSON file"));
    }
    if metadata.len() > MAX_JSON {
        let found = metadata.len();
        return Err(Error::file(path, format!("is {found} bytes long, expected at most {MAX_JSON} of JSON")));
    }
    std::fs::read_to_string(path).map_err(|e| Error::io(path, e))
}

/// Makes text out of a file fit for a terminal: at most `length` characters, none of them control.
fn clip(text: &str, length: usize) -> String {
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut clipped: String = text.chars().map(clean).take(length).collect();
    if text.chars().nth(length).is_some() {
        clipped.push('…');
    }
    clipped
}

/// Longest quotation of a file in a message.
const QUOTE: usize = 100;
/// Longest message with quotations.
const MESSAGE: usize = 500;

/// A JSON object that names nothing twice. A plain map would keep the last of two silently, and which of
/// them was meant is anyone's guess.
struct Unique<V>(BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
            type Value = Unique<V>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, V>()? {
                    if entries.contains_key(&key) {
                        return Err(serde::de::Error::custom(format!("{key:?} is there twice")));
                    }
                    entries.insert(key, value);
                }
                Ok(Unique(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}
