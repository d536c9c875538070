// 16-bit floats, two columns of a row in a word, low half first.
//
// The contract of every format: `load_group` fetches what a group of columns shares, `load_block` unpacks
// eight columns of four rows. tile = 64 rows; quad = 4 rows of it (see quads/); group and block count columns.
// Where weights serve but once, codes do, at less work each: Σ x · w of a group is `finish` of Σ x · code and Σ x, and
// `load_codes` fetches codes times powers of two, which activations times ALIGN_A (four columns) and ALIGN_B undo
// exactly. `load_words` fetches a block's codes packed, and `one_code` makes of them that of row j (0..3) and column k (0..7),
// both constant: for compilers of few registers, which should be done with one before the next.
// Formats of integer codes have `load_dots` too: two words of four codes for each row, DOT_BIAS less than they are.
// Follows quads/. Expects: K (columns).

@group(1) @binding(0) var<storage, read> words: array<Quads>; // [tiles, K/2, 16 quads]

struct Group { unused: u32 }

fn load_group(tile: u32, quad: Quad, group: u32) -> Group {
    return Group(0u);
}

fn low_half(words: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(
        unpack2x16float(words.x).x, unpack2x16float(words.y).x,
        unpack2x16float(words.z).x, unpack2x16float(words.w).x);
}

fn high_half(words: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(
        unpack2x16float(words.x).y, unpack2x16float(words.y).y,
        unpack2x16float(words.z).y, unpack2x16float(words.w).y);
}

fn load_block(tile: u32, quad: Quad, block: u32, group: Group) -> array<vec4<f32>, 8> {
    let row = tile * (K / 2u) + block * 4u;
    let a = words_of(words[place_in(row, quad)], quad);
    let b = words_of(words[place_in(row + 1u, quad)], quad);
    let c = words_of(words[place_in(row + 2u, quad)], quad);
    let d = words_of(words[place_in(row + 3u, quad)], quad);
    return array<vec4<f32>, 8>(
        low_half(a), high_half(a), low_half(b), high_half(b),
        low_half(c), high_half(c), low_half(d), high_half(d));
}

const ALIGN_A: vec4<f32> = vec4<f32>(1.0);
const ALIGN_B: vec4<f32> = vec4<f32>(1.0);

fn load_codes(tile: u32, quad: Quad, block: u32) -> array<vec4<f32>, 8> {
    return load_block(tile, quad, block, Group(0u));
}

fn finish(dot_: vec4<f32>, total: f32, g: Group) -> vec4<f32> {
    return dot_;
}
