// 8-bit codes. Four columns of a row in a word, low byte first: codes [tiles, K/4, 16 quads].
// Follows format/codes.wgsl. Expects: K (columns).

const MIDDLE: f32 = 128.0;

// Codes are left where they lie.
const ALIGN_A: vec4<f32> = vec4<f32>(1.0, 0x1p-8f, 0x1p-16f, 0x1p-24f);
const ALIGN_B: vec4<f32> = ALIGN_A;

alias Words = array<vec4<u32>, 2>;

const IN_FLIGHT: u32 = 4u;

fn load_words(tile: u32, quad: u32, block: u32) -> Words {
    let row = tile * (K / 4u) + block * 2u;
    return Words(words_0(row, quad), words_0(row + 1u, quad));
}

fn codes_of(words: Words) -> array<vec4<f32>, 8> {
    let a = words[0];
    let b = words[1];
    return array<vec4<f32>, 8>(
        lying(a, 255u), lying(a, 255u << 8u), lying(a, 255u << 16u), last(a, 255u << 24u),
        lying(b, 255u), lying(b, 255u << 8u), lying(b, 255u << 16u), last(b, 255u << 24u));
}

fn one_code(words: ptr<function, Words>, j: u32, k: u32) -> f32 {
    let w = (*words)[k / 4u][j];
    let mask = 255u << (k % 4u * 8u);
    return select(lying_one(w, mask), last_one(w, mask), k % 4u == 3u);
}

fn columns_of(words: ptr<function, Words>, i: u32) -> array<vec4<f32>, 2> {
    return array<vec4<f32>, 2>();
}

const BITS: u32 = 8u;

fn word_of(words: Words, half: u32) -> vec4<u32> {
    return words[half];
}

fn words_of_row(w: Words, row: vec4<u32>) -> Words {
    return Words(bits_of_row(w[0], row), bits_of_row(w[1], row));
}

// Packed dot products are of bytes with a sign: codes are counted from 128.
const DOT_BIAS: f32 = 128.0;

// Columns 0 to 3, and 4 to 7.
fn load_dots(tile: u32, quad: u32, block: u32) -> array<vec4<u32>, 2> {
    let words = load_words(tile, quad, block);
    return array<vec4<u32>, 2>(words[0] ^ vec4<u32>(0x80808080u), words[1] ^ vec4<u32>(0x80808080u));
}

fn weights_of(words: Words, g: Group) -> array<vec4<f32>, 8> {
    return place_lying(codes_of(words), g);
}
