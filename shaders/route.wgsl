// Which experts a token goes through (arXiv:1701.06538): the SLOTS greatest of softmax(likes[r]), each with its
// probability; where NORMED, those are divided by their sum. Of equal ones the first comes first. Rows that are not in
// use choose NONE, so that who reads the choice need not read the row table.
// Expects: EXPERTS, STRIDE (numbers of a row of likes), SLOTS, NORMED, WG; reduce/. Grid: (rows).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> likes: array<f32>;         // [rows, STRIDE]
@group(0) @binding(2) var<storage, read_write> chosen: array<u32>;  // [rows, SLOTS]
@group(0) @binding(3) var<storage, read_write> weights: array<f32>; // [rows, SLOTS]

const LOWEST: f32 = -3.0e38;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, t: Thread) {
    let row = workgroup.x;
    if rows[row].sequence == NONE {
        for (var slot = t.lane; slot < SLOTS; slot += WG) {
            chosen[row * SLOTS + slot] = NONE;
        }
        return;
    }
    let base = row * STRIDE;
    var own = LOWEST;
    for (var e = t.lane; e < EXPERTS; e += WG) {
        own = max(own, likes[base + e]);
    }
    let greatest = workgroup_max(t, own);
    var whole = 0.0;
    if !NORMED {
        for (var e = t.lane; e < EXPERTS; e += WG) {
            whole += exp(likes[base + e] - greatest);
        }
        whole = workgroup_sum(t, whole);
    }
    // Each next one is the greatest of those that come after the last.
    var last = 0u;
    var last_like = greatest;
    for (var slot = 0u; slot < SLOTS; slot++) {
        var best = EXPERTS;
        var best_like = LOWEST;
        for (var e = t.lane; e < EXPERTS; e += WG) {
            let like = likes[base + e];
            let after = slot == 0u || like < last_like || (like == last_like && e > last);
            if after && (best == EXPERTS || like > best_like) {
                best = e;
                best_like = like;
            }
        }
        let like = workgroup_max(t, best_like);
        // Of the lanes that have one so great, the first; 24 bits hold its number.
        let first = workgroup_max(t, -f32(select(EXPERTS, best, best_like == like)));
        // None is left only where likes are not numbers.
        last = min(u32(-first), EXPERTS - 1u);
        last_like = like;
        let p = exp(like - greatest);
        if NORMED {
            whole += p;
        }
        if t.lane == 0u {
            chosen[row * SLOTS + slot] = last;
            weights[row * SLOTS + slot] = p;
        }
    }
    if t.lane == 0u {
        for (var slot = 0u; slot < SLOTS; slot++) {
            weights[row * SLOTS + slot] /= whole;
        }
    }
}
