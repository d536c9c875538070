// Groups and blocks that are loaded and unpacked at once. The contract that it is made of is told in format/f16.wgsl.

fn load_group(tile: u32, quad: u32, group: u32) -> Group {
    return group_of(load_scales(tile, quad, group));
}

fn load_block(tile: u32, quad: u32, block: u32, g: Group) -> array<vec4<f32>, 8> {
    return weights_of(load_words(tile, quad, block), g);
}
