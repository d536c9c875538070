// Where the sums of lanes (quad, split) go: an output each. Follows splits.wgsl; outputs.wgsl.

// The quad, of those abreast, that a lane's output is of; of lanes that have none the last.
fn quad_of_output(lane: u32) -> u32 {
    return min(lane * FOLD / 4u, ABREAST - 1u);
}

// Whether a lane has one, of the quads from `quad` on.
fn has_output(quad: u32, lane: u32) -> bool {
    return lane * FOLD < ABREAST * 4u && quad * 4u + lane * FOLD < N;
}

// What is where outputs of a lane are added, so that it can be asked for long before.
fn what_is_there(row: u32, quad: u32, lane: u32) -> array<f32, EACH> {
    var found: array<f32, EACH>;
    for (var e = 0u; e < EACH && ADD; e++) {
        if has_output(quad + e * ABREAST, lane) {
            found[e] = out[place_of_output(row, (quad + e * ABREAST) * 4u + lane * FOLD)];
        }
    }
    return found;
}

// Of the sums of that quad, and what was there before.
fn put(row: u32, quad: u32, lane: u32, sums: vec4<f32>, before: f32) {
    if has_output(quad, lane) {
        let j = lane * FOLD % 4u;
        let made = output_of(sums[j], sums[j + FOLD - 1u]);
        out[place_of_output(row, quad * 4u + lane * FOLD)] = select(made, before + made, ADD);
    }
    workgroupBarrier();
}
