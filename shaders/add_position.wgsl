// Learned positions: x[r] += table[position of r].
// Expects: K (hidden size), WG. Grid: (columns / WG, rows).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> table: array<f32>;   // [context, K]
@group(0) @binding(2) var<storage, read_write> x: array<f32>; // [rows, K]

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = workgroup.x * WG + lane;
    if rows[workgroup.y].sequence == NONE || i >= K {
        return;
    }
    x[workgroup.y * K + i] += table[rows[workgroup.y].position * K + i];
}
