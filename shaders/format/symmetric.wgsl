// w = scale · (code − MIDDLE), one f16 scale a group of columns.
// The contract is told in format/f16.wgsl. Expects: GROUPS (groups a row), MIDDLE from the codes' file.
// Plane 1: constants [tiles, GROUPS, 16 quads], two rows a word.

struct Group { scale: vec4<f32> }

alias Scales = vec2<u32>;

fn load_scales(tile: u32, quad: u32, group: u32) -> Scales {
    return pair_1(tile * GROUPS + group, quad);
}

fn group_of(c: Scales) -> Group {
    return Group(vec4<f32>(two_halves(c.x), two_halves(c.y)));
}

fn group_of_row(g: Group, row: vec4<u32>) -> Group {
    return Group(number_of_row(g.scale, row));
}

fn finish(dot_: vec4<f32>, total: f32, g: Group) -> vec4<f32> {
    return g.scale * (dot_ - MIDDLE * total);
}

fn place(codes: vec4<f32>, g: Group) -> vec4<f32> {
    return g.scale * (codes - MIDDLE);
}
