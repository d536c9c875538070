// Words of storage, as they are loaded: four of them.

alias Stored = vec4<u32>;

// Where in an array of Stored a half (0 or 1) of eight words is.
fn place_of_half(eight: u32, half: u32) -> u32 {
    return eight * 2u + half;
}

fn four_words(words: Stored, half: u32) -> vec4<u32> {
    return words;
}

// Where in an array of Stored a word is, and what is there with the word put in.
fn place_of_stored(at: u32) -> u32 {
    return at / 4u;
}

fn with_stored(before: Stored, at: u32, word: u32) -> Stored {
    var words = before;
    words[at % 4u] = word;
    return words;
}

// Four floats of a uniform buffer, as they are loaded: LOADED in one number.
alias Four = vec4<f32>;

const LOADED: u32 = 1u;

fn floats_of(one: f32) -> vec2<f32> {
    return vec2<f32>(one);
}

fn four_floats(four: Four) -> vec4<f32> {
    return four;
}
