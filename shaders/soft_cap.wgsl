// CAP · tanh(v / CAP), or v where CAP is 0. Beyond 10, tanh is 1 in 32 bits, and not every device's is good there.
fn soft_cap(v: f32) -> f32 {
    if CAP > 0.0 {
        return CAP * tanh(clamp(v / CAP, -10.0, 10.0));
    }
    return v;
}

fn capped(s: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(soft_cap(s.x), soft_cap(s.y), soft_cap(s.z), soft_cap(s.w));
}
