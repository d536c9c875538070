// out[t, n] (+)= Σ_k x[t, k] · W[n, k] for many rows t, with x in 8-bit codes: for GPUs.
//
// As matmul_tile.wgsl, a workgroup of 128 lanes a 64 × 64 tile of out; a unit of columns at a time, whose codes of both sides
// lie in workgroup memory: some lanes load a block of W each, all of them copy x.
//
// Expects: K, N (rows of this shard), FIRST (where they stand in out), STRIDE (of out), ADD, GROUP, UNIT (divides GROUP, at
// most 32), UNITS (of a row), ROWS (capacity of the row table), T = 64 (rows of a tile); outputs.wgsl; a format.
// Grid: (tiles, rows / 64).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> inputs: array<vec2<u32>>;       // [rows, K/8]
@group(0) @binding(2) var<storage, read> input_scales: array<vec2<f32>>; // [rows, UNITS] scale, sum of the codes
@group(0) @binding(3) var<storage, read_write> out: array<f32>;          // [rows, STRIDE]

const BLOCKS: u32 = UNIT / 8u;

var<workgroup> weights: array<vec4<u32>, BLOCKS * 32u>; // [blocks, 2 words, 16 quads]
var<workgroup> codes_: array<vec2<u32>, BLOCKS * 64u>;  // [64 rows, blocks]
var<workgroup> scales_: array<vec2<f32>, 64>;

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_row = workgroup.y * 64u;
    // Skipped if none of the rows is in use.
    let end_row = min(first_row + 64u, ROWS);
    var first_used = first_row;
    while first_used < end_row && rows[first_used].sequence == NONE {
        first_used += 1u;
    }
    if first_used == end_row {
        return;
    }
    let tile = workgroup.x;
    let quad = lane % 16u;   // rows 4·quad .. 4·quad + 4 of W
    let part = lane / 16u;   // rows 8·part .. 8·part + 8 of x
    var sum: array<vec4<f32>, 8>;
    for (var unit = 0u; unit < UNITS; unit++) {
        let first_block = unit * BLOCKS;
        if part < BLOCKS {
            var w: array<vec4<u32>, 2>;
            if first_block + part < K / 8u {
                w = load_dots(tile, quad, first_block + part);
            }
            weights[part * 32u + quad] = w[0];
            weights[part * 32u + 16u + quad] = w[1];
        }
        for (var i = lane; i < BLOCKS * 64u; i += 128u) {
            let r = first_row + i / BLOCKS;
            let block = first_block + i % BLOCKS;
            let at = min(r, ROWS - 1u) * (K / 8u) + min(block, K / 8u - 1u);
            codes_[i] = select(vec2<u32>(), inputs[at], r < ROWS && block < K / 8u);
        }
        if lane < 64u {
            scales_[lane] = input_scales[min(first_row + lane, ROWS - 1u) * UNITS + unit];
        }
        workgroupBarrier();
        var dots: array<vec4<i32>, 8>;
        for (var j = 0u; j < BLOCKS; j++) {
            let a = weights[j * 32u + quad];
            let b = weights[j * 32u + 16u + quad];
            for (var t = 0u; t < 8u; t++) {
                dots[t] += dot_block(a, b, codes_[(part * 8u + t) * BLOCKS + j]);
            }
        }
        let group = load_group(tile, quad, unit * UNIT / GROUP);
        for (var t = 0u; t < 8u; t++) {
            sum[t] += scaled(dots[t], scales_[part * 8u + t], group);
        }
        workgroupBarrier();
    }
    for (var t = 0u; t < 8u; t++) {
        let r = first_row + part * 8u + t;
        if r < ROWS {
            put_vector(r, tile * 64u + quad * 4u, sum[t]);
        }
    }
}
