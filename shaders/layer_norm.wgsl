// Layer norm (arXiv:1607.06450): out[r] = (x[r] − mean) / sqrt(variance + EPS) · weight + bias. The variance is summed
// after the mean is known: a difference of two sums would lose it where the mean is large.
// Expects: K (hidden size), EPS, WG. Grid: (1, rows).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;         // [rows, K]
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;    // [K]
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;      // [K]
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>; // [rows, K]

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, t: Thread) {
    if rows[workgroup.y].sequence == NONE {
        return;
    }
    let base = workgroup.y * (K / 4u);
    var sum = 0.0;
    for (var i = t.lane; i < K / 4u; i += WG) {
        sum += dot(x[base + i], vec4<f32>(1.0));
    }
    let mean = workgroup_sum(t, sum) / f32(K);
    var squares = 0.0;
    for (var i = t.lane; i < K / 4u; i += WG) {
        let v = x[base + i] - mean;
        squares += dot(v, v);
    }
    let scale = inverseSqrt(workgroup_sum(t, squares) / f32(K) + EPS);
    for (var i = t.lane; i < K / 4u; i += WG) {
        out[base + i] = (x[base + i] - mean) * scale * weight[i] + bias[i];
    }
}
