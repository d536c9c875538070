// One of 16 numbers at uneven distances, times an f32 scale for each group of columns.
// format/scaled.wgsl follows; codes are laid out as in format/q4.wgsl. Expects: K (columns), GROUPS.
// Plane 0: codes [tiles, K/8, 16 quads]. Plane 1: scales [tiles, GROUPS, 16 quads]. Plane 2: the numbers [tiles, 16], the same in
// every tile.

struct Group { scale: vec4<f32> }

alias Scales = Group;

fn load_scales(tile: u32, quad: u32, group: u32) -> Scales {
    return Group(bitcast<vec4<f32>>(words_1(tile * GROUPS + group, quad)));
}

fn group_of(scales: Scales) -> Group {
    return scales;
}

fn group_of_row(g: Group, row: vec4<u32>) -> Group {
    return Group(number_of_row(g.scale, row));
}

fn look_up(codes: vec4<u32>, shift: u32) -> vec4<f32> {
    let c = (codes >> vec4<u32>(shift)) & vec4<u32>(15u);
    return bitcast<vec4<f32>>(vec4<u32>(word_2(c.x), word_2(c.y), word_2(c.z), word_2(c.w)));
}

fn load_words(tile: u32, quad: u32, block: u32) -> Words {
    let a = words_0(tile * (K / 8u) + block, quad);
    return Words(
        look_up(a, 0u), look_up(a, 4u), look_up(a, 8u), look_up(a, 12u),
        look_up(a, 16u), look_up(a, 20u), look_up(a, 24u), look_up(a, 28u));
}
