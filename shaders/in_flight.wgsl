// The blocks of columns that a lane has of W. Several are loaded before the first is used: what a lane waits for is memory, and it
// should do so as few times as possible.
//
// Follows splits.wgsl; a format. Expects: K, SPLITS, GROUP, SHARED_BY (rows of x that share a block: with several, lanes have
// something to do while they wait); add_block(base, block, words, group), which adds what a block makes, of x
// from vector `base` on.

// Blocks of each lane: those that every lane has, and all.
const FULL: u32 = K / 8u / SPLITS;
const TURNS: u32 = (K / 8u + SPLITS - 1u) / SPLITS;

const BATCH: u32 = max(min(FULL, IN_FLIGHT / SHARED_BY), 1u);

// Four rows of W times eight columns of one row of x, by codes: a weight that serves but once is not worth unpacking.
fn times_one_row(words: Words, group: Group, x0: vec4<f32>, x1: vec4<f32>) -> vec4<f32> {
    let a = x0 * ALIGN_A;
    let b = x1 * ALIGN_B;
    let c = codes_of(words);
    let dots = c[0] * a.x + c[1] * a.y + c[2] * a.z + c[3] * a.w
        + c[4] * b.x + c[5] * b.y + c[6] * b.z + c[7] * b.w;
    let total = x0 + x1;
    return finish(dots, (total.x + total.y) + (total.z + total.w), group);
}

fn add_blocks(base: u32, part: Part) {
    const WHOLE: u32 = FULL / BATCH * BATCH;
    let quad = part.quad;
    for (var turn = 0u; turn < WHOLE; turn += BATCH) {
        var words: array<Words, BATCH>;
        var scales: array<Scales, BATCH>;
        for (var i = 0u; i < BATCH; i++) {
            let block = (turn + i) * SPLITS + part.split;
            words[i] = load_words(part.tile, quad, block);
            scales[i] = load_scales(part.tile, quad, block * 8u / GROUP);
        }
        for (var i = 0u; i < BATCH; i++) {
            add_block(base, (turn + i) * SPLITS + part.split, words[i], group_of(scales[i]));
        }
    }
    for (var turn = WHOLE; turn < TURNS; turn++) {
        let block = turn * SPLITS + part.split;
        if turn < FULL || block < K / 8u {
            let words = load_words(part.tile, quad, block);
            add_block(base, block, words, load_group(part.tile, quad, block * 8u / GROUP));
        }
    }
}
