// Which slots of which rows go through each expert, expert by expert, in tiles of T none of which has slots of two experts:
// order[i] = r·SLOTS + s, or NONE, which no slot follows in its tile.
//
// Expert e has the tiles from ⌊before / T⌋ + e on, where before is how many slots go through experts before it. Those are enough
// whatever the others have, since ⌊a / T⌋ + ⌈b / T⌉ <= ⌊(a + b) / T⌋ + 1, and so no expert waits for another.
//
// Expects: CHOSEN (rows · SLOTS), EXPERTS, T, TILES (⌊CHOSEN / T⌋ + EXPERTS), WG. Grid: (experts).

@group(0) @binding(0) var<storage, read> chosen: array<u32>;      // [rows, SLOTS] the expert, NONE for rows not in use
@group(0) @binding(1) var<storage, read_write> order: array<u32>; // [TILES, T]

// Slots that each lane has: neighbours, so that an expert's are in order.
const EACH: u32 = (CHOSEN + WG - 1u) / WG;

var<workgroup> found: array<vec2<u32>, WG>; // of experts before, of this one

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let expert = workgroup.x;
    let first = lane * EACH;
    let end = min(first + EACH, CHOSEN);
    var own: vec2<u32>;
    for (var i = first; i < end; i++) {
        let other = chosen[i];
        own += vec2<u32>(u32(other < expert), u32(other == expert));
    }
    found[lane] = own;
    workgroupBarrier();
    var total: vec2<u32>;
    var at = 0u;
    for (var other = 0u; other < WG; other++) {
        if other == lane {
            at = total.y;
        }
        total += found[other];
    }
    let start = (total.x / T + expert) * T;
    // What it leaves of its tiles; the last expert also what all experts leave.
    let rest = select(((total.x + total.y) / T + expert + 1u) * T, TILES * T, expert + 1u == EXPERTS);
    for (var i = start + total.y + lane; i < rest; i += WG) {
        order[i] = NONE;
    }
    at += start;
    for (var i = first; i < end; i++) {
        if chosen[i] == expert {
            order[at] = i;
            at += 1u;
        }
    }
}
