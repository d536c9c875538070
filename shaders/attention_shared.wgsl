// Queries of attention.wgsl, staged in workgroup memory.

@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>; // [rows, HEADS · 2·HALF]

var<workgroup> query: array<vec4<f32>, HEADS / KV_HEADS * HALF / 2u>;

fn open_queries(t: Thread) {
    let team = HEADS / KV_HEADS;
    let base = (t.workgroup.y * HEADS + t.workgroup.x * team) * HALF / 2u;
    for (var i = t.lane; i < team * HALF / 2u; i += WG) {
        query[i] = q[base + i];
    }
    workgroupBarrier();
}

fn query_low(t: Thread, h: u32, i: u32) -> vec4<f32> {
    return query[h * HALF / 2u + i / 4u];
}

fn query_high(t: Thread, h: u32, i: u32) -> vec4<f32> {
    return query[h * HALF / 2u + (HALF + i) / 4u];
}
