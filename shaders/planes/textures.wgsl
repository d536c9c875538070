// The planes of a weight, each in a texture, four words a texel and TEXELS texels a row: for devices that run on a processor, some
// of which load from buffers lane by lane. See planes/buffers.wgsl.

@group(1) @binding(0) var plane_0: texture_2d<u32>;
@group(1) @binding(1) var plane_1: texture_2d<u32>;
@group(1) @binding(2) var plane_2: texture_2d<u32>;
@group(1) @binding(3) var plane_3: texture_2d<u32>;

fn texel(plane: texture_2d<u32>, at: u32) -> vec4<u32> {
    return textureLoad(plane, vec2<u32>(at % TEXELS, at / TEXELS), 0);
}

fn half_of(texel: vec4<u32>, half: u32) -> vec2<u32> {
    return select(texel.xy, texel.zw, half == 1u);
}

fn words_0(row: u32, quad: u32) -> vec4<u32> {
    return texel(plane_0, row * 16u + quad);
}

fn words_1(row: u32, quad: u32) -> vec4<u32> {
    return texel(plane_1, row * 16u + quad);
}

fn words_2(row: u32, quad: u32) -> vec4<u32> {
    return texel(plane_2, row * 16u + quad);
}

fn pair_1(row: u32, quad: u32) -> vec2<u32> {
    return half_of(texel(plane_1, row * 8u + quad / 2u), quad % 2u);
}

fn pair_3(row: u32, quad: u32) -> vec2<u32> {
    return half_of(texel(plane_3, row * 8u + quad / 2u), quad % 2u);
}

fn word_2(at: u32) -> u32 {
    return texel(plane_2, at / 4u)[at % 4u];
}
