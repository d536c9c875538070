// Textures bound as those that could be sampled, and others that are only written.
alias Texels = texture_2d<u32>;
alias Stored = texture_storage_2d<rgba32uint, write>;

fn texel_at(plane: Texels, place: vec2<i32>) -> vec4<u32> {
    return textureLoad(plane, place, 0);
}
