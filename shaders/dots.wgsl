// Products of integer codes, eight columns at a time. Follows a format.

// Of four rows of W with one of x.
fn dot_block(a: vec4<u32>, b: vec4<u32>, x: vec2<u32>) -> vec4<i32> {
    return vec4<i32>(dot4I8Packed(a.x, x.x), dot4I8Packed(a.y, x.x), dot4I8Packed(a.z, x.x), dot4I8Packed(a.w, x.x))
        + vec4<i32>(dot4I8Packed(b.x, x.y), dot4I8Packed(b.y, x.y), dot4I8Packed(b.z, x.y), dot4I8Packed(b.w, x.y));
}

// What they stand for; with the scale of x and the sum of its codes.
fn scaled(dots: vec4<i32>, x: vec2<f32>, g: Group) -> vec4<f32> {
    return x.x * finish(vec4<f32>(dots) + DOT_BIAS * x.y, x.y, g);
}
