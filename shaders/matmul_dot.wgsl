// out[t, n] (+)= Σ_k x[t, k] · W[n, k] for up to T rows t, with x in 8-bit codes: for few rows.
//
// As matmul_split.wgsl, but the SPLITS lanes of a quad share its units of columns. Within a unit products are of integers,
// four of them and their sum in one operation; scale and zero of the weights and the scale of x come after.
//
// Expects: K, N (rows of this shard), FIRST (where they stand in out), STRIDE (of out), T, ADD, GROUP, UNIT (divides GROUP),
// UNITS (of a row), QUADS, EACH (1), SPLITS, WG; splits.wgsl; outputs.wgsl; put.wgsl; a format. Grid: (N / (4 · QUADS), rows / T).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> inputs: array<vec2<u32>>;       // [rows, K/8]
@group(0) @binding(2) var<storage, read> input_scales: array<vec2<f32>>; // [rows, UNITS] scale, sum of the codes
@group(0) @binding(3) var<storage, read_write> out: array<f32>;          // [rows, STRIDE]

const BESIDE: bool = false;

const BLOCKS: u32 = UNIT / 8u;
// Blocks that are loaded before the first of them is used, as in in_flight.wgsl; a divisor of BLOCKS.
const BATCH: u32 = max(min(BLOCKS, IN_FLIGHT / T), 1u);
// Whether the last unit is as long as the others.
const EVEN: bool = K % UNIT == 0u;

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
    let first_quad = workgroup.x * QUADS;
    var before: array<array<f32, EACH>, T>;
    for (var t = 0u; t < T; t++) {
        before[t] = what_is_there(first_row + t, first_quad, lane);
    }
    let part = part_of(workgroup.x, lane);
    let tile = part.tile;
    let quad = part.quad;
    var sum: array<vec4<f32>, T>;
    for (var unit = part.split; unit < UNITS; unit += SPLITS) {
        let group = load_group(tile, quad, unit * UNIT / GROUP);
        var scales: array<vec2<f32>, T>;
        for (var t = 0u; t < T; t++) {
            scales[t] = input_scales[(first_row + t) * UNITS + unit];
        }
        var dots: array<vec4<i32>, T>;
        for (var batch = 0u; batch < BLOCKS / BATCH; batch++) {
            let first = unit * BLOCKS + batch * BATCH;
            var w: array<array<vec4<u32>, 2>, BATCH>;
            for (var i = 0u; i < BATCH; i++) {
                w[i] = load_dots(tile, quad, select(min(first + i, K / 8u - 1u), first + i, EVEN));
            }
            for (var i = 0u; i < BATCH; i++) {
                if EVEN || first + i < K / 8u {
                    for (var t = 0u; t < T; t++) {
                        dots[t] += dot_block(w[i][0], w[i][1], inputs[(first_row + t) * (K / 8u) + first + i]);
                    }
                }
            }
        }
        for (var t = 0u; t < T; t++) {
            sum[t] += scaled(dots[t], scales[t], group);
        }
    }
    for (var t = 0u; t < T; t++) {
        add_splits(lane, sum[t], 0.0);
        put(first_row + t, first_quad, lane, partial[quad_of_output(lane)], before[t][0]);
    }
}
