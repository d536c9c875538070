// The planes of a weight, each in a buffer. A format takes of a plane what it has there for a quad (four rows of W, 16 of them in a
// tile): a word for each row, or one for two, or single words; so a binding is declared for each of the types that it may have.

@group(1) @binding(0) var<storage, read> plane_0: array<vec4<u32>>;
@group(1) @binding(1) var<storage, read> plane_1: array<vec4<u32>>;
@group(1) @binding(2) var<storage, read> plane_2: array<vec4<u32>>;
@group(1) @binding(1) var<storage, read> halved_1: array<vec2<u32>>;
@group(1) @binding(3) var<storage, read> halved_3: array<vec2<u32>>;
@group(1) @binding(2) var<storage, read> single_2: array<u32>;

// What there is for a quad (0..16) in one of the plane's rows of 16.
fn words_0(row: u32, quad: u32) -> vec4<u32> {
    return plane_0[row * 16u + quad];
}

fn words_1(row: u32, quad: u32) -> vec4<u32> {
    return plane_1[row * 16u + quad];
}

fn words_2(row: u32, quad: u32) -> vec4<u32> {
    return plane_2[row * 16u + quad];
}

// The same where two rows of W share a word.
fn pair_1(row: u32, quad: u32) -> vec2<u32> {
    return halved_1[row * 16u + quad];
}

fn pair_3(row: u32, quad: u32) -> vec2<u32> {
    return halved_3[row * 16u + quad];
}

fn word_2(at: u32) -> u32 {
    return single_2[at];
}
