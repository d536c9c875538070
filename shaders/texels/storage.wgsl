// Textures bound as storage, which have no mip levels: compilers need not ask how large one is.
alias Texels = texture_storage_2d<rgba32uint, read>;

fn texel_at(plane: Texels, place: vec2<i32>) -> vec4<u32> {
    return textureLoad(plane, place);
}
