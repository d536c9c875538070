// A quad's words, as they are loaded: those of two neighbouring quads are one load. Follows words/long.wgsl.

struct Quad {
    pair: u32, // of a tile, 0..7
    half: u32, // 0 or 1
}

alias Quads = Stored;

fn quad_of(number: u32) -> Quad {
    return Quad(number / 2u, number % 2u);
}

fn half_of_pair(pair: u32, half: u32) -> Quad {
    return Quad(pair, half);
}

fn number_of(quad: Quad) -> u32 {
    return quad.pair * 2u + quad.half;
}

// Where in a plane of Quads a quad's words are, in one row of 16 quads.
fn place_in(row: u32, quad: Quad) -> u32 {
    return row * 8u + quad.pair;
}

fn words_of(quads: Quads, quad: Quad) -> vec4<u32> {
    return four_words(quads, quad.half);
}
