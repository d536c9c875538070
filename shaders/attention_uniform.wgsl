// Queries of attention.wgsl as uniforms, for devices whose lanes are a processor's: an index that is the same
// in all lanes is read once for all of them. Rows, queries and outputs are windows of ROWS rows.

@group(0) @binding(2) var<uniform> q: array<vec4<f32>, ROWS * HEADS * HALF / 2u>; // [ROWS, HEADS · 2·HALF]

fn open_queries(workgroup: vec3<u32>, t: Thread) {}

fn query_at(workgroup: vec3<u32>, h: u32, i: u32) -> vec4<f32> {
    return q[((workgroup.y * HEADS + workgroup.x * TEAM + h) * 2u * HALF + i) / 4u];
}

fn query_low(workgroup: vec3<u32>, h: u32, i: u32) -> vec4<f32> {
    return query_at(workgroup, h, i);
}

fn query_high(workgroup: vec3<u32>, h: u32, i: u32) -> vec4<f32> {
    return query_at(workgroup, h, HALF + i);
}
