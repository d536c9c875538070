// Rotary position embedding (arXiv:2104.09864) of q and k, and k and v appended to the cache.
//
// A head's dimensions i and i + HALF form the pair that is rotated by position · frequency[i]; cosine and
// sine come from a table, since the built-in ones promise no accuracy at large angles. Such a pair is also
// what a word of the cache holds, as two halves.
//
// Expects: HEADS, KV_HEADS, HALF (half a head), PAGE (tokens of a page), MAX_PAGES (a sequence's), WG.
// Grid: (pairs of a row / WG, rows).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> pages: array<u32>;            // [sequences, MAX_PAGES]
@group(0) @binding(2) var<storage, read> rotation: array<vec2<f32>>;   // [context, HALF] cos, sin
@group(0) @binding(3) var<storage, read> qkv: array<f32>;              // [rows, (HEADS + 2·KV_HEADS) · 2·HALF]
@group(0) @binding(4) var<storage, read_write> keys: array<u32>;       // [pages, KV_HEADS, HALF, PAGE]
@group(0) @binding(5) var<storage, read_write> values: array<u32>;     // [pages, KV_HEADS, PAGE, HALF]
@group(0) @binding(6) var<storage, read_write> q: array<f32>;          // [rows, HEADS · 2·HALF]

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let pair = workgroup.x * WG + lane;
    let row = rows[workgroup.y];
    if row.sequence == NONE || pair >= (HEADS + 2u * KV_HEADS) * HALF {
        return;
    }
    let head = pair / HALF;
    let i = pair % HALF;
    let base = (workgroup.y * (HEADS + 2u * KV_HEADS) + head) * 2u * HALF + i;
    let a = qkv[base];
    let b = qkv[base + HALF];
    let turn = rotation[row.position * HALF + i];
    let turned = vec2<f32>(a * turn.x - b * turn.y, b * turn.x + a * turn.y);
    if head < HEADS {
        let at = (workgroup.y * HEADS + head) * 2u * HALF + i;
        q[at] = turned.x;
        q[at + HALF] = turned.y;
        return;
    }
    let page = pages[row.sequence * MAX_PAGES + row.position / PAGE];
    let token = row.position % PAGE;
    if head < HEADS + KV_HEADS {
        keys[((page * KV_HEADS + head - HEADS) * HALF + i) * PAGE + token] = pack2x16float(turned);
    } else {
        values[((page * KV_HEADS + head - HEADS - KV_HEADS) * PAGE + token) * HALF + i] = pack2x16float(vec2<f32>(a, b));
    }
}
