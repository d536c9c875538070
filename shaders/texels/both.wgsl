// Textures bound as storage that is both read and written.
alias Texels = texture_storage_2d<rgba32uint, read_write>;
alias Stored = Texels;

fn texel_at(plane: Texels, place: vec2<i32>) -> vec4<u32> {
    return textureLoad(plane, place);
}
