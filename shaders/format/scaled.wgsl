// w = scale · state, one scale a group of columns. `load_words` of the file before this one gives states.
// The contract is told in format/f16.wgsl.

const ALIGN_A: vec4<f32> = vec4<f32>(1.0);
const ALIGN_B: vec4<f32> = vec4<f32>(1.0);

fn finish(dot_: vec4<f32>, total: f32, g: Group) -> vec4<f32> {
    return g.scale * dot_;
}

fn place(codes: vec4<f32>, g: Group) -> vec4<f32> {
    return g.scale * codes;
}

fn weights_of(words: Words, g: Group) -> array<vec4<f32>, 8> {
    let c = codes_of(words);
    return array<vec4<f32>, 8>(
        g.scale * c[0], g.scale * c[1], g.scale * c[2], g.scale * c[3],
        g.scale * c[4], g.scale * c[5], g.scale * c[6], g.scale * c[7]);
}
