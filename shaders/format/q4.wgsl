// 4-bit codes. Eight columns of a row in a word, low nibble first: codes [tiles, K/8, 16 quads].
// Follows format/codes.wgsl. Expects: K (columns).

const MIDDLE: f32 = 8.0;

// Codes are left where they lie.
const ALIGN_A: vec4<f32> = vec4<f32>(1.0, 0x1p-4f, 0x1p-8f, 0x1p-12f);
const ALIGN_B: vec4<f32> = vec4<f32>(0x1p-16f, 0x1p-20f, 0x1p-24f, 0x1p-28f);

alias Words = vec4<u32>;

const IN_FLIGHT: u32 = 4u;

fn load_words(tile: u32, quad: u32, block: u32) -> Words {
    return words_0(tile * (K / 8u) + block, quad);
}

fn codes_of(a: Words) -> array<vec4<f32>, 8> {
    return array<vec4<f32>, 8>(
        lying(a, 15u), lying(a, 15u << 4u), lying(a, 15u << 8u), lying(a, 15u << 12u),
        lying(a, 15u << 16u), lying(a, 15u << 20u), lying(a, 15u << 24u), last(a, 15u << 28u));
}

fn one_code(words: ptr<function, Words>, j: u32, k: u32) -> f32 {
    let w = (*words)[j];
    let mask = 15u << (k * 4u);
    return select(lying_one(w, mask), last_one(w, mask), k == 7u);
}

fn columns_of(words: ptr<function, Words>, i: u32) -> array<vec4<f32>, 2> {
    return array<vec4<f32>, 2>();
}

const BITS: u32 = 4u;

fn word_of(words: Words, half: u32) -> vec4<u32> {
    return words;
}

fn words_of_row(w: Words, row: vec4<u32>) -> Words {
    return bits_of_row(w, row);
}

const DOT_BIAS: f32 = 0.0;

// Columns 0 2 4 6, and 1 3 5 7.
fn load_dots(tile: u32, quad: u32, block: u32) -> array<vec4<u32>, 2> {
    let a = load_words(tile, quad, block);
    return array<vec4<u32>, 2>(a & vec4<u32>(0x0f0f0f0fu), (a >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu));
}

fn weights_of(words: Words, g: Group) -> array<vec4<f32>, 8> {
    return place_lying(codes_of(words), g);
}
