// The two 16-bit floats of a word, low half first.
fn two_halves(word: u32) -> vec2<f32> {
    return unpack2x16float(word);
}
