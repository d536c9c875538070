//! A whole model: configuration, header and data of a safetensors file, or a GGUF file; what is made of them is read.

#![no_main]

#[path = "../entries.rs"]
mod entries;

use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::LazyLock;

/// A directory of this process: in memory where the system has such a place, because it is written to each time.
static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let root = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let directory = root.join(format!("sixteen-states-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a place for small files");
    directory
});

fuzz_target!(|bytes: &[u8]| entries::checkpoint(bytes, &DIRECTORY));
