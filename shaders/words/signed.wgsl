// The same by signed numbers: processors have but those.
fn word_numbers(words: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(vec4<i32>(words ^ vec4<u32>(1u << 31u))) + vec4<f32>(0x1p31f);
}
