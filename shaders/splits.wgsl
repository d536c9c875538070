// Puts together what lanes (quad, split) of a workgroup have of a tile's rows of W. Expects: N, FIRST, STRIDE, ADD, SPLITS,
// WG = 16 · SPLITS; `out` [rows, STRIDE].

var<workgroup> partial: array<vec4<f32>, WG>;

fn put(row: u32, tile: u32, lane: u32, sum: vec4<f32>) {
    partial[lane] = sum;
    workgroupBarrier();
    // 64 lanes, one row of W each.
    if lane < 64u {
        var total = 0.0;
        for (var split = 0u; split < SPLITS; split++) {
            total += partial[split * 16u + lane / 4u][lane % 4u];
        }
        let n = tile * 64u + lane;
        if n < N {
            let i = row * STRIDE + FIRST + n;
            out[i] = select(total, out[i] + total, ADD);
        }
    }
    workgroupBarrier();
}
