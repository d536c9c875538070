// Queries, keys and values as a product left them: what rope_store.wgsl would do, done where one row of each sequence looks at
// its own key last. Who has the slice of the keys which that is in puts it into the cache first. Follows pairs.wgsl, a kernel of
// attention, and store/, which says where keys and values lie.
//
// Expects, besides what those do: HALF and TURNS multiples of 4, PAGE, MAX_PAGES.

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> pages: array<u32>;           // [sequences, MAX_PAGES]
@group(0) @binding(2) var<storage, read> rotation: array<vec4<f32>>;  // [context, TURNS] cos, sin
@group(0) @binding(3) var<storage, read> qkv: array<vec4<f32>>;       // [rows, (HEADS + 2·KV_HEADS) · 2·HALF]
@group(0) @binding(6) var<storage, read_write> out: array<f32>;       // [rows, HEADS · 2·HALF], or what slices leave

const APPEND: bool = true;

fn query_pairs(r: u32, head: u32, i: u32) -> array<vec4<f32>, 2> {
    return pairs(r, head, i);
}

// Puts the key and the value of row r into the cache, by so many lanes.
fn append(r: u32, kv_head: u32, lane: u32, lanes: u32) {
    let row = rows[r];
    let page = pages[row.sequence * MAX_PAGES + row.position / PAGE] * KV_HEADS + kv_head;
    let token = row.position % PAGE;
    for (var i = lane * 4u; i < HALF; i += lanes * 4u) {
        store_key(page, token, i, words_of_pairs(pairs(r, HEADS + kv_head, i)));
        store_value(page, token, i, words_of_pairs(pairs(r, HEADS + KV_HEADS + kv_head, i)));
    }
}
