// Textures bound as those that could be sampled.
alias Texels = texture_2d<u32>;

fn texel_at(plane: Texels, place: vec2<i32>) -> vec4<u32> {
    return textureLoad(plane, place, 0);
}
