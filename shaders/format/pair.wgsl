// Two f16 constants a group of columns, `first` and `second`, one word for both.
// The contract is told in format/f16.wgsl. Expects: GROUPS (groups a row).
// Plane 1: constants [tiles, GROUPS, 16 quads], first | second.

struct Group { first: vec4<f32>, second: vec4<f32> }

alias Scales = vec4<u32>;

fn load_scales(tile: u32, quad: u32, group: u32) -> Scales {
    return words_1(tile * GROUPS + group, quad);
}

fn group_of(c: Scales) -> Group {
    let both = four_pairs(c);
    return Group(both[0], both[1]);
}

fn group_of_row(g: Group, row: vec4<u32>) -> Group {
    return Group(number_of_row(g.first, row), number_of_row(g.second, row));
}
