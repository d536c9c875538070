// Columns in another order: out[r, i] = x[r, order[i]].
// Expects: K (columns), WG. Grid: (columns / WG, rows).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> order: array<u32>;      // [K]
@group(0) @binding(2) var<storage, read> x: array<f32>;          // [rows, K]
@group(0) @binding(3) var<storage, read_write> out: array<f32>;  // [rows, K]

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = workgroup.x * WG + lane;
    if rows[workgroup.y].sequence == NONE || i >= K {
        return;
    }
    out[workgroup.y * K + i] = x[workgroup.y * K + order[i]];
}
