// Products with the matrices of those experts that a row was routed to (arXiv:1701.06538). All experts' matrices are one,
// below one another: row n of expert e is row e·N + n of W.
// Where SPREAD, every slot s of row r makes outputs of its own, gate and up of all slots: with h = N / 2, row n of
// expert e(r, s) gives out[r, (n / h)·SLOTS·h + s·h + n % h] = Σ_k x[r, k] · W[e·N + n, k].
// Else the slots' inputs are apart, and their outputs are weighted and added:
// out[r, n] += Σ_s weight(r, s) · Σ_k x[r, s·K + k] · W[e(r, s)·N + n, k].
//
// Lane = (quad, split) as in matmul_split.wgsl.
// Expects: K, N (a multiple of 8), COUNT (rows of this shard of W), FIRST (the first of them), SLOTS, SPREAD, GROUP,
// GROUPS, QUADS, EACH (1), SPLITS, WG; splits.wgsl; in_flight.wgsl; a format. Grid: (N / (4 · QUADS), rows, slots if SPREAD).

@group(0) @binding(0) var<storage, read> chosen: array<u32>;    // [rows, SLOTS] e(r, s), NONE for rows not in use
@group(0) @binding(1) var<storage, read> weights: array<f32>;   // [rows, SLOTS]
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;   // [rows, K], or [rows, SLOTS · K]
@group(0) @binding(3) var<storage, read_write> out: array<f32>; // [rows, SLOTS · N], or [rows, N]

// Whether row n of an expert is in this shard.
fn here(expert: u32, n: u32) -> bool {
    return n < N && expert * N + n >= FIRST && expert * N + n - FIRST < COUNT;
}

var<private> of_expert: vec4<f32>;

const SHARED_BY: u32 = 1u;
const BESIDE: bool = false;

fn add_run(base: u32, block: u32, words: Runs, groups: Groups) {
    var dots: vec4<f32>;
    var total: vec4<f32>;
    for (var i = 0u; i < RUN; i++) {
        let x0 = x[base + (block + i) * 2u];
        let x1 = x[base + (block + i) * 2u + 1u];
        dots += add_codes(vec4<f32>(), words[0][i], x0 * ALIGN_A, x1 * ALIGN_B);
        total += x0 + x1;
    }
    of_expert += finish_codes(dots, total, groups[0]);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = workgroup.y;
    if chosen[row * SLOTS] == NONE {
        return;
    }
    let first_row = workgroup.x * QUADS * 4u;
    let quad_row = first_row + lane % QUADS * 4u;
    var sum: vec4<f32>;
    let end = select(SLOTS, workgroup.z + 1u, SPREAD);
    for (var slot = select(0u, workgroup.z, SPREAD); slot < end; slot++) {
        let expert = chosen[row * SLOTS + slot];
        if here(expert, quad_row) {
            let n = expert * N + quad_row - FIRST;
            let base = select(row * SLOTS + slot, row, SPREAD) * (K / 4u);
            of_expert = vec4<f32>();
            add_blocks(base, Part(n / 64u, n % 64u / 4u, lane / QUADS));
            sum += of_expert * select(weights[row * SLOTS + slot], 1.0, SPREAD);
        }
    }
    add_splits(lane, sum, 0.0);
    // A row of W each.
    if lane < QUADS * 4u {
        let total = partial[lane / 4u][lane % 4u];
        let n = first_row + lane;
        if SPREAD {
            if here(chosen[row * SLOTS + workgroup.z], n) {
                let h = N / 2u;
                out[row * SLOTS * N + n / h * SLOTS * h + workgroup.z * h + n % h] = total;
            }
        } else if n < N {
            out[row * N + n] += total;
        }
    }
}
