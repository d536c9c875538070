// w = scale · code + offset. Follows format/pair.wgsl, whose constants they are.

fn finish(dot_: vec4<f32>, total: f32, g: Group) -> vec4<f32> {
    return g.first * dot_ + g.second * total;
}

fn place(codes: vec4<f32>, g: Group) -> vec4<f32> {
    return g.first * codes + g.second;
}
