// SwiGLU (arXiv:2002.05202): out[r, i] = silu(gate[r, i]) · up[r, i], silu(x) = x / (1 + e^−x), e kept finite.
// Expects: K (intermediate size), WG. Grid: (vectors of a row / WG, rows).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> gate_up: array<vec4<f32>>;   // [rows, 2·K] gate, then up
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>; // [rows, K]

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = workgroup.x * WG + lane;
    if rows[workgroup.y].sequence == NONE || i >= K / 4u {
        return;
    }
    let gate = gate_up[workgroup.y * (K / 2u) + i];
    let up = gate_up[workgroup.y * (K / 2u) + K / 4u + i];
    out[workgroup.y * (K / 4u) + i] = gate / (1.0 + exp(min(-gate, vec4<f32>(80.0)))) * up;
}
