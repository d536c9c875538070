// out[t, n] (+)= Σ_k x[t, k] · W[n, k] for many rows t: for GPUs.
//
// A workgroup of 128 lanes computes a 64 × 64 tile of out. Steps of 32 columns: half of the lanes unpack a
// block of W each, all copy four vectors of x into workgroup memory; then each lane adds up its 4 × 8
// outputs from there, so that an unpacked weight serves 64 rows.
//
// Expects: K, N (rows of this shard), FIRST (where they stand in out), STRIDE (of out), ADD, GROUP, GROUPS,
// ROWS (capacity of the row table), T = 64 (rows of a tile); outputs.wgsl; a format. Grid: (tiles, rows / 64).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;   // [rows, K]
@group(0) @binding(2) var<storage, read_write> out: array<f32>; // [rows, STRIDE]

// 8 KiB and 8 KiB: all that WebGPU promises.
var<workgroup> weights: array<vec4<f32>, 512>; // [16 columns × 2, 16 quads]
var<workgroup> inputs: array<vec4<f32>, 512>;  // [64 rows, 8 vectors of 4 columns]

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
    for (var step = 0u; step < K; step += 32u) {
        // 4 blocks × 16 quads = 64 (block, quad) pairs: the first half of the lanes unpacks.
        if part < 4u {
            let block = step / 8u + part;
            var w: array<vec4<f32>, 8>;
            if block < K / 8u {
                w = load_block(tile, quad_of(quad), block, load_group(tile, quad_of(quad), block * 8u / GROUP));
            }
            for (var j = 0u; j < 8u; j++) {
                weights[(part * 8u + j) * 16u + quad] = w[j];
            }
        }
        for (var i = lane; i < 512u; i += 128u) {
            let r = first_row + i / 8u;
            let k = step / 4u + i % 8u;
            inputs[i] = select(vec4<f32>(), x[min(r, ROWS - 1u) * (K / 4u) + min(k, K / 4u - 1u)], r < ROWS && k < K / 4u);
        }
        workgroupBarrier();
        for (var k = 0u; k < 8u; k++) {
            let a = weights[(k * 4u) * 16u + quad];
            let b = weights[(k * 4u + 1u) * 16u + quad];
            let c = weights[(k * 4u + 2u) * 16u + quad];
            let d = weights[(k * 4u + 3u) * 16u + quad];
            for (var t = 0u; t < 8u; t++) {
                let v = inputs[(part * 8u + t) * 8u + k];
                sum[t] += a * v.x + b * v.y + c * v.z + d * v.w;
            }
        }
        workgroupBarrier();
    }
    for (var t = 0u; t < 8u; t++) {
        let r = first_row + part * 8u + t;
        if r < ROWS {
            put_quad(r, tile * 64u + quad * 4u, sum[t]);
        }
    }
}
