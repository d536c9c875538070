// out[t, n] (+)= Σ_k x[t, k] · W[n, k] for up to 16 rows t: for devices of few lanes, whose compilers unroll no loop.
//
// One lane owns Q quads, 4·Q rows of W, and loops over all of k. Sums, and the weights that all rows of x share, lie in one
// array that is indexed by constants alone: loops over rows and quads are written out. Such an array is memory that costs an
// instruction to read. Variables would cost more: a compiler that has few registers gives them to what lives longest, and spills
// all between. A lane loads one of four columns of x, and quad operations hand it to the others.
//
// Expects: K, N (rows of this shard), FIRST (where they stand in out), STRIDE (of out), T (at most 16), Q (at most 4), ADD,
// GROUP, GROUPS, WG; a format. Grid: (lanes / WG, rows of x / T).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> x: array<f32>;           // [rows of x, K]
@group(0) @binding(2) var<storage, read_write> out: array<f32>;   // [rows of x, STRIDE]

// No more of them are written out.
const_assert T <= 16u && Q <= 4u;

// Lanes behind the last quad of the last tile take that one.
const LAST_QUAD: u32 = (N + 63u) / 64u * 16u - 1u;

// Sums [T, Q], then eight columns of weights [Q, 8]; for one row of x, sums of a group [Q].
const WEIGHTS: u32 = T * Q;
var<private> kept: array<vec4<f32>, WEIGHTS + Q * 8u>;

var<private> groups: array<Group, Q>;

// All bits of number i in lane i of four, else none.
var<private> own: array<u32, 4>;

// What lane `own` is all bits of has, in all four.
fn from_lane(bits: u32, own: u32) -> f32 {
    let alone = bits & own;
    let two = alone | quadSwapX(alone);
    return bitcast<f32>(two | quadSwapY(two));
}

// The four lanes' numbers, in lane order, in all of them.
fn four(mine: f32) -> vec4<f32> {
    let bits = bitcast<u32>(mine);
    return vec4<f32>(from_lane(bits, own[0]), from_lane(bits, own[1]), from_lane(bits, own[2]), from_lane(bits, own[3]));
}

// One row of W after the other, so that what is between a sum and the next is soon done with.
fn dot_codes(q: u32, quad: u32, block: u32, a: vec4<f32>, b: vec4<f32>) {
    let place = min(quad + q, LAST_QUAD);
    var words = load_words(place >> 4u, quad_of(place & 15u), block);
    dot_codes_of(q, &words, 0u, a, b);
    dot_codes_of(q, &words, 1u, a, b);
    dot_codes_of(q, &words, 2u, a, b);
    dot_codes_of(q, &words, 3u, a, b);
}

fn dot_codes_of(q: u32, words: ptr<function, Words>, j: u32, a: vec4<f32>, b: vec4<f32>) {
    kept[WEIGHTS + q][j] = kept[WEIGHTS + q][j]
        + one_code(words, j, 0u) * a.x + one_code(words, j, 1u) * a.y
        + one_code(words, j, 2u) * a.z + one_code(words, j, 3u) * a.w
        + one_code(words, j, 4u) * b.x + one_code(words, j, 5u) * b.y
        + one_code(words, j, 6u) * b.z + one_code(words, j, 7u) * b.w;
}

fn finish_codes(q: u32, quad: u32, g: u32, total: f32) {
    let place = min(quad + q, LAST_QUAD);
    kept[q] = kept[q] + finish(kept[WEIGHTS + q], total, load_group(place >> 4u, quad_of(place & 15u), g));
    kept[WEIGHTS + q] = vec4<f32>();
}

// For one row of x: by codes, each of which serves once.
fn add_codes(quad: u32, at: u32) {
    for (var g = 0u; g < GROUPS; g++) {
        var total: f32;
        let end = min((g + 1u) * GROUP, K) / 8u;
        for (var block = g * GROUP / 8u; block < end; block++) {
            let first = x[at + block * 8u];
            let second = x[at + block * 8u + 4u];
            total += first + second;
            let a = four(first) * ALIGN_A;
            let b = four(second) * ALIGN_B;
            dot_codes(0u, quad, block, a, b);
            if Q > 1u { dot_codes(1u, quad, block, a, b); }
            if Q > 2u { dot_codes(2u, quad, block, a, b); }
            if Q > 3u { dot_codes(3u, quad, block, a, b); }
        }
        let two = total + quadSwapX(total);
        let all = two + quadSwapY(two);
        finish_codes(0u, quad, g, all);
        if Q > 1u { finish_codes(1u, quad, g, all); }
        if Q > 2u { finish_codes(2u, quad, g, all); }
        if Q > 3u { finish_codes(3u, quad, g, all); }
    }
}

fn keep_weights(q: u32, quad: u32, block: u32) {
    let place = min(quad + q, LAST_QUAD);
    let w = load_block(place >> 4u, quad_of(place & 15u), block, groups[q]);
    let i = WEIGHTS + q * 8u;
    kept[i] = w[0];
    kept[i + 1u] = w[1];
    kept[i + 2u] = w[2];
    kept[i + 3u] = w[3];
    kept[i + 4u] = w[4];
    kept[i + 5u] = w[5];
    kept[i + 6u] = w[6];
    kept[i + 7u] = w[7];
}

// One row of W after the other, so that what is between a sum and the next is soon done with.
fn dot_weights(t: u32, q: u32, a: vec4<f32>, b: vec4<f32>) {
    dot_weights_of(t * Q + q, WEIGHTS + q * 8u, 0u, a, b);
    dot_weights_of(t * Q + q, WEIGHTS + q * 8u, 1u, a, b);
    dot_weights_of(t * Q + q, WEIGHTS + q * 8u, 2u, a, b);
    dot_weights_of(t * Q + q, WEIGHTS + q * 8u, 3u, a, b);
}

fn dot_weights_of(s: u32, i: u32, j: u32, a: vec4<f32>, b: vec4<f32>) {
    kept[s][j] = kept[s][j]
        + a.x * kept[i][j] + a.y * kept[i + 1u][j] + a.z * kept[i + 2u][j] + a.w * kept[i + 3u][j]
        + b.x * kept[i + 4u][j] + b.y * kept[i + 5u][j] + b.z * kept[i + 6u][j] + b.w * kept[i + 7u][j];
}

fn add_row(t: u32, at: u32) {
    if t < T {
        let a = four(x[at + t * K]);
        let b = four(x[at + t * K + 4u]);
        dot_weights(t, 0u, a, b);
        if Q > 1u { dot_weights(t, 1u, a, b); }
        if Q > 2u { dot_weights(t, 2u, a, b); }
        if Q > 3u { dot_weights(t, 3u, a, b); }
    }
}

// For several rows of x: by weights, each of which serves all of them.
fn add_weights(quad: u32, at: u32) {
    for (var g = 0u; g < GROUPS; g++) {
        for (var q = 0u; q < Q; q++) {
            let place = min(quad + q, LAST_QUAD);
            groups[q] = load_group(place >> 4u, quad_of(place & 15u), g);
        }
        let end = min((g + 1u) * GROUP, K) / 8u;
        for (var block = g * GROUP / 8u; block < end; block++) {
            keep_weights(0u, quad, block);
            if Q > 1u { keep_weights(1u, quad, block); }
            if Q > 2u { keep_weights(2u, quad, block); }
            if Q > 3u { keep_weights(3u, quad, block); }
            let i = at + block * 8u;
            add_row(0u, i);
            add_row(1u, i);
            add_row(2u, i);
            add_row(3u, i);
            add_row(4u, i);
            add_row(5u, i);
            add_row(6u, i);
            add_row(7u, i);
            add_row(8u, i);
            add_row(9u, i);
            add_row(10u, i);
            add_row(11u, i);
            add_row(12u, i);
            add_row(13u, i);
            add_row(14u, i);
            add_row(15u, i);
        }
    }
}

@compute @workgroup_size(WG)
fn main(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let first = workgroup.y * T;
    // Skipped if none of the rows is in use.
    var used = 0u;
    while used < T && rows[first + used].sequence == NONE {
        used += 1u;
    }
    if used == T {
        return;
    }
    let column = lane & 3u;
    for (var i = 0u; i < 4u; i++) {
        own[i] = select(0u, 0xffffffffu, i == column);
    }
    let quad = id.x * Q;
    let at = first * K + column;
    if T == 1u {
        add_codes(quad, at);
    } else {
        add_weights(quad, at);
    }
    // Lanes behind the last row of W went on, since others wanted what they loaded.
    for (var i = 0u; i < T * Q; i++) {
        for (var j = 0u; j < 4u; j++) {
            let row = (quad + i % Q) * 4u + j;
            if row < N {
                let o = (first + i / Q) * STRIDE + FIRST + row;
                out[o] = select(kept[i][j], out[o] + kept[i][j], ADD);
            }
        }
    }
}
