// out[t, n] (+)= Σ_k x[t, k] · W[n, k] for many rows of x: for devices of few lanes, whose compilers unroll no loop.
//
// Four lanes have 32 rows of x, eight each, and go over rows of W one after the other, by chunks of columns. x of a chunk lies in
// an array that is read by constant indices alone: such an array is memory that costs an instruction to read. By other indices
// it is written, once a chunk and workgroup, and eight sums a row of W are loaded and stored once a chunk: some 75 instructions a
// number each. Each lane loads and unpacks other columns of W, and they are swapped: in turn s a lane multiplies with what lane
// `lane ^ s` has, and x lies in that order. Sums of a chunk stay in registers, since little else lives as long: weights are put
// into the array before the first is used, and x is read by twos.
//
// Expects: K, N (rows of this shard), FIRST (where they stand in out), STRIDE (of out), T (32), Q (quads of rows of W), BLOCKS (of
// eight columns that a lane loads of a chunk, at most 4), ADD, GROUP, GROUPS; outputs.wgsl; a format.
// Grid: (quads / Q, rows of x / T), both rounded up, of four lanes each.

@group(0) @binding(0) var<storage, read> rows: array<Row>;         // [rows of x]
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;     // [rows of x, K / 4]
@group(0) @binding(2) var<storage, read_write> out: array<f32>;   // [rows of x, STRIDE]

// What is written out.
const_assert BLOCKS <= 4u;
const_assert T == 32u;

const CHUNK: u32 = 32u * BLOCKS;

const QUADS: u32 = (N + 3u) / 4u;

// A number for each of a lane's rows of x, which are 4·i + lane. By twos, which is what registers hold beside eight sums; as a
// whole, so that compilers work out once where one is.
struct Eight { a: vec2<f32>, b: vec2<f32>, c: vec2<f32>, d: vec2<f32> }

// x [BLOCKS, 8 columns, 4 turns] of a chunk, then weights [BLOCKS], eight columns of a row of W each.
var<private> kept: array<Eight, CHUNK + BLOCKS>;

// [Q, 4 rows of W]. In the function's own memory: with `kept` they would be more than WGSL lets a kernel have for all.
alias Sums = array<Eight, Q * 4u>;

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
        let block = start + (lane ^ turn) * BLOCKS + (i >> 3u);
        let a = columns(min(first + lane, last), block, half);
        let b = columns(min(first + lane + 4u, last), block, half);
        let c = columns(min(first + lane + 8u, last), block, half);
        let d = columns(min(first + lane + 12u, last), block, half);
        let e = columns(min(first + lane + 16u, last), block, half);
        let f = columns(min(first + lane + 20u, last), block, half);
        let g = columns(min(first + lane + 24u, last), block, half);
        let h = columns(min(first + lane + 28u, last), block, half);
        let at = (i >> 3u) * 32u + half * 16u + turn;
        kept[at] = Eight(vec2(a.x, b.x), vec2(c.x, d.x), vec2(e.x, f.x), vec2(g.x, h.x));
        kept[at + 4u] = Eight(vec2(a.y, b.y), vec2(c.y, d.y), vec2(e.y, f.y), vec2(g.y, h.y));
        kept[at + 8u] = Eight(vec2(a.z, b.z), vec2(c.z, d.z), vec2(e.z, f.z), vec2(g.z, h.z));
        kept[at + 12u] = Eight(vec2(a.w, b.w), vec2(c.w, d.w), vec2(e.w, f.w), vec2(g.w, h.w));
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
    let of_a = finish(a * ALIGN_A, 1.0, group);
    let of_b = finish(b * ALIGN_B, 1.0, group);
    kept[CHUNK + h] = Eight(of_a.xy, of_a.zw, of_b.xy, of_b.zw);
}

// Two products, of numbers that are loaded before either is used: else compilers take each for an operand in memory, whose
// product needs a copy of the other one.
fn two(x0: f32, x1: f32, w0: f32, w1: f32) -> f32 {
    return x0 * w0 + x1 * w1;
}

// One column of all four lanes. Every lane adds up the same two pairs, so that what a row of x makes does not depend on its lane.
fn add_column(own: f32, i: u32, s: Eight) -> Eight {
    let x = quadSwapX(own);
    let y = quadSwapY(own);
    let z = quadSwapDiagonal(own);
    let a0 = s.a.x + (two(kept[i].a.x, kept[i + 1u].a.x, own, x) + two(kept[i + 2u].a.x, kept[i + 3u].a.x, y, z));
    let a1 = s.a.y + (two(kept[i].a.y, kept[i + 1u].a.y, own, x) + two(kept[i + 2u].a.y, kept[i + 3u].a.y, y, z));
    let b0 = s.b.x + (two(kept[i].b.x, kept[i + 1u].b.x, own, x) + two(kept[i + 2u].b.x, kept[i + 3u].b.x, y, z));
    let b1 = s.b.y + (two(kept[i].b.y, kept[i + 1u].b.y, own, x) + two(kept[i + 2u].b.y, kept[i + 3u].b.y, y, z));
    let c0 = s.c.x + (two(kept[i].c.x, kept[i + 1u].c.x, own, x) + two(kept[i + 2u].c.x, kept[i + 3u].c.x, y, z));
    let c1 = s.c.y + (two(kept[i].c.y, kept[i + 1u].c.y, own, x) + two(kept[i + 2u].c.y, kept[i + 3u].c.y, y, z));
    let d0 = s.d.x + (two(kept[i].d.x, kept[i + 1u].d.x, own, x) + two(kept[i + 2u].d.x, kept[i + 3u].d.x, y, z));
    let d1 = s.d.y + (two(kept[i].d.y, kept[i + 1u].d.y, own, x) + two(kept[i + 2u].d.y, kept[i + 3u].d.y, y, z));
    return Eight(vec2(a0, a1), vec2(b0, b1), vec2(c0, c1), vec2(d0, d1));
}

// Block h of all four lanes.
fn add_block(h: u32, s: Eight) -> Eight {
    if h >= BLOCKS {
        return s;
    }
    let w = CHUNK + h;
    let i = h * 32u;
    let s0 = add_column(kept[w].a.x, i, s);
    let s1 = add_column(kept[w].a.y, i + 4u, s0);
    let s2 = add_column(kept[w].b.x, i + 8u, s1);
    let s3 = add_column(kept[w].b.y, i + 12u, s2);
    let s4 = add_column(kept[w].c.x, i + 16u, s3);
    let s5 = add_column(kept[w].c.y, i + 20u, s4);
    let s6 = add_column(kept[w].d.x, i + 24u, s5);
    return add_column(kept[w].d.y, i + 28u, s6);
}

// Whether a lane's blocks of a chunk are of one group.
const ONE_GROUP: bool = GROUP % (8u * BLOCKS) == 0u;

// Constants of an array of BLOCKS, where there may be less.
const B1: u32 = 1u % BLOCKS;
const B2: u32 = 2u % BLOCKS;
const B3: u32 = 3u % BLOCKS;

// Adds to sums of quad q of the workgroup what a chunk makes of them, of which `first` is the lane's first block.
fn add_quad(sums: ptr<function, Sums>, quad: u32, q: u32, first: u32) {
    let tile = quad >> 4u;
    let place = quad & 15u;
    var words: array<Words, BLOCKS>;
    var groups: array<Group, BLOCKS>;
    words[0] = words_at(tile, place, first);
    if BLOCKS > 1u { words[B1] = words_at(tile, place, first + 1u); }
    if BLOCKS > 2u { words[B2] = words_at(tile, place, first + 2u); }
    if BLOCKS > 3u { words[B3] = words_at(tile, place, first + 3u); }
    groups[0] = group_at(tile, place, first);
    if !ONE_GROUP {
        if BLOCKS > 1u { groups[B1] = group_at(tile, place, first + 1u); }
        if BLOCKS > 2u { groups[B2] = group_at(tile, place, first + 2u); }
        if BLOCKS > 3u { groups[B3] = group_at(tile, place, first + 3u); }
    }
    var j = 0u;
    loop {
        let row = select(vec4<u32>(), vec4<u32>(0xffffffffu), vec4<u32>(j) == vec4<u32>(0u, 1u, 2u, 3u));
        let group = group_of_row(groups[0], row);
        keep_weights(0u, words_of_row(words[0], row), group);
        if ONE_GROUP {
            if BLOCKS > 1u { keep_weights(B1, words_of_row(words[B1], row), group); }
            if BLOCKS > 2u { keep_weights(B2, words_of_row(words[B2], row), group); }
            if BLOCKS > 3u { keep_weights(B3, words_of_row(words[B3], row), group); }
        } else {
            if BLOCKS > 1u { keep_weights(B1, words_of_row(words[B1], row), group_of_row(groups[B1], row)); }
            if BLOCKS > 2u { keep_weights(B2, words_of_row(words[B2], row), group_of_row(groups[B2], row)); }
            if BLOCKS > 3u { keep_weights(B3, words_of_row(words[B3], row), group_of_row(groups[B3], row)); }
        }
        let all = add_block(3u, add_block(2u, add_block(1u, add_block(0u, Eight()))));
        let had = (*sums)[q * 4u + j];
        (*sums)[q * 4u + j] = Eight(had.a + all.a, had.b + all.b, had.c + all.c, had.d + all.d);
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
    var sums: Sums;
    var start = 0u;
    loop {
        keep_x(first, lane, start);
        var q = 0u;
        loop {
            add_quad(&sums, quad + q, q, start + lane * BLOCKS);
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
        let i = q * 4u;
        put_two(first + lane, end, quad + q, sums[i].a, sums[i + 1u].a, sums[i + 2u].a, sums[i + 3u].a);
    }
    for (var q = 0u; q < quads; q++) {
        let i = q * 4u;
        put_two(first + lane + 8u, end, quad + q, sums[i].b, sums[i + 1u].b, sums[i + 2u].b, sums[i + 3u].b);
    }
    for (var q = 0u; q < quads; q++) {
        let i = q * 4u;
        put_two(first + lane + 16u, end, quad + q, sums[i].c, sums[i + 1u].c, sums[i + 2u].c, sums[i + 3u].c);
    }
    for (var q = 0u; q < quads; q++) {
        let i = q * 4u;
        put_two(first + lane + 24u, end, quad + q, sums[i].d, sums[i + 1u].d, sums[i + 2u].d, sums[i + 3u].d);
    }
}
