// Rotary position embedding (arXiv:2104.09864) of q and k, and k and v appended to the cache.
//
// Of a head, the first 2·TURNS dimensions rotate: i and i + TURNS form the pair that is rotated by
// position · frequency[i]; cosine and sine come from a table, since the built-in ones promise no accuracy at large
// angles. The others, if any, are left as they are.
//
// A word of the cache holds two dimensions as halves. Of values they are i and i + HALF. Of keys, and in q, which is
// multiplied with keys alone, word i holds the pair that rotates together, and past those what is left, in order.
//
// Expects: HEADS, KV_HEADS, HALF (half a head), TURNS, BY_HEAD (each head's q, k and v lie together; else all of q, of
// k, of v), PAGE (tokens of a page), MAX_PAGES (a sequence's), WG. Grid: (pairs of a row / WG, rows).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> pages: array<u32>;            // [sequences, MAX_PAGES]
@group(0) @binding(2) var<storage, read> rotation: array<vec2<f32>>;   // [context, TURNS] cos, sin
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
    var place = head;
    if BY_HEAD {
        place = head % HEADS * 3u + head / HEADS;
    }
    let base = (workgroup.y * (HEADS + 2u * KV_HEADS) + place) * 2u * HALF;
    var low = i;
    var high = i + HALF;
    if head < HEADS + KV_HEADS {
        low = select(i + TURNS, i, i < TURNS);
        high = select(i + HALF, i + TURNS, i < TURNS);
    }
    let a = qkv[base + low];
    let b = qkv[base + high];
    var turned = vec2<f32>(a, b);
    if i < TURNS {
        let turn = rotation[row.position * TURNS + i];
        turned = vec2<f32>(a * turn.x - b * turn.y, b * turn.x + a * turn.y);
    }
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
