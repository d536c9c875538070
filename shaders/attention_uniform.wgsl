// Queries of attention.wgsl as uniforms, for devices whose lanes are a processor's: an index that is the same
// in all lanes is read once for all of them. Rows, queries and outputs are windows of ROWS rows.

@group(0) @binding(2) var<uniform> q: array<vec4<f32>, ROWS * HEADS * HALF / 2u>; // [ROWS, HEADS · 2·HALF]

fn open_queries(t: Thread) {}

fn query_at(t: Thread, h: u32, i: u32) -> vec4<f32> {
    return q[((t.workgroup.y * HEADS + t.workgroup.x * (HEADS / KV_HEADS) + h) * 2u * HALF + i) / 4u];
}

fn query_low(t: Thread, h: u32, i: u32) -> vec4<f32> {
    return query_at(t, h, i);
}

fn query_high(t: Thread, h: u32, i: u32) -> vec4<f32> {
    return query_at(t, h, HALF + i);
}
