// Rotary position embedding (arXiv:2104.09864) of q and k, and k and v appended to the cache.
//
// Of a head, the first 2·TURNS dimensions rotate: i and i + TURNS form the pair that is rotated by
// position · frequency[i]; cosine and sine come from a table, since the built-in ones promise no accuracy at large
// angles. The others, if any, are left as they are.
//
// A word of the cache holds two dimensions as halves. Of values they are i and i + HALF. Of keys, and in q, which is
// multiplied with keys alone, word i holds the pair that rotates together, and past those what is left, in order.
//
// A lane has EACH pairs of a head: four that lie side by side, wherever that comes out even.
//
// Expects: HEADS, KV_HEADS, HALF (half a head), TURNS, BY_HEAD (each head's q, k and v lie together; else all of q, of
// k, of v), PAGE (tokens of a page), MAX_PAGES (a sequence's), EACH (1 or 4, divides HALF and TURNS), WG.
// Grid: (pairs of a row / EACH / WG, rows).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> pages: array<u32>;            // [sequences, MAX_PAGES]
@group(0) @binding(2) var<storage, read> rotation: array<vec2<f32>>;   // [context, TURNS] cos, sin
@group(0) @binding(3) var<storage, read> qkv: array<vec4<f32>>;        // [rows, (HEADS + 2·KV_HEADS) · 2·HALF]
@group(0) @binding(4) var<storage, read_write> keys: array<u32>;       // [pages, KV_HEADS, HALF, PAGE]
@group(0) @binding(5) var<storage, read_write> values: array<u32>;     // [pages, KV_HEADS, PAGE, HALF]
@group(0) @binding(6) var<storage, read_write> q: array<f32>;          // [rows, HEADS · 2·HALF]

// EACH numbers from i on.
fn numbers(i: u32) -> vec4<f32> {
    if EACH == 4u {
        return qkv[i / 4u];
    }
    return vec4<f32>(qkv[i / 4u][i % 4u]);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let pair = (workgroup.x * WG + lane) * EACH;
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
    var a = numbers(base + low);
    var b = numbers(base + high);
    if head < HEADS + KV_HEADS && i < TURNS {
        var cos_: vec4<f32>;
        var sin_: vec4<f32>;
        for (var j = 0u; j < EACH; j++) {
            let turn = rotation[row.position * TURNS + i + j];
            cos_[j] = turn.x;
            sin_[j] = turn.y;
        }
        let turned = a * cos_ - b * sin_;
        b = b * cos_ + a * sin_;
        a = turned;
    }
    if head < HEADS {
        let at = (workgroup.y * HEADS + head) * 2u * HALF + i;
        for (var j = 0u; j < EACH; j++) {
            q[at + j] = a[j];
            q[at + HALF + j] = b[j];
        }
        return;
    }
    let page = pages[row.sequence * MAX_PAGES + row.position / PAGE];
    let token = row.position % PAGE;
    let words = vec4<u32>(
        pack2x16float(vec2<f32>(a.x, b.x)), pack2x16float(vec2<f32>(a.y, b.y)),
        pack2x16float(vec2<f32>(a.z, b.z)), pack2x16float(vec2<f32>(a.w, b.w)));
    if head < HEADS + KV_HEADS {
        let to = ((page * KV_HEADS + head - HEADS) * HALF + i) * PAGE + token;
        for (var j = 0u; j < EACH; j++) {
            keys[to + j * PAGE] = words[j];
        }
        return;
    }
    let to = ((page * KV_HEADS + head - HEADS - KV_HEADS) * PAGE + token) * HALF + i;
    for (var j = 0u; j < EACH; j++) {
        values[to + j] = words[j];
    }
}
