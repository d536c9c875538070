//! Any bytes at all as a GGUF file.

#![no_main]

#[path = "../entries.rs"]
mod entries;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| entries::gguf_header(bytes, bytes.len() as u64));
