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

// Where in an array of Stored a word is, and what is there with the word put in.
fn place_of_stored(at: u32) -> u32 {
    return at / 8u;
}

fn with_stored(before: Stored, at: u32, word: u32) -> Stored {
    var words = before;
    let two = words[at % 8u / 2u];
    let first = at % 2u == 0u;
    words[at % 8u / 2u] = (two & select(0xfffffffflu, 0xffffffff00000000lu, first)) | (u64(word) << select(32u, 0u, first));
    return words;
}

// Four floats of a uniform buffer, as they are loaded: LOADED in one number.
alias Four = vec2<u64>;

const LOADED: u32 = 2u;

fn floats_of(two: u64) -> vec2<f32> {
    return vec2<f32>(bitcast<f32>(u32(two)), bitcast<f32>(u32(two >> 32u)));
}

fn four_floats(four: Four) -> vec4<f32> {
    return vec4<f32>(floats_of(four.x), floats_of(four.y));
}
