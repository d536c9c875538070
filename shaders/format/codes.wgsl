// What formats of integer codes share. `place` turns codes into weights; the file before this one gives it.
// Plane 0: codes [tiles, words a row, 16 quads].

// A code where it lies in its word: 2^shift times what it is. Through i32, whose conversion to float is one instruction
// everywhere.
fn lying(codes: vec4<u32>, mask: u32) -> vec4<f32> {
    return vec4<f32>(vec4<i32>(codes & vec4<u32>(mask)));
}

// The same for the last one of a word, whose uppermost bit would be taken for a sign.
fn last(codes: vec4<u32>, mask: u32) -> vec4<f32> {
    return word_numbers(codes & vec4<u32>(mask));
}

// Both for one row. The mask comes first: compilers write over a first operand, and the code is still wanted.
fn lying_one(code: u32, mask: u32) -> f32 {
    return f32(i32(mask & code));
}

fn last_one(code: u32, mask: u32) -> f32 {
    return f32(i32((mask & code) ^ (1u << 31u))) + 0x1p31f;
}

// The weights of codes that are what they are.
fn place_all(c: array<vec4<f32>, 8>, g: Group) -> array<vec4<f32>, 8> {
    return array<vec4<f32>, 8>(
        place(c[0], g), place(c[1], g), place(c[2], g), place(c[3], g),
        place(c[4], g), place(c[5], g), place(c[6], g), place(c[7], g));
}

// The weights of codes that lie in their words. Multiplied, since some compilers shift lane by lane.
fn place_lying(c: array<vec4<f32>, 8>, g: Group) -> array<vec4<f32>, 8> {
    return array<vec4<f32>, 8>(
        place(c[0] * ALIGN_A.x, g), place(c[1] * ALIGN_A.y, g), place(c[2] * ALIGN_A.z, g), place(c[3] * ALIGN_A.w, g),
        place(c[4] * ALIGN_B.x, g), place(c[5] * ALIGN_B.y, g), place(c[6] * ALIGN_B.z, g), place(c[7] * ALIGN_B.w, g));
}
