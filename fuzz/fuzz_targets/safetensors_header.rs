//! Any bytes at all as the start of a safetensors file.

#![no_main]

#[path = "../entries.rs"]
mod entries;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    entries::safetensors_header(bytes, bytes.len() as u64);
    // Mutations rarely keep a length in step with what it counts; so take the bytes as a header alone too,
    // for a file as long as two of them say.
    if let Some((&[low, high], header)) = bytes.split_first_chunk() {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(header);
        let data = u64::from(u16::from_le_bytes([low, high]));
        entries::safetensors_header(&file, file.len() as u64 + data);
    }
});
