// A quad's words, as they are loaded: those of one quad.

alias Quad = u32; // of a tile, 0..15

alias Quads = vec4<u32>;

fn quad_of(number: u32) -> Quad {
    return number;
}

fn half_of_pair(pair: u32, half: u32) -> Quad {
    return pair * 2u + half;
}

fn number_of(quad: Quad) -> u32 {
    return quad;
}

// Where in a plane of Quads a quad's words are, in one row of 16 quads.
fn place_in(row: u32, quad: Quad) -> u32 {
    return row * 16u + quad;
}

fn words_of(quads: Quads, quad: Quad) -> vec4<u32> {
    return quads;
}
