// RMS norm (arXiv:1910.07467): out[r] = x[r] / sqrt(mean(x[r]²) + EPS) · weight, added to what is there where ADD.
// Where ONE_PLUS, the weight is stored as what it differs from 1.
// Expects: K (hidden size), EPS, ONE_PLUS, ADD, WG. Grid: (1, rows).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;         // [rows, K]
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;    // [K]
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>; // [rows, K]

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, t: Thread) {
    if rows[workgroup.y].sequence == NONE {
        return;
    }
    let base = workgroup.y * (K / 4u);
    var squares = 0.0;
    for (var i = t.lane; i < K / 4u; i += WG) {
        let v = x[base + i];
        squares += dot(v, v);
    }
    let scale = inverseSqrt(workgroup_sum(t, squares) / f32(K) + EPS);
    for (var i = t.lane; i < K / 4u; i += WG) {
        var w = weight[i];
        if ONE_PLUS {
            w += 1.0;
        }
        var normed = x[base + i] * scale * w;
        if ADD {
            normed += out[base + i];
        }
        out[base + i] = normed;
    }
}
