// out[t, n] (+)= Σ_k x[t, k] · W[n, k] for many rows t: for GPUs.
//
// A workgroup of 128 lanes computes a 64 × 64 tile of out. Steps of 32 columns: half of the lanes unpack a
// block of W each, all copy four vectors of x into workgroup memory; then each lane adds up its 4 × 8
// outputs from there, so that an unpacked weight serves 64 rows.
//
// Expects: K, N (rows of this shard), FIRST (where they stand in out), STRIDE (of out), ADD, GROUP, GROUPS,
// ROWS (of the row table, or of a part of it), T = 64 (rows of a tile); outputs.wgsl; tile/; a format. Grid: (tiles, rows / 64).

// 8 KiB and 8 KiB, all that WebGPU promises, or half of that.
var<workgroup> weights: array<Kept, 512>; // [16 columns × 2, 16 quads]
var<workgroup> inputs: array<Kept, 512>;  // [64 rows, 8 vectors of 4 columns]

// What a lane brings of a step into workgroup memory: a block of W, which the second half of the lanes has too but does not
// unpack (a branch would have the first half wait for it), and four vectors of x.
struct Share { words: Words, scales: Scales, x: array<Loaded, 4> }

// Rows and columns behind the last ones are the last ones again.
fn fetch(tile: u32, first_row: u32, step: u32, lane: u32) -> Share {
    var share: Share;
    let block = min(step / 8u + lane % 64u / 16u, K / 8u - 1u);
    share.words = load_words(tile, lane % 16u, block);
    share.scales = load_scales(tile, lane % 16u, block * 8u / GROUP);
    for (var i = 0u; i < 4u; i++) {
        let at = i * 128u + lane;
        let k = min(step / 4u + at % 8u, K / 4u - 1u);
        share.x[i] = x[min(first_row + at / 8u, ROWS - 1u) * (K / 4u) + k];
    }
    return share;
}

// Puts it there; what is behind the last column counts nothing.
fn spread(share: Share, step: u32, lane: u32) {
    if lane < 64u {
        var w: array<vec4<f32>, 8>;
        if step / 8u + lane / 16u < K / 8u {
            w = weights_of(share.words, group_of(share.scales));
        }
        for (var j = 0u; j < 8u; j++) {
            weights[(lane / 16u * 8u + j) * 16u + lane % 16u] = Kept(w[j]);
        }
    }
    for (var i = 0u; i < 4u; i++) {
        let at = i * 128u + lane;
        inputs[at] = select(Kept(), keep(share.x[i]), step / 4u + at % 8u < K / 4u);
    }
}

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
    // The next step is on its way while this one is added up.
    var next = fetch(tile, first_row, 0u, lane);
    for (var step = 0u; step < K; step += 32u) {
        spread(next, step, lane);
        workgroupBarrier();
        if step + 32u < K {
            next = fetch(tile, first_row, step + 32u, lane);
        }
        for (var k = 0u; k < 8u; k++) {
            let a = vec4<f32>(weights[(k * 4u) * 16u + quad]);
            let b = vec4<f32>(weights[(k * 4u + 1u) * 16u + quad]);
            let c = vec4<f32>(weights[(k * 4u + 2u) * 16u + quad]);
            let d = vec4<f32>(weights[(k * 4u + 3u) * 16u + quad]);
            var v: array<vec4<f32>, 8>;
            for (var t = 0u; t < 8u; t++) {
                v[t] = vec4<f32>(inputs[(part * 8u + t) * 8u + k]);
            }
            for (var t = 0u; t < 8u; t++) {
                sum[t] += a * v[t].x + b * v[t].y + c * v[t].z + d * v[t].w;
            }
        }
        workgroupBarrier();
    }
    for (var t = 0u; t < 8u; t++) {
        let r = first_row + part * 8u + t;
        if wanted(r) {
            put_quad(r, tile * 64u + quad * 4u, sum[t] * scale_of(r));
        }
    }
}
