// 5-bit codes: low nibbles as in format/q4.wgsl, and a plane of their highest bits, 32 columns of a row in a word.
// Follows format/codes.wgsl. Expects: K (columns).

@group(1) @binding(2) var<storage, read> high: array<vec4<u32>>; // [tiles, K/32 rounded up, 16 quads]

const MIDDLE: f32 = 16.0;

const ALIGN_A: vec4<f32> = vec4<f32>(1.0);
const ALIGN_B: vec4<f32> = vec4<f32>(1.0);

fn five(low: vec4<u32>, high: vec4<u32>, i: u32) -> vec4<f32> {
    return lying(((low >> vec4<u32>(4u * i)) & vec4<u32>(15u)) | (((high >> vec4<u32>(i)) & vec4<u32>(1u)) << vec4<u32>(4u)), 31u);
}

fn load_codes(tile: u32, quad: u32, block: u32) -> array<vec4<f32>, 8> {
    let a = codes[(tile * (K / 8u) + block) * 16u + quad];
    let b = high[(tile * ((K + 31u) / 32u) + block / 4u) * 16u + quad] >> vec4<u32>(block % 4u * 8u);
    return array<vec4<f32>, 8>(
        five(a, b, 0u), five(a, b, 1u), five(a, b, 2u), five(a, b, 3u),
        five(a, b, 4u), five(a, b, 5u), five(a, b, 6u), five(a, b, 7u));
}

fn load_block(tile: u32, quad: u32, block: u32, g: Group) -> array<vec4<f32>, 8> {
    return place_all(load_codes(tile, quad, block), g);
}
