// The two 16-bit floats of a word, low half first, by their bits: for devices that take twice as long to unpack them. Exact.

// The size of one whose exponent and fraction stand where those of a 32-bit float end.
fn size_of_half(bits: u32) -> f32 {
    // 112 and 112 more on the exponent, so that infinity stays infinity. The smallest ones, which have no exponent and no first
    // one bit, would be as if they had; less that bit they are smaller, as no others are.
    let large = bitcast<f32>(bits + 0x70000000u);
    return min(large, large + large - 0x1p98f) * 0x1p-112f;
}

fn two_halves(word: u32) -> vec2<f32> {
    // Instead of shifts, which some compilers do lane by lane: products, and for the upper half the bits of a float.
    let low = (0x7fffu & word) * 0x2000u;
    let high = bitcast<u32>(f32(i32(0x7fff0000u & word)) * 0x1p-16f + 0x1p23f) * 0x2000u;
    return vec2<f32>(
        bitcast<f32>(bitcast<u32>(size_of_half(low)) | ((0x8000u & word) * 0x10000u)),
        bitcast<f32>(bitcast<u32>(size_of_half(high)) | (0x80000000u & word)));
}
