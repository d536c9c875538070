// out[t, n] (+)= Σ_k x[t, k] · W[n, k] for up to T rows t: for GPUs and few rows.
//
// A workgroup owns QUADS quads of a tile, 4 · QUADS rows of W. Lane = (quad, split): neighbouring lanes read neighbouring
// quads, and the SPLITS lanes of a quad share its columns, so that even a small matrix keeps many lanes busy.
// The partial sums meet in workgroup memory. For one row codes serve, not weights: see format/f16.wgsl.
//
// Where NORM, T is 1, and x is normed on the way, by `norm`, the weight of the norm. See norm.wgsl.
//
// Expects: K, N (rows of this shard), FIRST (where they stand in out), STRIDE (of out), T, ADD, NORM, EPS, ONE_PLUS,
// GROUP, GROUPS, QUADS, SPLITS, WG; norm.wgsl; splits.wgsl; outputs.wgsl; put.wgsl; a format.
// Grid: (N / (4 · QUADS), rows / T).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;   // [rows, K]
@group(0) @binding(2) var<storage, read> norm: array<vec4<f32>>; // [K], or x again
@group(0) @binding(3) var<storage, read_write> out: array<f32>; // [rows, STRIDE]

// Blocks of columns of each lane. A number that compilers know, so that they may have several loads under way.
const TURNS: u32 = (K / 8u + SPLITS - 1u) / SPLITS;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_row = workgroup.y * T;
    // Skipped if none of the rows is in use.
    var first_used = 0u;
    while first_used < T && rows[first_row + first_used].sequence == NONE {
        first_used += 1u;
    }
    if first_used == T {
        return;
    }
    let part = part_of(workgroup.x, lane);
    let tile = part.tile;
    let quad = quad_of(part.quad);
    var sum: array<vec4<f32>, T>;
    var squares: f32;
    for (var turn = 0u; turn < TURNS; turn++) {
        let block = turn * SPLITS + part.split;
        if K / 8u % SPLITS != 0u && block >= K / 8u {
            break;
        }
        let group = load_group(tile, quad, block * 8u / GROUP);
        if T == 1u {
            // A weight that serves but once is not worth unpacking.
            var x0 = x[first_row * (K / 4u) + block * 2u];
            var x1 = x[first_row * (K / 4u) + block * 2u + 1u];
            if NORM {
                squares += dot(x0, x0) + dot(x1, x1);
                x0 *= norm_factors(norm[block * 2u]);
                x1 *= norm_factors(norm[block * 2u + 1u]);
            }
            let a = x0 * ALIGN_A;
            let b = x1 * ALIGN_B;
            let c = load_codes(tile, quad, block);
            let dots = c[0] * a.x + c[1] * a.y + c[2] * a.z + c[3] * a.w
                + c[4] * b.x + c[5] * b.y + c[6] * b.z + c[7] * b.w;
            let total = x0 + x1;
            sum[0] += finish(dots, (total.x + total.y) + (total.z + total.w), group);
            continue;
        }
        let w = load_block(tile, quad, block, group);
        for (var t = 0u; t < T; t++) {
            let i = (first_row + t) * (K / 4u) + block * 2u;
            let a = x[i];
            let b = x[i + 1u];
            sum[t] += w[0] * a.x + w[1] * a.y + w[2] * a.z + w[3] * a.w
                + w[4] * b.x + w[5] * b.y + w[6] * b.z + w[7] * b.w;
        }
    }
    if NORM {
        sum[0] *= norm_scale(sum_of_splits(lane, squares));
    }
    for (var t = 0u; t < T; t++) {
        put(first_row + t, workgroup.x, lane, sum[t]);
    }
}
