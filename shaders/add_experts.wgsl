// Adds what a row's experts made of it: out[r] += Σ_s weight(r, s) · made[r, s].
// Expects: N, SLOTS, WG. Grid: (vectors of a row / WG, rows).

@group(0) @binding(0) var<storage, read> chosen: array<u32>;          // [rows, SLOTS], NONE for rows not in use
@group(0) @binding(1) var<storage, read> weights: array<f32>;         // [rows, SLOTS]
@group(0) @binding(2) var<storage, read> made: array<vec4<f32>>;      // [rows, SLOTS, N]
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>; // [rows, N]

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = workgroup.x * WG + lane;
    let row = workgroup.y;
    if chosen[row * SLOTS] == NONE || i >= N / 4u {
        return;
    }
    var sum: vec4<f32>;
    for (var slot = row * SLOTS; slot < (row + 1u) * SLOTS; slot++) {
        sum += weights[slot] * made[slot * (N / 4u) + i];
    }
    out[row * (N / 4u) + i] += sum;
}
