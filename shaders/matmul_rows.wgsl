// out[t, n] (+)= Σ_k x[t, k] · W[n, k] for many rows of x: for devices of few lanes, whose compilers unroll no loop.
//
// Four lanes have T rows of x, T / 4 each, and go over rows of W one after the other, by chunks of columns. x of a chunk lies in
// an array that is read by constant indices alone: such an array is memory that costs an instruction to read. By other indices
// it is written, once a chunk and workgroup, and a lane's sums of a row of W are loaded and stored once a chunk: some 75
// instructions a number each. So the longer the chunk, the better, though its code leaves the processor's cache. Each lane loads
// and unpacks other columns of W, and they are swapped: in turn s a lane multiplies with what lane `lane ^ s` has, and x lies in
// that order. Sums of a chunk stay in registers, since little else lives as long: weights are put into an array before the first
// is used, and x is read by twos.
//
// Follows rows/, which says what a lane has: `Mine`, a number for each of its rows of x, which are 4·i + lane, and what is done with
// them. They lie by twos, which is what registers hold beside sums, in one structure, so that compilers work out once where it is.
// Every lane adds up the same two pairs of a column (`add_column`), so that what a row of x makes does not depend on its lane.
//
// Expects: K, N (rows of this shard), FIRST (where they stand in out), STRIDE (of out), T, Q (quads of rows of W), BLOCKS (of eight
// columns that a lane loads of a chunk, at most 6), ADD, GROUP, GROUPS; outputs.wgsl; a format.
// Grid: (quads / Q, rows of x / T), both rounded up, of four lanes each.

@group(0) @binding(0) var<storage, read> rows: array<Row>;         // [rows of x]
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;     // [rows of x, K / 4]
@group(0) @binding(2) var<storage, read_write> out: array<f32>;   // [rows of x, STRIDE]

// What is written out.
const_assert BLOCKS <= 6u;

const CHUNK: u32 = 32u * BLOCKS;

const QUADS: u32 = (N + 3u) / 4u;

// Blocks of a chunk: of each lane first as many fours as go, one lane's beside the other's, and then what is left, likewise. So
// each of these but three is of one group, where groups are 32 columns or more times as many.
const FOURS: u32 = BLOCKS / 4u;
const LEFT: u32 = BLOCKS % 4u;
const ONE_GROUP: bool = GROUP % 32u == 0u && LEFT != 3u;

// Block h of a lane in a chunk.
fn block_of(lane: u32, h: u32) -> u32 {
    if h < FOURS * 4u {
        return (h / 4u) * 16u + lane * 4u + h % 4u;
    }
    return FOURS * 16u + lane * LEFT + (h - FOURS * 4u);
}

// x [BLOCKS, 8 columns, 4 turns] of a chunk, then weights of a row of W, eight columns of each of a lane's blocks. In an array of
// their own, which constants alone index, compilers would make variables of these.
var<private> kept: array<Mine, CHUNK + BLOCKS * 32u / T>;

// [Q, 4 rows of W, 4 lanes]. In the workgroup's memory, though each lane has its own: what is a lane's alone is set to nothing
// first, number by number, which was half of the code.
var<workgroup> sums: array<Mine, Q * 16u>;

// Where a lane's sums of a quad begin. As a variable of the shader it was faster by a twentieth than as the loop's own; why is not
// known.
var<private> own_sums: u32;

// Four columns of a row of x; behind the last column they are nothing.
fn columns(row: u32, block: u32, half: u32) -> vec4<f32> {
    if K % CHUNK != 0u && block >= K / 8u {
        return vec4<f32>();
    }
    return x[row * (K / 4u) + block * 2u + half];
}

// Keeps x of the chunk whose first block is `start`. Rows behind the last one are computed, but not put anywhere.
fn keep_x(first: u32, lane: u32, start: u32) {
    let last = arrayLength(&rows) - 1u;
    for (var i = 0u; i < BLOCKS * 8u; i++) {
        // Blocks, turns and halves of a block.
        let half = i & 1u;
        let turn = (i >> 1u) & 3u;
        let block = start + block_of(lane ^ turn, i >> 3u);
        keep_columns((i >> 3u) * 32u + half * 16u + turn, first + lane, last, block, half);
    }
}

// Which group a block is in. By a float where that is exact, since some compilers divide lane by lane.
fn group_of_block(block: u32) -> u32 {
    if (GROUP & (GROUP - 1u)) == 0u {
        return u32(f32(i32(block)) * (8.0 / f32(GROUP)));
    }
    return block * 8u / GROUP;
}

// Words and group of a block. Behind the last column x is nothing, so weights need only be no NaN.
fn words_at(tile: u32, place: u32, block: u32) -> Words {
    var words = Words();
    if K % CHUNK == 0u || block < K / 8u {
        words = load_words(tile, place, block);
    }
    return words;
}

fn group_at(tile: u32, place: u32, block: u32) -> Group {
    var group = Group();
    if K % CHUNK == 0u || block < K / 8u {
        group = load_group(tile, place, group_of_block(block));
    }
    return group;
}

// Keeps weights of block h of a row of W, which all four rows of words and group are.
fn keep_weights(h: u32, words: Words, group: Group) {
    var w = words;
    let a = vec4<f32>(one_code(&w, 0u, 0u), one_code(&w, 0u, 1u), one_code(&w, 0u, 2u), one_code(&w, 0u, 3u));
    let b = vec4<f32>(one_code(&w, 0u, 4u), one_code(&w, 0u, 5u), one_code(&w, 0u, 6u), one_code(&w, 0u, 7u));
    let of_a = place(a * ALIGN_A, group);
    let of_b = place(b * ALIGN_B, group);
    keep_eight(h, of_a, of_b);
}

// Two products, of numbers that are loaded before either is used: else compilers take each for an operand in memory, whose
// product needs a copy of the other one.
fn two(x0: f32, x1: f32, w0: f32, w1: f32) -> f32 {
    return x0 * w0 + x1 * w1;
}

// Constants of an array of BLOCKS, where there may be less.
const B1: u32 = 1u % BLOCKS;
const B2: u32 = 2u % BLOCKS;
const B3: u32 = 3u % BLOCKS;
const B4: u32 = 4u % BLOCKS;
const B5: u32 = 5u % BLOCKS;

// Keeps weights of block h of a row of W, whose group is that of block g.
fn keep_row(
    h: u32, g: u32, words: ptr<function, array<Words, BLOCKS>>, groups: ptr<function, array<Group, BLOCKS>>, row: vec4<u32>,
) {
    keep_weights(h, words_of_row((*words)[h], row), group_of_row((*groups)[g], row));
}

// Adds to sums of quad q of the workgroup what a chunk makes of them, which begins with block `start`.
fn add_quad(quad: u32, q: u32, lane: u32, start: u32) {
    let tile = quad >> 4u;
    let place = quad & 15u;
    var words: array<Words, BLOCKS>;
    var groups: array<Group, BLOCKS>;
    words[0] = words_at(tile, place, start + block_of(lane, 0u));
    if BLOCKS > 1u { words[B1] = words_at(tile, place, start + block_of(lane, 1u)); }
    if BLOCKS > 2u { words[B2] = words_at(tile, place, start + block_of(lane, 2u)); }
    if BLOCKS > 3u { words[B3] = words_at(tile, place, start + block_of(lane, 3u)); }
    if BLOCKS > 4u { words[B4] = words_at(tile, place, start + block_of(lane, 4u)); }
    if BLOCKS > 5u { words[B5] = words_at(tile, place, start + block_of(lane, 5u)); }
    groups[0] = group_at(tile, place, start + block_of(lane, 0u));
    if BLOCKS > 1u && !ONE_GROUP { groups[B1] = group_at(tile, place, start + block_of(lane, 1u)); }
    if BLOCKS > 2u && !ONE_GROUP { groups[B2] = group_at(tile, place, start + block_of(lane, 2u)); }
    if BLOCKS > 3u && !ONE_GROUP { groups[B3] = group_at(tile, place, start + block_of(lane, 3u)); }
    if BLOCKS > 4u { groups[B4] = group_at(tile, place, start + block_of(lane, 4u)); }
    if BLOCKS > 5u && !ONE_GROUP { groups[B5] = group_at(tile, place, start + block_of(lane, 5u)); }
    own_sums = q * 16u + lane;
    var j = 0u;
    loop {
        // All bits of number j, made of how it differs from each.
        let other = bitcast<vec4<i32>>(vec4<u32>(j) ^ vec4<u32>(0u, 1u, 2u, 3u));
        let row = bitcast<vec4<u32>>(min(other, vec4<i32>(1)) - vec4<i32>(1));
        keep_row(0u, 0u, &words, &groups, row);
        if BLOCKS > 1u { keep_row(B1, select(B1, 0u, ONE_GROUP), &words, &groups, row); }
        if BLOCKS > 2u { keep_row(B2, select(B2, 0u, ONE_GROUP), &words, &groups, row); }
        if BLOCKS > 3u { keep_row(B3, select(B3, 0u, ONE_GROUP), &words, &groups, row); }
        if BLOCKS > 4u { keep_row(B4, B4, &words, &groups, row); }
        if BLOCKS > 5u { keep_row(B5, select(B5, B4, ONE_GROUP), &words, &groups, row); }
        let two = add_block(1u, add_block(0u, Mine()));
        let four = add_block(3u, add_block(2u, two));
        let all = add_block(5u, add_block(4u, four));
        let at = own_sums + j * 4u;
        sums[at] = sum_of(sums[at], all);
        j++;
        if j == 4u {
            break;
        }
    }
}

// Puts what a quad makes of rows `row` and `row + 4` of x, as far as they are before `end`.
fn put_two(row: u32, end: u32, quad: u32, a: vec2<f32>, b: vec2<f32>, c: vec2<f32>, d: vec2<f32>) {
    if row < end {
        put_quad(row, quad * 4u, vec4<f32>(a.x, b.x, c.x, d.x));
    }
    if row + 4u < end {
        put_quad(row + 4u, quad * 4u, vec4<f32>(a.y, b.y, c.y, d.y));
    }
}

@compute @workgroup_size(4)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(subgroup_invocation_id) id: u32) {
    let first = workgroup.y * T;
    // Rows behind the last one in use are skipped.
    var end = min(first + T, arrayLength(&rows));
    while end > first && rows[end - 1u].sequence == NONE {
        end -= 1u;
    }
    if end == first {
        return;
    }
    let lane = id & 3u;
    let quad = workgroup.x * Q;
    let quads = min(Q, QUADS - quad);
    for (var i = 0u; i < quads * 4u; i++) {
        sums[i * 4u + lane] = Mine();
    }
    var start = 0u;
    loop {
        keep_x(first, lane, start);
        var q = 0u;
        loop {
            add_quad(quad + q, q, lane, start);
            q++;
            if q == quads {
                break;
            }
        }
        start += CHUNK / 8u;
        if start >= K / 8u {
            break;
        }
    }
    // A few rows of x at a time, whose places in memory may be such that a cache holds but a few of them.
    for (var q = 0u; q < quads; q++) {
        let i = q * 16u + lane;
        put_two(first + lane, end, quad + q, sums[i].a, sums[i + 4u].a, sums[i + 8u].a, sums[i + 12u].a);
    }
    for (var q = 0u; q < quads; q++) {
        let i = q * 16u + lane;
        put_two(first + lane + 8u, end, quad + q, sums[i].b, sums[i + 4u].b, sums[i + 8u].b, sums[i + 12u].b);
    }
    put_more(lane, first + lane, end, quad, quads);
}
