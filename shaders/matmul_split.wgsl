// out[t, n] (+)= Σ_k x[t, k] · W[n, k] for up to T rows t: for GPUs and few rows.
//
// A workgroup owns QUADS quads of a tile, 4 · QUADS rows of W. Lane = (quad, split): neighbouring lanes read neighbouring
// quads, and the SPLITS lanes of a quad share its columns, so that even a small matrix keeps many lanes busy. Where a lane has
// EACH = 2 quads, it loads and prepares x once for both.
// The partial sums meet in workgroup memory. For one row codes serve, not weights: see format/f16.wgsl.
// What does not depend on weights is asked for before them, so that nothing is waited for alone: at the memory's speed the whole
// product takes as long as a few such waits.
//
// Where NORM, T is 1, and x is normed on the way, by `norm`, the weight of the norm. See norm.wgsl.
//
// Expects: K, N (rows of this shard), FIRST (where they stand in out), STRIDE (of out), T, ADD, NORM, EPS, ONE_PLUS,
// GROUP, GROUPS, QUADS, EACH, SPLITS, WG; norm.wgsl; splits.wgsl; in_flight.wgsl; outputs.wgsl; put.wgsl; a format.
// Grid: (N / (4 · QUADS), rows / T).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;   // [rows, K]
@group(0) @binding(2) var<storage, read> norm: array<vec4<f32>>; // [K], or x again
@group(0) @binding(3) var<storage, read_write> out: array<f32>; // [rows, STRIDE]

var<private> sum: array<array<vec4<f32>, EACH>, T>;
var<private> squares: f32; // of x, where NORM

const SHARED_BY: u32 = T;
const BESIDE: bool = NORM;

// Adds a run of blocks of the one row of x.
fn add_one_row(base: u32, block: u32, words: Runs, groups: Groups) {
    var dots: array<vec4<f32>, EACH>;
    var total: vec4<f32>;
    for (var i = 0u; i < RUN; i++) {
        let at = (block + i) * 2u;
        var x0 = x[base + at];
        var x1 = x[base + at + 1u];
        if NORM {
            squares += dot(x0, x0) + dot(x1, x1);
            x0 *= norm_factors(norm[at]);
            x1 *= norm_factors(norm[at + 1u]);
        }
        total += x0 + x1;
        x0 *= ALIGN_A;
        x1 *= ALIGN_B;
        for (var e = 0u; e < EACH; e++) {
            dots[e] = add_codes(dots[e], words[e][i], x0, x1);
        }
    }
    for (var e = 0u; e < EACH; e++) {
        sum[0][e] += finish_codes(dots[e], total, groups[e]);
    }
}

// The same of several rows, by weights.
fn add_weights(base: u32, block: u32, words: Words, group: Group, e: u32) {
    let w = weights_of(words, group);
    for (var t = 0u; t < T; t++) {
        let a = x[base + t * (K / 4u) + block * 2u];
        let b = x[base + t * (K / 4u) + block * 2u + 1u];
        sum[t][e] = sum[t][e] + w[0] * a.x + w[1] * a.y + w[2] * a.z + w[3] * a.w
            + w[4] * b.x + w[5] * b.y + w[6] * b.z + w[7] * b.w;
    }
}

fn add_run(base: u32, block: u32, words: Runs, groups: Groups) {
    if T == 1u {
        add_one_row(base, block, words, groups);
    } else {
        for (var i = 0u; i < RUN; i++) {
            for (var e = 0u; e < EACH; e++) {
                add_weights(base, block + i, words[e][i], groups[e], e);
            }
        }
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_row = workgroup.y * T;
    // Skipped if none of the rows is in use.
    var used = false;
    for (var t = 0u; t < T; t++) {
        used |= rows[first_row + t].sequence != NONE;
    }
    // One row mostly is: what tells is not waited for.
    if T > 1u && !used {
        return;
    }
    let quad = workgroup.x * QUADS;
    var before: array<array<f32, EACH>, T>;
    if T == 1u {
        before[0] = what_is_there(first_row, quad, lane);
    }
    add_blocks(first_row * (K / 4u), part_of(workgroup.x, lane));
    if T == 1u && !used {
        return;
    }
    // Of several rows after weights, which want all registers, but in one wait.
    for (var t = 0u; t < T && T > 1u; t++) {
        before[t] = what_is_there(first_row + t, quad, lane);
    }
    let own = quad_of_output(lane);
    for (var t = 0u; t < T; t++) {
        for (var e = 0u; e < EACH; e++) {
            add_splits(lane, sum[t][e], squares);
            var sums = partial[own];
            if NORM {
                sums *= norm_scale(beside[own]);
            }
            put(first_row + t, quad + e * ABREAST, lane, sums, before[t][e]);
        }
    }
}
