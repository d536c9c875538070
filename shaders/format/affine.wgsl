// What the uniform formats share: w = scale · (code − zero), both constants f16, one pair a group of columns.
// The contract is told in format/f16.wgsl. Expects: GROUPS (groups a row).

@group(1) @binding(0) var<storage, read> codes: array<vec4<u32>>;     // [tiles, words a row, 16 quads]
@group(1) @binding(1) var<storage, read> constants: array<vec4<u32>>; // [tiles, GROUPS, 16 quads] scale | zero

struct Group { scale: vec4<f32>, zero: vec4<f32> }

fn load_group(tile: u32, quad: u32, group: u32) -> Group {
    let c = constants[(tile * GROUPS + group) * 16u + quad];
    let x = unpack2x16float(c.x);
    let y = unpack2x16float(c.y);
    let z = unpack2x16float(c.z);
    let w = unpack2x16float(c.w);
    return Group(vec4<f32>(x.x, y.x, z.x, w.x), vec4<f32>(x.y, y.y, z.y, w.y));
}

// Through i32, whose conversion to float is one instruction everywhere.
fn dequantize(codes: vec4<u32>, shift: u32, mask: u32, g: Group) -> vec4<f32> {
    return g.scale * (vec4<f32>(vec4<i32>((codes >> vec4<u32>(shift)) & vec4<u32>(mask))) - g.zero);
}
