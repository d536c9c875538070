// The blocks of columns that a lane has of W. Several are loaded before the first is used: what a lane waits for is memory, and it
// should do so as few times as possible.
//
// Follows splits.wgsl; a format. Expects: K, SPLITS, GROUP, SHARED_BY (rows of x that share a block: with several, lanes have
// something to do while they wait); add_run(base, block, words, group), which adds what RUN blocks of a group make, of x from
// vector `base` on.

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

// Σ code · x of four rows of W and eight columns of one row of x: a weight that serves but once is not worth unpacking.
fn times_codes(words: Words, x0: vec4<f32>, x1: vec4<f32>) -> vec4<f32> {
    let a = x0 * ALIGN_A;
    let b = x1 * ALIGN_B;
    let c = codes_of(words);
    return c[0] * a.x + c[1] * a.y + c[2] * a.z + c[3] * a.w
        + c[4] * b.x + c[5] * b.y + c[6] * b.z + c[7] * b.w;
}

// Σ w · x of that, and of the sum of x in four parts.
fn finish_codes(dots: vec4<f32>, total: vec4<f32>, group: Group) -> vec4<f32> {
    return finish(dots, (total.x + total.y) + (total.z + total.w), group);
}

fn load_run(tile: u32, quad: u32, block: u32) -> Run {
    var words: Run;
    for (var i = 0u; i < RUN; i++) {
        words[i] = load_words(tile, quad, block + i);
    }
    return words;
}

fn add_blocks(base: u32, part: Part) {
    const WHOLE: u32 = FULL / BATCH * BATCH;
    let quad = part.quad;
    for (var turn = 0u; turn < WHOLE; turn += BATCH) {
        var words: array<Run, BATCH>;
        var scales: array<Scales, BATCH>;
        for (var i = 0u; i < BATCH; i++) {
            let block = ((turn + i) * SPLITS + part.split) * RUN;
            words[i] = load_run(part.tile, quad, block);
            scales[i] = load_scales(part.tile, quad, block * 8u / GROUP);
        }
        for (var i = 0u; i < BATCH; i++) {
            add_run(base, ((turn + i) * SPLITS + part.split) * RUN, words[i], group_of(scales[i]));
        }
    }
    for (var turn = WHOLE; turn < TURNS; turn++) {
        let block = (turn * SPLITS + part.split) * RUN;
        if turn < FULL || block < K / 8u {
            let words = load_run(part.tile, quad, block);
            add_run(base, block, words, load_group(part.tile, quad, block * 8u / GROUP));
        }
    }
}
