// CAP · tanh(v / CAP), or v where CAP is 0. Beyond 10, tanh is 1 in 32 bits, and not every device's is good there.
fn soft_cap(v: f32) -> f32 {
    if CAP > 0.0 {
        return CAP * tanh(clamp(v / CAP, -10.0, 10.0));
    }
    return v;
}
