// 16-bit floats, two columns of a row in a word, low half first.
//
// The contract of every format: `load_scales` fetches what a group of columns shares, which `group_of` unpacks; `load_words` eight
// columns of four rows, of which `weights_of` makes weights. tile = 64 rows; quad = 4 rows of it; group and block
// count columns.
// Where weights serve but once, codes do, at less work each: Σ x · w of a group is `finish` of Σ x · code and Σ x, and
// `codes_of` makes of words codes times powers of two, which activations times ALIGN_A (four columns) and ALIGN_B undo
// exactly. `one_code` makes that of row j (0..3) and column k (0..7), both constant: for compilers of few registers, which should
// be done with one before the next. For one row of x they have all four rows of columns 2·i and 2·i + 1 by `columns_of`; or, of
// formats whose codes lie in their words, BITS each, by `word_of`, which gives that of columns 0 to 3 or 4 to 7, lowest first. One
// of the two is not asked: the second where BITS is 0, else the first. Where a loop goes over rows, `words_of_row` and `group_of_row` make of four rows that which a
// mask tells, four times, and `place` makes weights of its codes, four at a time and already undone. Kernels that wait for memory
// have the words of several blocks under way, at most IN_FLIGHT.
// Formats of integer codes have `load_dots` too: two words of four codes for each row, DOT_BIAS less than they are.
// `words_0` and its like read planes (src/kernels/planes.rs). Plane 0: words [tiles, K/2, 16 quads]. Expects: K (columns).

struct Group { unused: u32 }

alias Scales = Group;

fn load_scales(tile: u32, quad: u32, group: u32) -> Scales {
    return Group(0u);
}

fn group_of(scales: Scales) -> Group {
    return scales;
}

fn group_of_row(g: Group, row: vec4<u32>) -> Group {
    return g;
}

alias Words = array<vec4<u32>, 4>;

const IN_FLIGHT: u32 = 2u;

fn load_words(tile: u32, quad: u32, block: u32) -> Words {
    let row = tile * (K / 2u) + block * 4u;
    return Words(words_0(row, quad), words_0(row + 1u, quad), words_0(row + 2u, quad), words_0(row + 3u, quad));
}

fn codes_of(w: Words) -> array<vec4<f32>, 8> {
    let a = four_pairs(w[0]);
    let b = four_pairs(w[1]);
    let c = four_pairs(w[2]);
    let d = four_pairs(w[3]);
    return array<vec4<f32>, 8>(a[0], a[1], b[0], b[1], c[0], c[1], d[0], d[1]);
}

fn one_code(words: ptr<function, Words>, j: u32, k: u32) -> f32 {
    return two_halves((*words)[k / 2u][j])[k % 2u];
}

fn columns_of(words: ptr<function, Words>, i: u32) -> array<vec4<f32>, 2> {
    return four_pairs((*words)[i]);
}

const BITS: u32 = 0u;

fn word_of(words: Words, half: u32) -> vec4<u32> {
    return vec4<u32>();
}

fn words_of_row(w: Words, row: vec4<u32>) -> Words {
    return Words(bits_of_row(w[0], row), bits_of_row(w[1], row), bits_of_row(w[2], row), bits_of_row(w[3], row));
}

const ALIGN_A: vec4<f32> = vec4<f32>(1.0);
const ALIGN_B: vec4<f32> = vec4<f32>(1.0);

fn weights_of(words: Words, g: Group) -> array<vec4<f32>, 8> {
    return codes_of(words);
}

fn finish(dot_: vec4<f32>, total: f32, g: Group) -> vec4<f32> {
    return dot_;
}

fn place(codes: vec4<f32>, g: Group) -> vec4<f32> {
    return codes;
}
