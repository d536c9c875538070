//! The model that is part of the program: its files, under a path that is not on any disk.

use super::{Directory, Source};
use std::borrow::Cow;
use std::path::Path;

/// Its name, where a model is named.
pub const NAME: &str = "reasoner";

/// The directory of its files. No file system has it: `:` and a relative beginning tell it apart only by convention,
/// so what is asked for must be one of the files exactly.
const DIRECTORY: &str = "built-in:reasoner-1m";

/// Names a file of the model together with its bytes.
macro_rules! file {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../../models/reasoner-1m/", $name)))
    };
}

const FILES: [(&str, &[u8]); 5] = [
    file!("config.json"),
    file!("generation_config.json"),
    file!("tokenizer.json"),
    file!("tokenizer_config.json"),
    file!("model.safetensors"),
];

/// Where the model lies.
pub fn source() -> Source {
    let path = Path::new(DIRECTORY);
    let files = FILES.map(|(name, bytes)| (name, Cow::Borrowed(bytes)));
    Source { directory: Directory::held(path, files), weights: path.join("model.safetensors") }
}

/// A file of the model, if `path` is one.
pub fn file(path: &Path) -> Option<&'static [u8]> {
    let name = path.strip_prefix(DIRECTORY).ok()?.to_str()?;
    FILES.iter().find(|(file, _)| *file == name).map(|(_, bytes)| *bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Checkpoint, Config};

    #[test]
    fn the_shipped_model_is_whole_and_small() {
        let source = source();
        let config = Config::open(&source.directory).unwrap();
        assert_eq!(config.architecture, "LlamaForCausalLM");
        let checkpoint = Checkpoint::open(&source.weights).unwrap();
        assert!(checkpoint.parameters() > 900_000);
        let bytes: usize = FILES.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(bytes <= 2 << 20, "{bytes} bytes");
        assert!(file(&Path::new(DIRECTORY).join("../reasoner-1m/config.json")).is_none());
        assert!(file(Path::new("config.json")).is_none());
    }
}
