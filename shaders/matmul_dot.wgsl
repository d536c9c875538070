// out[t, n] (+)= Σ_k x[t, k] · W[n, k] for up to T rows t, with x in 8-bit codes: for few rows.
//
// As matmul_split.wgsl, but the SPLITS lanes of a quad share its units of columns. Within a unit products are of integers,
// four of them and their sum in one operation; scale and zero of the weights and the scale of x come after.
//
// Expects: K, N (rows of this shard), FIRST (where they stand in out), STRIDE (of out), T, ADD, GROUP, UNIT (divides GROUP),
// UNITS (of a row), QUADS, SPLITS, WG; splits.wgsl; outputs.wgsl; put.wgsl; a format. Grid: (N / (4 · QUADS), rows / T).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> inputs: array<vec2<u32>>;       // [rows, K/8]
@group(0) @binding(2) var<storage, read> input_scales: array<vec2<f32>>; // [rows, UNITS] scale, sum of the codes
@group(0) @binding(3) var<storage, read_write> out: array<f32>;          // [rows, STRIDE]

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
    for (var unit = part.split; unit < UNITS; unit += SPLITS) {
        var dots: array<vec4<i32>, T>;
        let end = min((unit + 1u) * UNIT, K) / 8u;
        for (var block = unit * UNIT / 8u; block < end; block++) {
            let w = load_dots(tile, quad, block);
            for (var t = 0u; t < T; t++) {
                dots[t] += dot_block(w[0], w[1], inputs[(first_row + t) * (K / 8u) + block]);
            }
        }
        let group = load_group(tile, quad, unit * UNIT / GROUP);
        for (var t = 0u; t < T; t++) {
            sum[t] += scaled(dots[t], input_scales[(first_row + t) * UNITS + unit], group);
        }
    }
    for (var t = 0u; t < T; t++) {
        put(first_row + t, workgroup.x, lane, sum[t]);
    }
}
