// 5-bit codes: low nibbles as in format/q4.wgsl, and a plane of their highest bits, 32 columns of a row in a word.
// Follows format/codes.wgsl. Plane 2: highest bits [tiles, K/32 rounded up, 16 quads]. Expects: K (columns).

const MIDDLE: f32 = 16.0;

const ALIGN_A: vec4<f32> = vec4<f32>(1.0);
const ALIGN_B: vec4<f32> = vec4<f32>(1.0);

fn five(low: vec4<u32>, high: vec4<u32>, i: u32) -> vec4<f32> {
    return lying(((low >> vec4<u32>(4u * i)) & vec4<u32>(15u)) | (((high >> vec4<u32>(i)) & vec4<u32>(1u)) << vec4<u32>(4u)), 31u);
}

fn load_words(tile: u32, quad: u32, block: u32) -> Words {
    let a = words_0(tile * (K / 8u) + block, quad);
    let b = words_2(tile * ((K + 31u) / 32u) + block / 4u, quad) >> vec4<u32>(block % 4u * 8u);
    return Words(
        five(a, b, 0u), five(a, b, 1u), five(a, b, 2u), five(a, b, 3u),
        five(a, b, 4u), five(a, b, 5u), five(a, b, 6u), five(a, b, 7u));
}

const DOT_BIAS: f32 = 0.0;

// Columns 0 2 4 6, and 1 3 5 7: the highest bit of each goes above its nibble.
fn load_dots(tile: u32, quad: u32, block: u32) -> array<vec4<u32>, 2> {
    let a = words_0(tile * (K / 8u) + block, quad);
    let b = words_2(tile * ((K + 31u) / 32u) + block / 4u, quad) >> vec4<u32>(block % 4u * 8u);
    let even = ((b & vec4<u32>(1u)) << vec4<u32>(4u)) | ((b & vec4<u32>(4u)) << vec4<u32>(10u))
        | ((b & vec4<u32>(16u)) << vec4<u32>(16u)) | ((b & vec4<u32>(64u)) << vec4<u32>(22u));
    let odd = ((b & vec4<u32>(2u)) << vec4<u32>(3u)) | ((b & vec4<u32>(8u)) << vec4<u32>(9u))
        | ((b & vec4<u32>(32u)) << vec4<u32>(15u)) | ((b & vec4<u32>(128u)) << vec4<u32>(21u));
    return array<vec4<u32>, 2>(
        (a & vec4<u32>(0x0f0f0f0fu)) | even, ((a >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu)) | odd);
}

fn weights_of(words: Words, g: Group) -> array<vec4<f32>, 8> {
    return place_all(codes_of(words), g);
}
