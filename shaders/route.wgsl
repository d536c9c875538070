// Which experts a token goes through (arXiv:1701.06538): the SLOTS greatest of softmax(likes[r]), each with its
// probability; where NORMED, those are divided by their sum. Of equal ones the first comes first. Rows that are not in
// use choose NONE, so that who reads the choice need not read the row table.
// Expects: EXPERTS, STRIDE (numbers of a row of likes), SLOTS, NORMED, ROWS, WG. Grid: (rows / WG).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> likes: array<f32>;         // [rows, STRIDE]
@group(0) @binding(2) var<storage, read_write> chosen: array<u32>;  // [rows, SLOTS]
@group(0) @binding(3) var<storage, read_write> weights: array<f32>; // [rows, SLOTS]

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = workgroup.x * WG + lane;
    if row >= ROWS {
        return;
    }
    if rows[row].sequence == NONE {
        for (var slot = 0u; slot < SLOTS; slot++) {
            chosen[row * SLOTS + slot] = NONE;
        }
        return;
    }
    let base = row * STRIDE;
    var greatest = likes[base];
    for (var e = 1u; e < EXPERTS; e++) {
        greatest = max(greatest, likes[base + e]);
    }
    var total = 0.0;
    for (var e = 0u; e < EXPERTS; e++) {
        total += exp(likes[base + e] - greatest);
    }
    var chosen_total = 0.0;
    // Each next one is the greatest of those that come after the last.
    var last = 0u;
    for (var slot = 0u; slot < SLOTS; slot++) {
        var best = EXPERTS;
        for (var e = 0u; e < EXPERTS; e++) {
            let like = likes[base + e];
            let after = slot == 0u || like < likes[base + last] || (like == likes[base + last] && e > last);
            if after && (best == EXPERTS || like > likes[base + min(best, EXPERTS - 1u)]) {
                best = e;
            }
        }
        // None is left only where likes are not numbers.
        last = min(best, EXPERTS - 1u);
        let p = exp(likes[base + last] - greatest);
        chosen_total += p;
        chosen[row * SLOTS + slot] = last;
        weights[row * SLOTS + slot] = p;
    }
    let whole = select(total, chosen_total, NORMED);
    for (var slot = 0u; slot < SLOTS; slot++) {
        weights[row * SLOTS + slot] /= whole;
    }
}
