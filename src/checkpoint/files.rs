//! The small files that go with a model's weights: configuration and tokenizer.

use crate::error::{Error, Result};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file in memory: its name, and its bytes.
pub type Held = (&'static str, Cow<'static, [u8]>);

/// A directory of a model's files, on disk or in memory.
#[derive(Clone, PartialEq, Eq)]
pub struct Directory {
    path: PathBuf,
    /// The files, where they lie on no disk.
    held: Option<Arc<Vec<Held>>>,
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.path.fmt(f)
    }
}

impl From<&Path> for Directory {
    fn from(path: &Path) -> Self {
        Directory { path: path.to_owned(), held: None }
    }
}

impl Directory {
    /// Files in memory, under a path that messages name.
    pub fn held(path: &Path, files: impl IntoIterator<Item = Held>) -> Self {
        Directory { path: path.to_owned(), held: Some(Arc::new(files.into_iter().collect())) }
    }

    /// What messages name it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What messages name a file in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A file's bytes, at most `most`; none where there is no such file. Only plain files are read: reading a pipe or a
    /// device might never end.
    pub fn read(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>> {
        if let Some(held) = &self.held {
            return Ok(held.iter().find(|(held, _)| *held == name).map(|(_, bytes)| bytes.to_vec()));
        }
        let path = self.join(name);
        match std::fs::metadata(&path) {
            Ok(found) if !found.is_file() => Err(Error::file(path, "is not a plain file")),
            Ok(found) if found.len() > most => {
                Err(Error::file(path, format!("is {} bytes long, expected at most {most}", found.len())))
            }
            Ok(_) => std::fs::read(&path).map(Some).map_err(|e| Error::io(path, e)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io(path, e)),
        }
    }
}
