// One of 16 numbers at uneven distances, times an f32 scale for each group of columns.
// format/scaled.wgsl follows; codes are laid out as in format/q4.wgsl. Expects: K (columns), GROUPS.

@group(1) @binding(0) var<storage, read> codes: array<Quads>;  // [tiles, K/8, 16 quads]
@group(1) @binding(1) var<storage, read> scales: array<vec4<f32>>; // [tiles, GROUPS, 16 quads]
@group(1) @binding(2) var<storage, read> states: array<f32>;       // [tiles, 16], the same in every tile

struct Group { scale: vec4<f32> }

alias Scales = Group;

fn load_scales(tile: u32, quad: Quad, group: u32) -> Scales {
    return Group(scales[(tile * GROUPS + group) * 16u + number_of(quad)]);
}

fn group_of(scales: Scales) -> Group {
    return scales;
}

fn look_up(codes: vec4<u32>, shift: u32) -> vec4<f32> {
    let c = (codes >> vec4<u32>(shift)) & vec4<u32>(15u);
    return vec4<f32>(states[c.x], states[c.y], states[c.z], states[c.w]);
}

fn load_words(tile: u32, quad: Quad, block: u32) -> Words {
    let a = words_of(codes[place_in(tile * (K / 8u) + block, quad)], quad);
    return Words(
        look_up(a, 0u), look_up(a, 4u), look_up(a, 8u), look_up(a, 12u),
        look_up(a, 16u), look_up(a, 20u), look_up(a, 24u), look_up(a, 28u));
}
