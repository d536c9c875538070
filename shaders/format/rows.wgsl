// Words of formats that unpack four rows of a block as they load it: codes. The contract is told in format/f16.wgsl.

alias Words = array<vec4<f32>, 8>;

const IN_FLIGHT: u32 = 1u;

fn codes_of(words: Words) -> array<vec4<f32>, 8> {
    return words;
}

fn one_code(words: ptr<function, Words>, j: u32, k: u32) -> f32 {
    return (*words)[k][j];
}

fn columns_of(words: ptr<function, Words>, i: u32) -> array<vec4<f32>, 2> {
    return array<vec4<f32>, 2>((*words)[i * 2u], (*words)[i * 2u + 1u]);
}

const BITS: u32 = 0u;

fn word_of(words: Words, half: u32) -> vec4<u32> {
    return vec4<u32>();
}

fn words_of_row(w: Words, row: vec4<u32>) -> Words {
    return Words(
        number_of_row(w[0], row), number_of_row(w[1], row), number_of_row(w[2], row), number_of_row(w[3], row),
        number_of_row(w[4], row), number_of_row(w[5], row), number_of_row(w[6], row), number_of_row(w[7], row));
}
