// The middle of an MLP: out[r, i] = act(gate[r, i]) · up[r, i] where GATED (arXiv:2002.05202), else act(x[r, i]).
// Expects: K (intermediate size), ACT, GATED, WG; activation.wgsl. Grid: (vectors of a row / WG, rows).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;         // [rows, 2·K] gate, then up; [rows, K] if not GATED
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>; // [rows, K]

fn act_of(v: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(act(v.x), act(v.y), act(v.z), act(v.w));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = workgroup.x * WG + lane;
    if rows[workgroup.y].sequence == NONE || i >= K / 4u {
        return;
    }
    var result: vec4<f32>;
    if GATED {
        let gate = x[workgroup.y * (K / 2u) + i];
        result = act_of(gate) * x[workgroup.y * (K / 2u) + K / 4u + i];
    } else {
        result = act_of(x[workgroup.y * (K / 4u) + i]);
    }
    out[workgroup.y * (K / 4u) + i] = result;
}
