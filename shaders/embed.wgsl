// Embedding: out[r] = E[token of r]. One shard of E: rows FIRST .. FIRST + N of the vocabulary.
// Expects: K (hidden size), N, FIRST, GROUP, GROUPS, WG; a format. Grid: (blocks of a row / WG, rows).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>; // [rows, K]

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = rows[workgroup.y];
    let block = workgroup.x * WG + lane;
    if row.sequence == NONE || row.token < FIRST || row.token - FIRST >= N || block >= K / 8u {
        return;
    }
    let index = row.token - FIRST;
    let tile = index / 64u;
    let quad = index % 64u / 4u;
    let group = load_group(tile, quad, block * 8u / GROUP);
    var w = load_block(tile, quad, block, group);
    for (var j = 0u; j < 8u; j++) {
        out[workgroup.y * K + block * 8u + j] = w[j][index % 4u];
    }
}
