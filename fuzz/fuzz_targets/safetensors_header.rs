//! Any bytes at all as the start of a safetensors file: never a panic, and a header that is accepted
//! describes the file exactly.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sixteen_states::checkpoint::parse_header;
use std::collections::HashSet;

fuzz_target!(|bytes: &[u8]| {
    check(bytes, bytes.len() as u64);
    // Mutations rarely keep a length in step with what it counts; so take the bytes as a header alone too,
    // for a file as long as two of them say.
    if let Some((&[low, high], header)) = bytes.split_first_chunk() {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(header);
        check(&file, file.len() as u64 + u64::from(u16::from_le_bytes([low, high])));
    }
});

fn check(bytes: &[u8], file_len: u64) {
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
