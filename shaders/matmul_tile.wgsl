// Σ_k x[t, k] · W[n, k] for many rows t: for GPUs. Which rows those are and where the sums go is for tile/rows.wgsl or
// tile/experts.wgsl to say.
//
// A workgroup of 128 lanes computes 64 rows of x by 64 of W. Steps of 32 columns: half of the lanes unpack a
// block of W each, all copy four vectors of x into workgroup memory; then each lane adds up its 4 × 8
// outputs from there, so that an unpacked weight serves 64 rows.
//
// Expects: K, GROUP, GROUPS, T = 64 (rows of a tile); of tile/ what x is made of, and which rows; a format.
// Grid: (N / 64, tiles of rows).

// 8 KiB and 8 KiB, all that WebGPU promises, or half of that.
var<workgroup> weights: array<Kept, 512>; // [16 columns × 2, 16 quads]
var<workgroup> inputs: array<Kept, 512>;  // [64 rows, 8 vectors of 4 columns]

// What a lane brings of a step into workgroup memory: a block of W, which the second half of the lanes has too but does not
// unpack (a branch would have the first half wait for it), and four vectors of x.
struct Share { words: Words, scales: Scales, x: array<Loaded, 4> }

// Columns behind the last ones are the last ones again.
fn fetch(mine: Place, inputs_of: vec4<u32>, step: u32, lane: u32) -> Share {
    var share: Share;
    let block = min(step / 8u + lane % 64u / 16u, K / 8u - 1u);
    share.words = load_words(mine.tile, mine.quad, block);
    share.scales = load_scales(mine.tile, mine.quad, block * 8u / GROUP);
    for (var i = 0u; i < 4u; i++) {
        share.x[i] = x[inputs_of[i] * (K / 4u) + min(step / 4u + lane % 8u, K / 4u - 1u)];
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
    if !any_used(workgroup.x, first_row) {
        return;
    }
    let quad = lane % 16u;   // rows 4·quad .. 4·quad + 4 of W
    let part = lane / 16u;   // rows 8·part .. 8·part + 8 of x
    let mine = place_of(workgroup.x, first_row, quad);
    // Of which rows of x a lane brings vectors.
    let inputs_of = vec4<u32>(
        row_of_x(first_row, lane / 8u), row_of_x(first_row, 16u + lane / 8u),
        row_of_x(first_row, 32u + lane / 8u), row_of_x(first_row, 48u + lane / 8u));
    let needed = part_used(first_row + part * 8u);
    var sum: array<vec4<f32>, 8>;
    // The next step is on its way while this one is added up.
    var next = fetch(mine, inputs_of, 0u, lane);
    for (var step = 0u; step < K; step += 32u) {
        spread(next, step, lane);
        workgroupBarrier();
        if step + 32u < K {
            next = fetch(mine, inputs_of, step + 32u, lane);
        }
        if needed {
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
                    // From left to right, one fused product after the other.
                    sum[t] = sum[t] + a * v[t].x + b * v[t].y + c * v[t].z + d * v[t].w;
                }
            }
        }
        workgroupBarrier();
    }
    for (var t = 0u; t < 8u; t++) {
        put_row(mine, first_row + part * 8u + t, sum[t]);
    }
}
