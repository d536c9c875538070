// The blocks of columns that a lane has of W. Several are loaded before the first is used: what a lane waits for is memory, and it
// should do so as few times as possible.
//
// Follows splits.wgsl; a format. Expects: K, SPLITS, GROUP, SHARED_BY (rows of x that share a block: with several, lanes have
// something to do while they wait); add_run(base, block, words, groups), which adds what RUN blocks of a group make, of each quad
// of the lane and x from vector `base` on.

const MOST: u32 = max(IN_FLIGHT / SHARED_BY, 1u);

// Neighbouring blocks of a group that a lane takes one after the other, so that what they share is loaded and unpacked once:
// four or two, if with so many at a time all lanes have the same number of them.
const BY_TWO: bool = MOST >= 2u && GROUP % 16u == 0u && K % (16u * SPLITS) == 0u;
const BY_FOUR: bool = MOST >= 4u && GROUP % 32u == 0u && K % (32u * SPLITS) == 0u;
const RUN: u32 = select(select(1u, 2u, BY_TWO), 4u, BY_FOUR);

// Runs of each lane: those that every lane has, and all.
const FULL: u32 = K / (8u * RUN) / SPLITS;
const TURNS: u32 = (K / (8u * RUN) + SPLITS - 1u) / SPLITS;

const BATCH: u32 = max(min(FULL, MOST / RUN), 1u);

alias Run = array<Words, RUN>;

// What there is of each quad of a lane.
alias Runs = array<Run, EACH>;
alias Shared = array<Scales, EACH>;
alias Groups = array<Group, EACH>;

// Adds Σ code · x of four rows of W and eight columns of one row of x, which is aligned: a weight that serves but once is not worth
// unpacking. From left to right, one fused product after the other.
fn add_codes(sum: vec4<f32>, words: Words, a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
    let c = codes_of(words);
    return sum + c[0] * a.x + c[1] * a.y + c[2] * a.z + c[3] * a.w
        + c[4] * b.x + c[5] * b.y + c[6] * b.z + c[7] * b.w;
}

// Σ w · x of that, and of the sum of x in four parts.
fn finish_codes(dots: vec4<f32>, total: vec4<f32>, group: Group) -> vec4<f32> {
    return finish(dots, (total.x + total.y) + (total.z + total.w), group);
}

fn load_runs(part: Part, block: u32) -> Runs {
    var words: Runs;
    for (var e = 0u; e < EACH; e++) {
        for (var i = 0u; i < RUN; i++) {
            words[e][i] = load_words(part.tile, part.quad + e * ABREAST, block + i);
        }
    }
    return words;
}

fn load_shared(part: Part, block: u32) -> Shared {
    var scales: Shared;
    for (var e = 0u; e < EACH; e++) {
        scales[e] = load_scales(part.tile, part.quad + e * ABREAST, block * 8u / GROUP);
    }
    return scales;
}

fn groups_of(scales: Shared) -> Groups {
    var groups: Groups;
    for (var e = 0u; e < EACH; e++) {
        groups[e] = group_of(scales[e]);
    }
    return groups;
}

fn add_blocks(base: u32, part: Part) {
    const WHOLE: u32 = FULL / BATCH * BATCH;
    for (var turn = 0u; turn < WHOLE; turn += BATCH) {
        var words: array<Runs, BATCH>;
        var scales: array<Shared, BATCH>;
        for (var i = 0u; i < BATCH; i++) {
            let block = ((turn + i) * SPLITS + part.split) * RUN;
            words[i] = load_runs(part, block);
            scales[i] = load_shared(part, block);
        }
        for (var i = 0u; i < BATCH; i++) {
            add_run(base, ((turn + i) * SPLITS + part.split) * RUN, words[i], groups_of(scales[i]));
        }
    }
    for (var turn = WHOLE; turn < TURNS; turn++) {
        let block = (turn * SPLITS + part.split) * RUN;
        if turn < FULL || block < K / 8u {
            let words = load_runs(part, block);
            add_run(base, block, words, groups_of(load_shared(part, block)));
        }
    }
}
