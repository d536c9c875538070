// 4-bit codes. Eight columns of a row in a word, low nibble first: codes [tiles, K/8, 16 quads].
// Follows format/codes.wgsl. Expects: K (columns).

const MIDDLE: f32 = 8.0;

fn load_block(tile: u32, quad: u32, block: u32, g: Group) -> array<vec4<f32>, 8> {
    let a = codes[(tile * (K / 8u) + block) * 16u + quad];
    return array<vec4<f32>, 8>(
        dequantize(a, 0u, 15u, g), dequantize(a, 4u, 15u, g), dequantize(a, 8u, 15u, g), dequantize(a, 12u, 15u, g),
        dequantize(a, 16u, 15u, g), dequantize(a, 20u, 15u, g), dequantize(a, 24u, 15u, g), dequantize(a, 28u, 15u, g));
}
