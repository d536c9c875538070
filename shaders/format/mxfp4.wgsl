// MXFP4: w = state · 2^(e − 127), states 0, ½, 1, 1½, 2, 3, 4, 6 and their negatives, 8 bits of e for 32 columns.
// format/scaled.wgsl follows; codes are laid out as in format/q4.wgsl. Expects: K (columns), GROUPS.
// Plane 0: codes [tiles, K/8, 16 quads]. Plane 1: exponents [tiles, GROUPS/4 rounded up, 16 quads], four a word.

struct Group { scale: vec4<f32> }

alias Scales = Group;

// Half of the scale, because states are counted in halves. The two least ones are no normal numbers.
fn load_scales(tile: u32, quad: u32, group: u32) -> Scales {
    let words = words_1(tile * ((GROUPS + 3u) / 4u) + group / 4u, quad);
    let e = (words >> vec4<u32>(group % 4u * 8u)) & vec4<u32>(255u);
    let small = vec4<u32>(0x200000u) << min(e, vec4<u32>(1u));
    return Group(bitcast<vec4<f32>>(select((e - vec4<u32>(1u)) << vec4<u32>(23u), small, e < vec4<u32>(2u))));
}

fn group_of(scales: Scales) -> Group {
    return scales;
}

fn group_of_row(g: Group, row: vec4<u32>) -> Group {
    return Group(number_of_row(g.scale, row));
}

// Twice the state of a code. Four bits each say how large it is, for codes without their sign.
fn doubled(codes: vec4<u32>, shift: u32) -> vec4<f32> {
    let c = codes >> vec4<u32>(shift);
    let size = vec4<i32>((vec4<u32>(0xc8643210u) >> ((c & vec4<u32>(7u)) << vec4<u32>(2u))) & vec4<u32>(15u));
    return vec4<f32>(select(size, -size, (c & vec4<u32>(8u)) != vec4<u32>(0u)));
}

fn load_words(tile: u32, quad: u32, block: u32) -> Words {
    let a = words_0(tile * (K / 8u) + block, quad);
    return Words(
        doubled(a, 0u), doubled(a, 4u), doubled(a, 8u), doubled(a, 12u),
        doubled(a, 16u), doubled(a, 20u), doubled(a, 24u), doubled(a, 28u));
}
