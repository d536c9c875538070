//! Any bytes at all as a GGUF file: never a panic, and the tensors of a header that is accepted lie in the file, apart,
//! and are as long as their shapes say.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sixteen_states::checkpoint::gguf;

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = gguf::parse(bytes, bytes.len() as u64) else { return };
    let mut places: Vec<_> = header.tensors.iter().map(|info| info.bytes.clone()).collect();
    places.sort_by_key(|place| (place.start, place.end));
    for pair in places.windows(2) {
        assert!(pair[0].end <= pair[1].start, "two tensors share bytes");
    }
    for info in &header.tensors {
        assert!(info.bytes.start <= info.bytes.end && info.bytes.end <= bytes.len(), "beyond the file");
        let elements = info.shape.iter().fold(1u128, |product, &n| product.saturating_mul(n as u128));
        assert_eq!(elements, info.elements as u128, "not the shape's product");
        let cols = info.shape.last().copied().unwrap_or(1);
        assert_eq!(info.encoding.bytes(info.elements, cols), Some(info.bytes.len()));
    }
    // What it would be as a model.
    let _ = gguf::files(&header);
});
