// Queries of attention.wgsl, staged in workgroup memory.

@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>; // [rows, HEADS · 2·HALF]

var<workgroup> query: array<vec4<f32>, TEAM * HALF / 2u>;

fn open_queries(workgroup: vec3<u32>, t: Thread) {
    let base = (workgroup.y * HEADS + workgroup.x * TEAM) * HALF / 2u;
    for (var i = t.lane; i < TEAM * HALF / 2u; i += WG) {
        query[i] = q[base + i];
    }
    workgroupBarrier();
}

fn query_low(workgroup: vec3<u32>, h: u32, i: u32) -> vec4<f32> {
    return query[h * HALF / 2u + i / 4u];
}

fn query_high(workgroup: vec3<u32>, h: u32, i: u32) -> vec4<f32> {
    return query[h * HALF / 2u + (HALF + i) / 4u];
}
