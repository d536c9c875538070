// Words of storage, as they are loaded: eight of them in four numbers, for devices that load number by number. Where a kernel
// wants both halves of eight words, compilers see that both are one load, since which half is wanted does not tell where it is.

alias Stored = vec4<u64>;

// Where in an array of Stored a half (0 or 1) of eight words is.
fn place_of_half(eight: u32, half: u32) -> u32 {
    return eight;
}

fn four_words(words: Stored, half: u32) -> vec4<u32> {
    let two = select(words.xy, words.zw, half == 1u);
    return vec4<u32>(u32(two.x), u32(two.x >> 32u), u32(two.y), u32(two.y >> 32u));
}
