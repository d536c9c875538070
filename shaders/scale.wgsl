// x[r] *= SCALE, then softly kept between −CAP and CAP where CAP is not 0: CAP · tanh(x / CAP) (arXiv:2408.00118).
// Expects: K (columns), SCALE, CAP, WG. Grid: (columns / WG, rows).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read_write> x: array<f32>; // [rows, K]

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = workgroup.x * WG + lane;
    if rows[workgroup.y].sequence == NONE || i >= K {
        return;
    }
    x[workgroup.y * K + i] = soft_cap(x[workgroup.y * K + i] * SCALE);
}
