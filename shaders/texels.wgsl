// Words of a plane of a weight that lies in a texture, four words a texel and TEXELS texels a row: for devices that run on a
// processor, some of which load from buffers lane by lane.

fn texel(plane: texture_2d<u32>, at: u32) -> vec4<u32> {
    return textureLoad(plane, vec2<u32>(at % TEXELS, at / TEXELS), 0);
}

fn words_in(plane: texture_2d<u32>, row: u32, quad: u32) -> vec4<u32> {
    return texel(plane, row * 16u + quad);
}

fn pair_in(plane: texture_2d<u32>, row: u32, quad: u32) -> vec2<u32> {
    let both = texel(plane, row * 8u + quad / 2u);
    return select(both.xy, both.zw, quad % 2u == 1u);
}

fn word_in(plane: texture_2d<u32>, at: u32) -> u32 {
    return texel(plane, at / 4u)[at % 4u];
}
