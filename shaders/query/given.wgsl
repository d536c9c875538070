// Queries as rope_store.wgsl left them, and a cache in which it has put all keys and values. Follows a kernel of attention,
// and cache/, which says where those lie. Expects: HEADS, HALF.

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> pages: array<u32>;     // [sequences, MAX_PAGES]
@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>;   // [rows, HEADS · 2·HALF]
@group(0) @binding(5) var<storage, read_write> out: array<f32>; // [rows, HEADS · 2·HALF], or what slices leave

const APPEND: bool = false;

// Four pairs of a query from pair i on: the first of each, and the second.
fn query_pairs(r: u32, head: u32, i: u32) -> array<vec4<f32>, 2> {
    let at = ((r * HEADS + head) * 2u * HALF + i) / 4u;
    return array<vec4<f32>, 2>(q[at], q[at + HALF / 4u]);
}

// All are there.
fn append(r: u32, kv_head: u32, lane: u32, lanes: u32) {}
