// Activations as 8-bit codes, for packed dot products: for each UNIT columns of a row one scale, by which the greatest becomes
// 127 or -127. Blocks of eight columns take two words: in turn, or, where ALTERNATING, columns 0 2 4 6 and 1 3 5 7.
// A row that holds what is not finite keeps a scale that is not.
// Expects: K (columns), UNIT, UNITS (of a row), ALTERNATING, WG. Grid: (UNITS / WG, rows).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;            // [rows, K]
@group(0) @binding(2) var<storage, read_write> scales: array<vec2<f32>>; // [rows, UNITS] scale, sum of the codes
@group(0) @binding(3) var<storage, read_write> codes: array<vec2<u32>>;  // [rows, K/8]

// 2^-100: below, all are 0.
const LEAST: u32 = 27u << 23u;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.y;
    let unit = id.x;
    if unit >= UNITS || rows[row].sequence == NONE {
        return;
    }
    let first = row * (K / 8u) + unit * UNIT / 8u;
    let end = row * (K / 8u) + min((unit + 1u) * UNIT, K) / 8u;
    // As integers, floats without a sign are in the same order, and what is no number comes last.
    var most = vec4<u32>();
    for (var i = first * 2u; i < end * 2u; i++) {
        most = max(most, bitcast<vec4<u32>>(x[i]) & vec4<u32>(0x7fffffffu));
    }
    let greatest = max(max(most.x, most.y), max(most.z, most.w));
    let factor = select(0.0, 127.0 / bitcast<f32>(greatest), greatest > LEAST);
    var total = vec4<i32>();
    for (var i = first; i < end; i++) {
        let a = vec4<i32>(clamp(round(x[i * 2u] * factor), vec4<f32>(-127.0), vec4<f32>(127.0)));
        let b = vec4<i32>(clamp(round(x[i * 2u + 1u] * factor), vec4<f32>(-127.0), vec4<f32>(127.0)));
        total += a + b;
        if ALTERNATING {
            codes[i] = vec2<u32>(pack4xI8(vec4<i32>(a.xz, b.xz)), pack4xI8(vec4<i32>(a.yw, b.yw)));
        } else {
            codes[i] = vec2<u32>(pack4xI8(a), pack4xI8(b));
        }
    }
    let scale = select(0.0, bitcast<f32>(greatest) / 127.0, greatest > LEAST);
    scales[row * UNITS + unit] = vec2<f32>(scale, f32((total.x + total.y) + (total.z + total.w)));
}
