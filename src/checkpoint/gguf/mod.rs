//! GGUF files, versions 2 and 3: metadata, tensors, and what a model directory would have beside them.
//!
//! A GGUF file is read as if it were a Hugging Face checkpoint: its tensors get the names they have there, and
//! `config.json`, `tokenizer.json` and their like are made of its metadata, to be read and checked as those of any model.

mod families;
mod header;
mod metadata;
mod model;
mod tokenizer;
mod vocabulary;
mod write;

pub use header::{Header, Value, parse};
pub use model::files;
pub use vocabulary::vocabulary;
pub use write::{Naming, Stored, header as write_header};

use super::files::Directory;
use super::{Source, TensorInfo, clip};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// Whether a path names a GGUF file.
pub fn is_named(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// Whether a GGUF file of that name holds a model, or the first part of one.
pub(super) fn is_first(name: &str) -> bool {
    is_named(Path::new(name)) && numbered(name).is_none_or(|(_, number, _)| number == 1)
}

/// Most files of one model.
const MAX_PARTS: usize = 1000;

/// Finds the model that a GGUF file holds, or the first of several.
pub fn source(path: &Path) -> Result<Source> {
    let mut whole: Option<Header> = None;
    for part in parts(path)? {
        let bytes = super::Checkpoint::map(&part)?;
        let header = parse(&bytes, bytes.len() as u64);
        let header = header.map_err(|problem| Error::file(&part, clip(&problem, super::MESSAGE)))?;
        // The first file says what the model is; what it has is told by the tensors of all.
        match &mut whole {
            Some(whole) => whole.tensors.extend(header.tensors),
            None => whole = Some(header),
        }
    }
    let files = whole.as_ref().map_or(Ok(Vec::new()), files);
    let files = files.map_err(|problem| Error::file(path, clip(&problem, super::MESSAGE)))?;
    Ok(Source { directory: Directory::held(path, files), weights: path.to_owned() })
}

/// The tensors of a model's files, of which the first says what it is, by the names that the architecture's tensors have
/// in a Hugging Face checkpoint: a list for each file.
pub(super) fn tensors(files: &[&[u8]]) -> Result<Vec<Vec<TensorInfo>>, (usize, String)> {
    let mut first = None;
    let mut all = Vec::with_capacity(files.len());
    for (i, bytes) in files.iter().enumerate() {
        let header = parse(bytes, bytes.len() as u64).map_err(|problem| (i, problem))?;
        let metadata = first.get_or_insert(header.metadata);
        all.push(model::rename(metadata, header.tensors).map_err(|problem| (i, problem))?);
    }
    Ok(all)
}

/// A model in several files names itself `…-00001-of-00003.gguf`: all of them, in order.
pub(super) fn parts(path: &Path) -> Result<Vec<PathBuf>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some((stem, number, count)) = numbered(&name) else { return Ok(vec![path.to_owned()]) };
    if number != 1 || count > MAX_PARTS {
        let expected = format!("expected the first, {stem}-00001-of-{count:05}.gguf, of at most {MAX_PARTS}");
        return Err(Error::file(path, format!("is file {number} of {count} of a model, {expected}")));
    }
    let parts = (1..=count).map(|i| path.with_file_name(format!("{stem}-{i:05}-of-{count:05}.gguf")));
    let parts: Vec<PathBuf> = parts.collect();
    match parts.iter().find(|part| !part.exists()) {
        Some(part) => {
            Err(Error::file(part, format!("there is no such file, and {name} says that there are {count}")))
        }
        None => Ok(parts),
    }
}

/// `stem-00001-of-00003.gguf` as its stem and its two numbers.
fn numbered(name: &str) -> Option<(&str, usize, usize)> {
    let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| {
        (text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
    };
    Some((stem, digits(number)?, digits(count)?)).filter(|(_, number, count)| (1..=*count).contains(number))
}

/// The row of a file that is row `row` of a matrix of queries or keys. The two halves of a head, which rotate against
/// each other, lie in turn in files of the Llama family: row `i` of the first half, row `i` of the second.
pub fn stored_row(row: usize, head_dim: usize) -> usize {
    let (head, r) = (row / head_dim, row % head_dim);
    head * head_dim + r % (head_dim / 2) * 2 + r / (head_dim / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_one_model_are_numbered() {
        assert_eq!(numbered("m-Q4_K-00002-of-00010.gguf"), Some(("m-Q4_K", 2, 10)));
        for name in [
            "m.gguf",
            "m-2-of-3.gguf",
            "m-00004-of-00003.gguf",
            "m-00000-of-00003.gguf",
            "m-0000a-of-00003.gguf",
        ] {
            assert_eq!(numbered(name), None, "{name}");
        }
    }

    #[test]
    fn rows_of_a_head_lie_in_turn() {
        let rows: Vec<usize> = (0..12).map(|row| stored_row(row, 6)).collect();
        assert_eq!(rows, [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
    }
}
