// 8-bit codes. Four columns of a row in a word, low byte first: codes [tiles, K/4, 16 quads].
// Follows format/codes.wgsl. Expects: K (columns).

const MIDDLE: f32 = 128.0;

// But for the last one of a word, which would be a sign, codes are left where they lie.
const ALIGN_A: vec4<f32> = vec4<f32>(1.0, 0x1p-8f, 0x1p-16f, 1.0);
const ALIGN_B: vec4<f32> = ALIGN_A;

fn load_codes(tile: u32, quad: u32, block: u32) -> array<vec4<f32>, 8> {
    let i = (tile * (K / 4u) + block * 2u) * 16u + quad;
    let a = codes[i];
    let b = codes[i + 16u];
    return array<vec4<f32>, 8>(
        lying(a, 255u), lying(a, 255u << 8u), lying(a, 255u << 16u), lying(a >> vec4<u32>(24u), 255u),
        lying(b, 255u), lying(b, 255u << 8u), lying(b, 255u << 16u), lying(b >> vec4<u32>(24u), 255u));
}

// Packed dot products are of bytes with a sign: codes are counted from 128.
const DOT_BIAS: f32 = 128.0;

// Columns 0 to 3, and 4 to 7.
fn load_dots(tile: u32, quad: u32, block: u32) -> array<vec4<u32>, 2> {
    let i = (tile * (K / 4u) + block * 2u) * 16u + quad;
    return array<vec4<u32>, 2>(codes[i] ^ vec4<u32>(0x80808080u), codes[i + 16u] ^ vec4<u32>(0x80808080u));
}

fn load_block(tile: u32, quad: u32, block: u32, g: Group) -> array<vec4<f32>, 8> {
    let i = (tile * (K / 4u) + block * 2u) * 16u + quad;
    let a = codes[i];
    let b = codes[i + 16u];
    return array<vec4<f32>, 8>(
        dequantize(a, 0u, 255u, g), dequantize(a, 8u, 255u, g), dequantize(a, 16u, 255u, g), dequantize(a, 24u, 255u, g),
        dequantize(b, 0u, 255u, g), dequantize(b, 8u, 255u, g), dequantize(b, 16u, 255u, g), dequantize(b, 24u, 255u, g));
}
