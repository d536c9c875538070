// Words of storage, as they are loaded: four of them.

alias Stored = vec4<u32>;

// Where in an array of Stored a half (0 or 1) of eight words is.
fn place_of_half(eight: u32, half: u32) -> u32 {
    return eight * 2u + half;
}

fn four_words(words: Stored, half: u32) -> vec4<u32> {
    return words;
}
