// RMS norm (arXiv:1910.07467) of parts of a row, in place: of each head of the queries and the keys (arXiv:2302.05442),
// or of all of them together. part[r, p] = part[r, p] / sqrt(mean(part[r, p]²) + EPS) · weight. The first COUNT parts share
// one weight, those behind them another. Where ONE_PLUS, they are stored as what they differ from 1.
// Expects: K (numbers of a part), FIRST (where the first part starts in a row), COUNT, STRIDE (numbers of a row), EPS,
// ONE_PLUS, WG. Grid: (parts, rows).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;  // [K]
@group(0) @binding(2) var<storage, read> other: array<vec4<f32>>;   // [K], of the parts from COUNT on
@group(0) @binding(3) var<storage, read_write> x: array<vec4<f32>>; // [rows, STRIDE]

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, t: Thread) {
    if rows[workgroup.y].sequence == NONE {
        return;
    }
    let base = (workgroup.y * STRIDE + FIRST + workgroup.x * K) / 4u;
    var squares = 0.0;
    for (var i = t.lane; i < K / 4u; i += WG) {
        let v = x[base + i];
        squares += dot(v, v);
    }
    let scale = inverseSqrt(workgroup_sum(t, squares) / f32(K) + EPS);
    for (var i = t.lane; i < K / 4u; i += WG) {
        var w: vec4<f32>;
        if workgroup.x < COUNT {
            w = weight[i];
        } else {
            w = other[i];
        }
        if ONE_PLUS {
            w += 1.0;
        }
        x[base + i] *= scale * w;
    }
}
