// Multiplies and adds in registers: out[i] = the sum over three chains c of y_c, where y_c begins as x[i] + c and
// becomes y_c · a + b STEPS times, a = x[0].x and b = x[0].y. What arithmetic is measured with.
// Expects: N (vectors), STEPS, WG. Grid: (vectors / WG).

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;         // [N]
@group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>; // [N]

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) global: vec3<u32>) {
    let i = global.x;
    if i >= N {
        return;
    }
    let a = vec4<f32>(x[0].x);
    let b = vec4<f32>(x[0].y);
    let y = x[i];
    // Three chains: none has to wait for itself, and a processor's registers hold them. Eight steps a turn: where lanes are a
    // processor's, each turn of a loop has its price.
    var y0 = y;
    var y1 = y + 1.0;
    var y2 = y + 2.0;
    for (var s = 0u; s < STEPS / 8u; s++) {
        y0 = fma(y0, a, b); y1 = fma(y1, a, b); y2 = fma(y2, a, b);
        y0 = fma(y0, a, b); y1 = fma(y1, a, b); y2 = fma(y2, a, b);
        y0 = fma(y0, a, b); y1 = fma(y1, a, b); y2 = fma(y2, a, b);
        y0 = fma(y0, a, b); y1 = fma(y1, a, b); y2 = fma(y2, a, b);
        y0 = fma(y0, a, b); y1 = fma(y1, a, b); y2 = fma(y2, a, b);
        y0 = fma(y0, a, b); y1 = fma(y1, a, b); y2 = fma(y2, a, b);
        y0 = fma(y0, a, b); y1 = fma(y1, a, b); y2 = fma(y2, a, b);
        y0 = fma(y0, a, b); y1 = fma(y1, a, b); y2 = fma(y2, a, b);
    }
    for (var s = 0u; s < STEPS % 8u; s++) {
        y0 = fma(y0, a, b); y1 = fma(y1, a, b); y2 = fma(y2, a, b);
    }
    out[i] = y0 + y1 + y2;
}
