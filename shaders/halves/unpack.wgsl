// The two 16-bit floats of a word, low half first.
fn two_halves(word: u32) -> vec2<f32> {
    return unpack2x16float(word);
}

// Those of four words: the low halves, and the high ones.
fn four_pairs(words: vec4<u32>) -> array<vec4<f32>, 2> {
    let a = two_halves(words.x);
    let b = two_halves(words.y);
    let c = two_halves(words.z);
    let d = two_halves(words.w);
    return array<vec4<f32>, 2>(vec4<f32>(a.x, b.x, c.x, d.x), vec4<f32>(a.y, b.y, c.y, d.y));
}
