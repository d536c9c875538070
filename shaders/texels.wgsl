// Words of a buffer that lies in a texture, four words a texel and TEXELS texels a row: for devices that run on a processor,
// some of which load from buffers lane by lane. Follows texels/, which says how it is bound.

const_assert 0u == (TEXELS & (TEXELS - 1u));

// Not by `/` and `%`, which some compilers do lane by lane. Exact: a texture has 2^24 texels at most.
fn place_of_texel(at: u32) -> vec2<i32> {
    return vec2<i32>(i32(at & (TEXELS - 1u)), i32(f32(i32(at)) * (1.0 / f32(TEXELS))));
}

fn texel(plane: Texels, at: u32) -> vec4<u32> {
    return texel_at(plane, place_of_texel(at));
}

// Texel j of those that come `each` at a time, from one on that begins such a lot. Where lots do not straddle rows, what row it is
// in is worked out once for all of them.
fn texel_of(plane: Texels, first: u32, j: u32, each: u32) -> vec4<u32> {
    if TEXELS % each != 0u {
        return texel(plane, first + j);
    }
    return texel_at(plane, place_of_texel(first) + vec2<i32>(i32(j), 0));
}

fn words_in(plane: Texels, row: u32, quad: u32) -> vec4<u32> {
    return texel_of(plane, row * 16u, quad, 16u);
}

fn pair_in(plane: Texels, row: u32, quad: u32) -> vec2<u32> {
    let both = texel_of(plane, row * 8u, quad / 2u, 8u);
    return select(both.xy, both.zw, quad % 2u == 1u);
}

fn word_in(plane: Texels, at: u32) -> u32 {
    return texel(plane, at / 4u)[at % 4u];
}
