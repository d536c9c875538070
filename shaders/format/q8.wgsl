// 8-bit codes. Four columns of a row in a word, low byte first: codes [tiles, K/4, 16 quads].
// Follows format/codes.wgsl. Expects: K (columns).

const MIDDLE: f32 = 128.0;

fn load_block(tile: u32, quad: u32, block: u32, g: Group) -> array<vec4<f32>, 8> {
    let i = (tile * (K / 4u) + block * 2u) * 16u + quad;
    let a = codes[i];
    let b = codes[i + 16u];
    return array<vec4<f32>, 8>(
        dequantize(a, 0u, 255u, g), dequantize(a, 8u, 255u, g), dequantize(a, 16u, 255u, g), dequantize(a, 24u, 255u, g),
        dequantize(b, 0u, 255u, g), dequantize(b, 8u, 255u, g), dequantize(b, 16u, 255u, g), dequantize(b, 24u, 255u, g));
}
