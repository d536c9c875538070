// Picks the rows whose logits are wanted: out[o] = x[outputs[o]], and the row itself likewise.
// Expects: K (hidden size), WG. Grid: (vectors of a row / WG, outputs).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> outputs: array<u32>;         // [outputs] row, or NONE
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;         // [rows, K]
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>; // [outputs, K]
@group(0) @binding(4) var<storage, read_write> out_rows: array<Row>;  // [outputs]

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = workgroup.x * WG + lane;
    let o = workgroup.y;
    let source = outputs[o];
    if i == 0u {
        if source == NONE {
            out_rows[o].sequence = NONE;
        } else {
            out_rows[o] = rows[source];
        }
    }
    if source != NONE && i < K / 4u {
        out[o * (K / 4u) + i] = x[source * (K / 4u) + i];
    }
}
