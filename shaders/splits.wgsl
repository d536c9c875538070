// How lanes (quad, split) of a workgroup share out a part of a tile, and put together what they have of its rows of W.
// Expects: QUADS (of a workgroup, divides 16), SPLITS (of a quad: a power of two, 4 or more), WG = QUADS · SPLITS.

struct Part {
    tile: u32,
    quad: u32,  // of the tile, 0..15
    split: u32,
}

// A workgroup's part of W, and a lane's of that.
fn part_of(workgroup: u32, lane: u32) -> Part {
    let first = workgroup * QUADS;
    return Part(first / 16u, first % 16u + lane % QUADS, lane / QUADS);
}

var<workgroup> partial: array<vec4<f32>, WG>;

// Lanes whose sums one lane adds up at a time: waiting for all others costs more than some additions.
const FOLDED: u32 = 8u;

// Adds up over the splits of each quad: `partial[q]` is the sum of the workgroup's quad q.
fn add_splits(lane: u32, sum: vec4<f32>) {
    partial[lane] = sum;
    workgroupBarrier();
    for (var lanes = WG; lanes > QUADS; lanes = max(lanes / FOLDED, QUADS)) {
        let left = max(lanes / FOLDED, QUADS);
        if lane < left {
            var folded = partial[lane];
            for (var other = lane + left; other < lanes; other += left) {
                folded += partial[other];
            }
            partial[lane] = folded;
        }
        workgroupBarrier();
    }
}

// The sum of what the splits of a quad have, for numbers that are the same in all quads.
fn sum_of_splits(lane: u32, mine: f32) -> f32 {
    add_splits(lane, vec4<f32>(mine));
    let all = partial[0].x;
    workgroupBarrier();
    return all;
}
