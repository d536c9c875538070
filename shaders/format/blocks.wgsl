// Groups and blocks that are loaded and unpacked at once. The contract that it is made of is told in format/f16.wgsl.

fn load_group(tile: u32, quad: u32, group: u32) -> Group {
    return group_of(load_scales(tile, quad, group));
}

fn load_block(tile: u32, quad: u32, block: u32, g: Group) -> array<vec4<f32>, 8> {
    return weights_of(load_words(tile, quad, block), g);
}

// Of four rows' numbers that of the one which `row` has all bits of, four times.
fn bits_of_row(v: vec4<u32>, row: vec4<u32>) -> vec4<u32> {
    let own = v & row;
    return vec4<u32>(own.x | own.y | own.z | own.w);
}

fn number_of_row(v: vec4<f32>, row: vec4<u32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(bits_of_row(bitcast<vec4<u32>>(v), row));
}
