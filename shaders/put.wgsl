// Where the sums of lanes (quad, split) go. Expects: N, FIRST, STRIDE, ADD; splits.wgsl; `out` [rows, STRIDE].

fn put(row: u32, workgroup: u32, lane: u32, sum: vec4<f32>) {
    add_splits(lane, sum);
    // A row of W each.
    let n = workgroup * QUADS * 4u + lane;
    if lane < QUADS * 4u && n < N {
        let total = partial[lane / 4u][lane % 4u];
        let i = row * STRIDE + FIRST + n;
        out[i] = select(total, out[i] + total, ADD);
    }
    workgroupBarrier();
}
