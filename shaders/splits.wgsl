// How lanes (quad, split) of a workgroup share out a part of a tile, and put together what they have of its rows of W.
// Expects: QUADS (of a workgroup, divides 16), EACH (of them of a lane: 1 or 2), SPLITS (of a quad: a power of two, 4 or more),
// WG = QUADS / EACH · SPLITS, BESIDE (whether there is one number more to add up).

// Quads side by side in lanes; a lane's next one is so many further.
const ABREAST: u32 = QUADS / EACH;

struct Part {
    tile: u32,
    quad: u32,  // of the tile, 0..15: the first of the lane
    split: u32,
}

// A workgroup's part of W, and a lane's of that.
fn part_of(workgroup: u32, lane: u32) -> Part {
    let first = workgroup * QUADS;
    return Part(first / 16u, first % 16u + lane % ABREAST, lane / ABREAST);
}

var<workgroup> partial: array<vec4<f32>, WG>;
var<workgroup> beside: array<f32, select(1u, WG, BESIDE)>;

// Lanes whose sums one lane adds up at a time: waiting for all others costs more than some additions.
const FOLDED: u32 = 8u;

// Adds up over the splits of each of the quads abreast: `partial[q]` is the sum of quad q, and `beside[q]` that of what is beside.
fn add_splits(lane: u32, sum: vec4<f32>, own: f32) {
    partial[lane] = sum;
    if BESIDE {
        beside[lane] = own;
    }
    workgroupBarrier();
    for (var lanes = WG; lanes > ABREAST; lanes = max(lanes / FOLDED, ABREAST)) {
        let left = max(lanes / FOLDED, ABREAST);
        if lane < left {
            var folded = partial[lane];
            for (var other = lane + left; other < lanes; other += left) {
                folded += partial[other];
            }
            partial[lane] = folded;
            if BESIDE {
                var more = beside[lane];
                for (var other = lane + left; other < lanes; other += left) {
                    more += beside[other];
                }
                beside[lane] = more;
            }
        }
        workgroupBarrier();
    }
}
