// The two 16-bit floats of a word, low half first, by their bits: for devices that take twice as long to unpack them. Exact.

// The numbers that it takes. Compilers of such devices fetch a constant anew wherever it stands, by two instructions; of what they
// cannot know to be one they have it once. So each is made of a number that is nothing.
struct Halving {
    low: u32, high: u32, sign: u32, // masks
    to_place: u32, to_sign: u32,    // factors instead of shifts
    more: u32,                      // 224 on an exponent
    down: f32, whole: f32,          // what make a word's upper half the lowest bits of a float
    bit: f32, less: f32,
}

fn halving(nothing: u32) -> Halving {
    return Halving(
        nothing | 0x7fffu, nothing | 0x7fff0000u, nothing | 0x80000000u, nothing | 0x2000u, nothing | 0x10000u, nothing | 0x70000000u,
        bitcast<f32>(nothing | bitcast<u32>(0x1p-16f)), bitcast<f32>(nothing | bitcast<u32>(0x1p23f)),
        bitcast<f32>(nothing | bitcast<u32>(0x1p98f)), bitcast<f32>(nothing | bitcast<u32>(0x1p-112f)));
}

// The size of one whose exponent and fraction stand where those of a 32-bit float end.
fn size_of_half(bits: u32, n: Halving) -> f32 {
    // 112 and 112 more on the exponent, so that infinity stays infinity. The smallest ones, which have no exponent and no first
    // one bit, would be as if they had; less that bit they are smaller, as no others are.
    let large = bitcast<f32>(bits + n.more);
    return min(large, large + large - n.bit) * n.less;
}

// Instead of shifts, which some compilers do lane by lane: products, and for the upper half the bits of a float.
fn low_of(word: u32, n: Halving) -> f32 {
    let size = size_of_half((n.low & word) * n.to_place, n);
    return bitcast<f32>(bitcast<u32>(size) | (n.sign & (word * n.to_sign)));
}

fn high_of(word: u32, n: Halving) -> f32 {
    let size = size_of_half(bitcast<u32>(f32(i32(n.high & word)) * n.down + n.whole) * n.to_place, n);
    return bitcast<f32>(bitcast<u32>(size) | (n.sign & word));
}

fn two_halves(word: u32) -> vec2<f32> {
    let n = halving(0u);
    return vec2<f32>(low_of(word, n), high_of(word, n));
}

// Those of four words: the low halves, and the high ones.
fn four_pairs(words: vec4<u32>) -> array<vec4<f32>, 2> {
    let n = halving(min(words.x, 0u));
    return array<vec4<f32>, 2>(
        vec4<f32>(low_of(words.x, n), low_of(words.y, n), low_of(words.z, n), low_of(words.w, n)),
        vec4<f32>(high_of(words.x, n), high_of(words.y, n), high_of(words.z, n), high_of(words.w, n)));
}
