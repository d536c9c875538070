// Where the sums of lanes (quad, split) go: an output each. Follows splits.wgsl; outputs.wgsl.

// The quad, of the workgroup's, that a lane's output is of; of lanes that have none the last.
fn quad_of_output(lane: u32) -> u32 {
    return min(lane * FOLD / 4u, QUADS - 1u);
}

fn has_output(workgroup: u32, lane: u32) -> bool {
    return lane * FOLD < QUADS * 4u && workgroup * QUADS * 4u + lane * FOLD < N;
}

// What is where a lane's output is added, so that it can be asked for long before.
fn what_is_there(row: u32, workgroup: u32, lane: u32) -> f32 {
    if ADD && has_output(workgroup, lane) {
        return out[place_of_output(row, workgroup * QUADS * 4u + lane * FOLD)];
    }
    return 0.0;
}

// Of the sums of that quad, and what was there before.
fn put(row: u32, workgroup: u32, lane: u32, sums: vec4<f32>, before: f32) {
    if has_output(workgroup, lane) {
        let j = lane * FOLD % 4u;
        let made = output_of(sums[j], sums[j + FOLD - 1u]);
        out[place_of_output(row, workgroup * QUADS * 4u + lane * FOLD)] = select(made, before + made, ADD);
    }
    workgroupBarrier();
}
