// Two f16 constants a group of columns, `first` and `second`, one word for both.
// The contract is told in format/f16.wgsl. Expects: GROUPS (groups a row).
// Plane 1: constants [tiles, GROUPS, 16 quads], first | second.

struct Group { first: vec4<f32>, second: vec4<f32> }

alias Scales = vec4<u32>;

fn load_scales(tile: u32, quad: u32, group: u32) -> Scales {
    return words_1(tile * GROUPS + group, quad);
}

fn group_of(c: Scales) -> Group {
    let x = two_halves(c.x);
    let y = two_halves(c.y);
    let z = two_halves(c.z);
    let w = two_halves(c.w);
    return Group(vec4<f32>(x.x, y.x, z.x, w.x), vec4<f32>(x.y, y.y, z.y, w.y));
}

fn group_of_row(g: Group, row: vec4<u32>) -> Group {
    return Group(number_of_row(g.first, row), number_of_row(g.second, row));
}
