// Codes one by one, for formats that unpack four rows of a block at once. The contract is told in format/f16.wgsl.

alias Words = array<vec4<f32>, 8>;

fn load_words(tile: u32, quad: Quad, block: u32) -> Words {
    return load_codes(tile, quad, block);
}

fn one_code(words: ptr<function, Words>, j: u32, k: u32) -> f32 {
    return (*words)[k][j];
}
