// 5-bit codes: low nibbles as in format/q4.wgsl, and a plane of their highest bits, 32 columns of a row in a word.
// Follows format/codes.wgsl. Expects: K (columns).

@group(1) @binding(2) var<storage, read> high: array<vec4<u32>>; // [tiles, K/32 rounded up, 16 quads]

const MIDDLE: f32 = 16.0;

fn five(low: vec4<u32>, high: vec4<u32>, i: u32, g: Group) -> vec4<f32> {
    let code = ((low >> vec4<u32>(4u * i)) & vec4<u32>(15u)) | (((high >> vec4<u32>(i)) & vec4<u32>(1u)) << vec4<u32>(4u));
    return dequantize(code, 0u, 31u, g);
}

fn load_block(tile: u32, quad: u32, block: u32, g: Group) -> array<vec4<f32>, 8> {
    let a = codes[(tile * (K / 8u) + block) * 16u + quad];
    let b = high[(tile * ((K + 31u) / 32u) + block / 4u) * 16u + quad] >> vec4<u32>(block % 4u * 8u);
    return array<vec4<f32>, 8>(
        five(a, b, 0u, g), five(a, b, 1u, g), five(a, b, 2u, g), five(a, b, 3u, g),
        five(a, b, 4u, g), five(a, b, 5u, g), five(a, b, 6u, g), five(a, b, 7u, g));
}
