//! What is asked of the readers for any bytes at all. The fuzz targets call these, and so does `tests/hostile.rs`, which
//! needs no fuzzer.
#![allow(dead_code, reason = "each target calls one of these")]

use sixteen_states::checkpoint::{Checkpoint, Config, gguf, locate, parse_header};
use sixteen_states::format::{Codes, TILE_ROWS};
use sixteen_states::text::Tokenizer;
use std::collections::HashSet;
use std::path::Path;

/// The start of a GGUF file of `file_len` bytes: never a panic; the tensors of a header that is accepted lie in the file,
/// apart, and are as long as their shapes say; what a model's other files are made of is made or refused.
pub fn gguf_header(bytes: &[u8], file_len: u64) {
    let Ok(header) = gguf::parse(bytes, file_len) else { return };
    let mut places: Vec<_> = header.tensors.iter().map(|info| info.bytes.clone()).collect();
    places.sort_by_key(|place| (place.start, place.end));
    for pair in places.windows(2) {
        assert!(pair[0].end <= pair[1].start, "two tensors share bytes");
    }
    for info in &header.tensors {
        assert!(info.bytes.start <= info.bytes.end && info.bytes.end as u64 <= file_len, "beyond the file");
        let elements = info.shape.iter().fold(1u128, |product, &n| product.saturating_mul(n as u128));
        assert_eq!(elements, info.elements as u128, "not the shape's product");
        let cols = info.shape.last().copied().unwrap_or(1);
        assert_eq!(info.encoding.bytes(info.elements, cols), Some(info.bytes.len()));
    }
    // What it would be as a model.
    let _ = gguf::files(&header);
}

/// The start of a safetensors file of `file_len` bytes: never a panic, and a header that is accepted describes the file
/// exactly.
pub fn safetensors_header(bytes: &[u8], file_len: u64) {
    let Ok(tensors) = parse_header(bytes, file_len) else { return };
    let header = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
    let mut next = 8 + header;
    let mut names = HashSet::new();
    for tensor in &tensors {
        assert_eq!(tensor.bytes.start as u64, next, "a gap or an overlap");
        assert!(tensor.bytes.start <= tensor.bytes.end);
        next = tensor.bytes.end as u64;
        let elements = tensor.shape.iter().fold(1u128, |product, &n| product.saturating_mul(n as u128));
        assert_eq!(elements, tensor.elements as u128, "not the shape's product");
        let Some(dtype) = tensor.dtype() else { panic!("no tensor of safetensors has codes by itself") };
        assert_eq!(elements * dtype.bitsize() as u128, 8 * tensor.bytes.len() as u128);
        assert!(names.insert(&tensor.name), "a name twice");
    }
    assert_eq!(next, file_len, "not to the end of the file");
}

/// A model, which is written to `directory`: a GGUF file as it is; or the text of a `config.json`, a zero, the header of a
/// safetensors file without its length, a zero, and the tensors' bytes. (Mutations rarely keep a length in step with what
/// it counts.) It is opened as any model would be, and every number and code of it is read.
pub fn checkpoint(bytes: &[u8], directory: &Path) {
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.join(name);
        std::fs::write(&path, bytes).expect("room for a small file");
        path
    };
    let path = if bytes.starts_with(b"GGUF") {
        write("m.gguf", bytes)
    } else {
        let mut parts = bytes.splitn(3, |&byte| byte == 0);
        let mut part = || parts.next().unwrap_or_default();
        let (config, header, data) = (part(), part(), part());
        write("config.json", config);
        write("model.safetensors", &[&(header.len() as u64).to_le_bytes(), header, data].concat())
    };
    let Ok(source) = locate(path.to_str().expect("a plain name")) else { return };
    if let Ok(config) = Config::open(&source.directory) {
        let _ = Tokenizer::open(&source.directory, config.vocab_size);
    }
    let Ok(checkpoint) = Checkpoint::of(&source) else { return };
    for info in checkpoint.tensors() {
        let Ok(tensor) = checkpoint.tensor(&info.name, &info.shape) else { continue };
        let mut numbers = vec![0.0; info.elements];
        tensor.read_f32(0..numbers.len(), &mut numbers);
        // A part that begins and ends within rows.
        let (first, end) = (info.elements / 3, info.elements - info.elements / 5);
        let mut part = vec![0.0; end - first];
        tensor.read_f32(first..end, &mut part);
        let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
        assert!(part.iter().zip(&numbers[first..end]).all(same), "{} read in parts", info.name);
        let (rows, cols) = (tensor.rows(), tensor.cols());
        if let Some(packing) = tensor.packing().filter(|packing| packing.fitting(cols) == cols && rows > 0) {
            let last = rows.saturating_sub(TILE_ROWS)..rows;
            let _ = tensor.read_codes(last, 0, &mut Codes::new(packing, cols));
        }
    }
}
