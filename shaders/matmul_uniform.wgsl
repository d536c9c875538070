// out[t, n] (+)= Σ_k x[t, k] · W[n, k] for up to T rows t: for devices whose lanes are a processor's.
//
// One lane owns four rows of W (a quad) and loops over all of k. The activations lie in a uniform buffer
// and are read at an index that is the same in all lanes, which such devices do once for all of them; the
// weights are read once for T rows. Rows, x and out are windows that start at the first of the T rows.
//
// Expects: K, N (rows of this shard), FIRST (where they stand in out), STRIDE (of out), T, ADD, GROUP,
// GROUPS, WG; a format. Grid: (quads / WG).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<uniform> x: array<vec4<f32>, T * K / 4u>;  // [T, K]
@group(0) @binding(2) var<storage, read_write> out: array<f32>;      // [T, STRIDE]

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = id.x * 4u;
    // Skipped if none of the rows is in use.
    var first_used = 0u;
    while first_used < T && rows[first_used].sequence == NONE {
        first_used += 1u;
    }
    if first_used == T || n >= N {
        return;
    }
    let tile = id.x / 16u;
    let quad = id.x % 16u;
    var sum: array<vec4<f32>, T>;
    for (var g = 0u; g < GROUPS; g++) {
        let group = load_group(tile, quad, g);
        let end = min((g + 1u) * GROUP, K) / 8u;
        for (var block = g * GROUP / 8u; block < end; block++) {
            let w = load_block(tile, quad, block, group);
            for (var t = 0u; t < T; t++) {
                let a = x[t * (K / 4u) + block * 2u];
                let b = x[t * (K / 4u) + block * 2u + 1u];
                sum[t] += w[0] * a.x + w[1] * a.y + w[2] * a.z + w[3] * a.w
                    + w[4] * b.x + w[5] * b.y + w[6] * b.z + w[7] * b.w;
            }
        }
    }
    for (var t = 0u; t < T; t++) {
        for (var j = 0u; j < min(4u, N - n); j++) {
            let i = t * STRIDE + FIRST + n + j;
            out[i] = select(sum[t][j], out[i] + sum[t][j], ADD);
        }
    }
}
