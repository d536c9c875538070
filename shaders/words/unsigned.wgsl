// Words as numbers, exact where a float is.
fn word_numbers(words: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(words);
}
