// Activations as 16-bit floats, for matrix units and tiles of such floats: halves[r] = x[r] / scales[r], scales[r] the power of two that puts the
// greatest of a row between 2^14 and 2^15. So none becomes infinite, and what is lost of small ones is 2^-39 of the greatest.
// Expects: K (columns), WG. Grid: (1, rows).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;            // [rows, K]
@group(0) @binding(2) var<storage, read_write> scales: array<f32>;       // [rows]
@group(0) @binding(3) var<storage, read_write> halves: array<vec2<u32>>; // [rows, K] pairs

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, t: Thread) {
    if rows[workgroup.y].sequence == NONE {
        return;
    }
    let base = workgroup.y * (K / 4u);
    var greatest = 0.0;
    for (var i = t.lane; i < K / 4u; i += WG) {
        let v = abs(x[base + i]);
        greatest = max(greatest, max(max(v.x, v.y), max(v.z, v.w)));
    }
    // From exponents alone, so that nothing is rounded. Neither power of two leaves the normal floats.
    let exponent = max((bitcast<u32>(workgroup_max(t, greatest)) >> 23u) & 255u, 15u);
    let factor = bitcast<f32>((268u - exponent) << 23u);
    if t.lane == 0u {
        scales[workgroup.y] = bitcast<f32>((exponent - 14u) << 23u);
    }
    for (var i = t.lane; i < K / 4u; i += WG) {
        let v = x[base + i] * factor;
        halves[base + i] = vec2<u32>(pack2x16float(v.xy), pack2x16float(v.zw));
    }
}
