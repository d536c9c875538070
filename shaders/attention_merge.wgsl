// Puts together what slices of the keys left: with s the slices of a row, m_s the greatest score of each, t_s the total
// and v_s the sums of e^(score − m_s): out = Σ_s e^(m_s − m) · v_s / Σ_s e^(m_s − m) · t_s, m the greatest m_s
// (arXiv:2205.14135, section 3.1). Follows slices.wgsl.
// Expects: HEADS, HALF, PAGE, WINDOW, SPLITS, ROWS, WG. Grid: (ROWS · HEADS · HALF / WG).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> partial: array<f32>;   // [rows, HEADS, SPLITS, 2·HALF + 2]
@group(0) @binding(2) var<storage, read_write> out: array<f32>; // [rows, HEADS · 2·HALF]

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let head_row = id.x / HALF;
    let pair = id.x % HALF;
    if head_row >= ROWS * HEADS {
        return;
    }
    let row = rows[head_row / HEADS];
    if row.sequence == NONE {
        return;
    }
    let count = slice_of(row.position, 0u).count;
    let first = place_of(head_row / HEADS, head_row % HEADS, 0u);
    const EACH: u32 = 2u * HALF + 2u;
    var greatest = -3.0e38;
    for (var s = 0u; s < count; s++) {
        greatest = max(greatest, partial[first + s * EACH + 2u * HALF + 1u]);
    }
    var total = 0.0;
    var sum: vec2<f32>;
    for (var s = 0u; s < count; s++) {
        let at = first + s * EACH;
        let scale = exp(partial[at + 2u * HALF + 1u] - greatest);
        total += scale * partial[at + 2u * HALF];
        sum += scale * vec2<f32>(partial[at + pair], partial[at + HALF + pair]);
    }
    let to = head_row * 2u * HALF;
    out[to + pair] = sum.x / total;
    out[to + HALF + pair] = sum.y / total;
}
