// Keys and values in textures, whose texels are written whole: both by token. Follows texels.wgsl, and texels/, which says whether
// they are read too.
// Expects: HALF (a multiple of 4), PAGE.

@group(0) @binding(4) var keys: Stored;   // [pages, KV_HEADS, PAGE, HALF]
@group(0) @binding(5) var values: Stored; // [pages, KV_HEADS, PAGE, HALF]

// Where the texel of word i of a token is, in a head's part of a page.
fn place_of_words(part: u32, token: u32, i: u32) -> vec2<i32> {
    return place_of_texel(((part * PAGE + token) * HALF + i) / 4u);
}

fn store_key(part: u32, token: u32, i: u32, words: vec4<u32>) {
    textureStore(keys, place_of_words(part, token, i), words);
}

fn store_value(part: u32, token: u32, i: u32, words: vec4<u32>) {
    textureStore(values, place_of_words(part, token, i), words);
}
