// What formats of integer codes share. `place` turns codes into weights; the file after this one gives it.

@group(1) @binding(0) var<storage, read> codes: array<vec4<u32>>; // [tiles, words a row, 16 quads]

// A code where it lies in its word: 2^shift times what it is.
fn lying(codes: vec4<u32>, mask: u32) -> vec4<f32> {
    return vec4<f32>(vec4<i32>(codes & vec4<u32>(mask)));
}

// Through i32, whose conversion to float is one instruction everywhere.
fn dequantize(codes: vec4<u32>, shift: u32, mask: u32, g: Group) -> vec4<f32> {
    return place(vec4<f32>(vec4<i32>((codes >> vec4<u32>(shift)) & vec4<u32>(mask))), g);
}

// The weights of codes that are what they are.
fn place_all(c: array<vec4<f32>, 8>, g: Group) -> array<vec4<f32>, 8> {
    return array<vec4<f32>, 8>(
        place(c[0], g), place(c[1], g), place(c[2], g), place(c[3], g),
        place(c[4], g), place(c[5], g), place(c[6], g), place(c[7], g));
}
