//! The one error type. Every message names the thing, what was found and what was expected, and,
//! where there is something to do about it, what to do.

use std::path::{Path, PathBuf};

/// Whatever can go wrong between a command line and a token.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program was called in a way that cannot work: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// The operating system refused a path.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was being read or written.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is there and is not what it should be.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        problem: String,
    },
    /// A tensor of a checkpoint cannot be used.
    #[error("tensor {name:?}: {problem}")]
    Tensor {
        /// Its name in the checkpoint.
        name: String,
        /// What was found and what was expected.
        problem: String,
    },
    /// A model (its configuration, its tokenizer, its template, a prompt for it) cannot be used.
    #[error("{0}")]
    Model(String),
    /// A model could not be fetched from a hub.
    #[error("hub model {id:?}: {problem}")]
    Hub {
        /// The hub id, `owner/name`.
        id: String,
        /// What happened and what to do.
        problem: String,
    },
    /// A device is missing, too small, out of memory, lost, or refuses a kernel.
    #[error("device {device:?}: {problem}")]
    Device {
        /// The adapter's name.
        device: String,
        /// What happened and what to do.
        problem: String,
    },
    /// A run produced a number that is not finite.
    #[error("{place} produced a value that is not finite (NaN or infinity)")]
    NonFinite {
        /// The first step of the forward pass with such a value.
        place: String,
    },
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An operating system error on `path`.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Error::Io { path: path.as_ref().to_owned(), source }
    }

    /// A file that is not what it should be.
    pub fn file(path: impl AsRef<Path>, problem: impl Into<String>) -> Self {
        Error::File { path: path.as_ref().to_owned(), problem: problem.into() }
    }

    /// A tensor that cannot be used.
    pub fn tensor(name: impl Into<String>, problem: impl Into<String>) -> Self {
        Error::Tensor { name: name.into(), problem: problem.into() }
    }

    /// The process exit code: 2 for wrong use, 1 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) => 2,
            _ => 1,
        }
    }
}
