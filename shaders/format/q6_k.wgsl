// GGUF's Q6_K: w = d · s · (code − 32). f16 d for 256 columns, an 8-bit s with sign for 16.
// The contract is told in format/f16.wgsl. Low nibbles are laid out as in format/q4.wgsl. Expects: K (columns).
// Plane 1: high bits [tiles, K/16, 16 quads], two a column. Plane 2: scales [tiles, K/256, 4 words, 16 quads], four a word.
// Plane 3: d [tiles, K/256, 16 quads], two rows a word.

struct Group { scale: vec4<f32> }

alias Scales = Group;

fn load_scales(tile: u32, quad: u32, group: u32) -> Scales {
    let i = tile * (K / 256u) + group / 16u;
    let words = bitcast<vec4<i32>>(words_2(i * 4u + group % 16u / 4u, quad));
    let s = (words << vec4<u32>(24u - group % 4u * 8u)) >> vec4<u32>(24u);
    let pair = pair_3(i, quad);
    return Group(vec4<f32>(two_halves(pair.x), two_halves(pair.y)) * vec4<f32>(s));
}

fn group_of(scales: Scales) -> Group {
    return scales;
}

fn group_of_row(g: Group, row: vec4<u32>) -> Group {
    return Group(number_of_row(g.scale, row));
}

fn finish(dot_: vec4<f32>, total: f32, g: Group) -> vec4<f32> {
    return g.scale * (dot_ - 32.0 * total);
}

fn place(codes: vec4<f32>, g: Group) -> vec4<f32> {
    return g.scale * (codes - 32.0);
}

const ALIGN_A: vec4<f32> = vec4<f32>(1.0);
const ALIGN_B: vec4<f32> = vec4<f32>(1.0);

fn six(low: vec4<u32>, high: vec4<u32>, i: u32) -> vec4<f32> {
    return lying(((low >> vec4<u32>(4u * i)) & vec4<u32>(15u)) | (((high >> vec4<u32>(2u * i)) & vec4<u32>(3u)) << vec4<u32>(4u)), 63u);
}

fn load_words(tile: u32, quad: u32, block: u32) -> Words {
    let a = words_0(tile * (K / 8u) + block, quad);
    let b = words_1(tile * (K / 16u) + block / 2u, quad) >> vec4<u32>(block % 2u * 16u);
    return Words(
        six(a, b, 0u), six(a, b, 1u), six(a, b, 2u), six(a, b, 3u),
        six(a, b, 4u), six(a, b, 5u), six(a, b, 6u), six(a, b, 7u));
}

const DOT_BIAS: f32 = 0.0;

// Columns 0 2 4 6, and 1 3 5 7: the two highest bits of each go above its nibble.
fn load_dots(tile: u32, quad: u32, block: u32) -> array<vec4<u32>, 2> {
    let a = words_0(tile * (K / 8u) + block, quad);
    let b = words_1(tile * (K / 16u) + block / 2u, quad) >> vec4<u32>(block % 2u * 16u);
    let even = ((b & vec4<u32>(0x3u)) << vec4<u32>(4u)) | ((b & vec4<u32>(0x30u)) << vec4<u32>(8u))
        | ((b & vec4<u32>(0x300u)) << vec4<u32>(12u)) | ((b & vec4<u32>(0x3000u)) << vec4<u32>(16u));
    let odd = ((b & vec4<u32>(0xcu)) << vec4<u32>(2u)) | ((b & vec4<u32>(0xc0u)) << vec4<u32>(6u))
        | ((b & vec4<u32>(0xc00u)) << vec4<u32>(10u)) | ((b & vec4<u32>(0xc000u)) << vec4<u32>(14u));
    return array<vec4<u32>, 2>(
        (a & vec4<u32>(0x0f0f0f0fu)) | even, ((a >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu)) | odd);
}

fn weights_of(words: Words, g: Group) -> array<vec4<f32>, 8> {
    return place_all(codes_of(words), g);
}
