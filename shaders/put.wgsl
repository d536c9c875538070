// Where the sums of lanes (quad, split) go. Expects: N, FIRST, STRIDE, ADD; splits.wgsl; outputs.wgsl; `out` [rows, STRIDE].

fn put(row: u32, workgroup: u32, lane: u32, sum: vec4<f32>) {
    add_splits(lane, sum);
    // An output each.
    let of_part = lane * FOLD;
    let n = workgroup * QUADS * 4u + of_part;
    if of_part < QUADS * 4u && n < N {
        let sums = partial[of_part / 4u];
        let made = output_of(sums[of_part % 4u], sums[of_part % 4u + FOLD - 1u]);
        let i = row * STRIDE + FIRST + n / FOLD;
        out[i] = select(made, out[i] + made, ADD);
    }
    workgroupBarrier();
}
