// w = scale · (code − zero). Follows format/pair.wgsl, whose constants they are.

fn place(codes: vec4<f32>, g: Group) -> vec4<f32> {
    return g.first * (codes - g.second);
}
