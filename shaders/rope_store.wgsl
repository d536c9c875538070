// Rotary position embedding of q and k, and k and v appended to the cache, whose words hold pairs of halves.
//
// A lane has EACH pairs of a head. Follows store/, which says where keys and values lie; pairs.wgsl.
//
// Expects, besides what that does: PAGE (tokens of a page), MAX_PAGES (a sequence's), WG.
// Grid: (pairs of a row / EACH / WG, rows).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> pages: array<u32>;           // [sequences, MAX_PAGES]
@group(0) @binding(2) var<storage, read> rotation: array<vec4<f32>>;  // [context, TURNS] cos, sin
@group(0) @binding(3) var<storage, read> qkv: array<vec4<f32>>;       // [rows, (HEADS + 2·KV_HEADS) · 2·HALF]
@group(0) @binding(6) var<storage, read_write> q: array<f32>;         // [rows, HEADS · 2·HALF]

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let pair = (workgroup.x * WG + lane) * EACH;
    let row = rows[workgroup.y];
    if row.sequence == NONE || pair >= (HEADS + 2u * KV_HEADS) * HALF {
        return;
    }
    let head = pair / HALF;
    let i = pair % HALF;
    let made = pairs(workgroup.y, head, i);
    if head < HEADS {
        let at = (workgroup.y * HEADS + head) * 2u * HALF + i;
        for (var j = 0u; j < EACH; j++) {
            q[at + j] = made[0][j];
            q[at + HALF + j] = made[1][j];
        }
        return;
    }
    let page = pages[row.sequence * MAX_PAGES + row.position / PAGE] * KV_HEADS;
    let token = row.position % PAGE;
    let words = words_of_pairs(made);
    if head < HEADS + KV_HEADS {
        store_key(page + head - HEADS, token, i, words);
    } else {
        store_value(page + head - HEADS - KV_HEADS, token, i, words);
    }
}
