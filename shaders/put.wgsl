// Where the sums of lanes (quad, split) go. Follows splits.wgsl; outputs.wgsl.

fn put(row: u32, workgroup: u32, lane: u32, sum: vec4<f32>) {
    add_splits(lane, sum);
    // An output each.
    let of_part = lane * FOLD;
    if of_part < QUADS * 4u {
        let sums = partial[of_part / 4u];
        put_output(row, workgroup * QUADS * 4u + of_part, sums[of_part % 4u], sums[of_part % 4u + FOLD - 1u]);
    }
    workgroupBarrier();
}
