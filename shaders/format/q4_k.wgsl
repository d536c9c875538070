// GGUF's Q4_K: w = d · s · code − dmin · m. f16 d and dmin for 256 columns; s and m, of 6 bits each, for 32.
// The contract is told in format/f16.wgsl; codes are laid out as in format/q4.wgsl. Expects: K (columns).
// Plane 1: constants [tiles, K/256, 4 words, 16 quads]: d | dmin, then the three words in which the file has its 6-bit numbers.

struct Group { scale: vec4<f32>, offset: vec4<f32> }

fn numbers(words: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(vec4<i32>(words));
}

alias Scales = Group;

// The first four pairs lie in the low 6 bits of a byte each; of the others, the low 4 bits have a byte of the last
// word together, and the high 2 bits are on top of the first four.
fn load_scales(tile: u32, quad: u32, group: u32) -> Scales {
    let row = (tile * (K / 256u) + group / 8u) * 4u;
    let first = words_1(row, quad);
    let a = words_1(row + 1u, quad);
    let b = words_1(row + 2u, quad);
    let at = vec4<u32>(group % 4u * 8u);
    var s = (a >> at) & vec4<u32>(63u);
    var m = (b >> at) & vec4<u32>(63u);
    if group % 8u >= 4u {
        let c = words_1(row + 3u, quad) >> at;
        s = (c & vec4<u32>(15u)) | (((a >> (at + 6u)) & vec4<u32>(3u)) << vec4<u32>(4u));
        m = ((c >> vec4<u32>(4u)) & vec4<u32>(15u)) | (((b >> (at + 6u)) & vec4<u32>(3u)) << vec4<u32>(4u));
    }
    let both = four_pairs(first);
    return Group(both[0] * numbers(s), -both[1] * numbers(m));
}

fn group_of(scales: Scales) -> Group {
    return scales;
}

fn group_of_row(g: Group, row: vec4<u32>) -> Group {
    return Group(number_of_row(g.scale, row), number_of_row(g.offset, row));
}

fn finish(dot_: vec4<f32>, total: f32, g: Group) -> vec4<f32> {
    return g.scale * dot_ + g.offset * total;
}

fn place(codes: vec4<f32>, g: Group) -> vec4<f32> {
    return g.scale * codes + g.offset;
}
