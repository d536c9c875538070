// The same as multiply_add.wgsl in 16-bit floats: out[i] = the sum over eight chains c of y_c, where y_c begins as x[i] + c and
// becomes y_c · a + b STEPS times, a = x[0].x and b = x[0].y.
// Expects: N (vectors), STEPS, WG. Grid: (vectors / WG).

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;         // [N]
@group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>; // [N]

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) global: vec3<u32>) {
    let i = global.x;
    if i >= N {
        return;
    }
    let a = vec4<f16>(f16(x[0].x));
    let b = vec4<f16>(f16(x[0].y));
    let y = vec4<f16>(x[i]);
    // Eight chains: none has to wait for itself.
    var y0 = y; var y1 = y + 1.0h; var y2 = y + 2.0h; var y3 = y + 3.0h;
    var y4 = y + 4.0h; var y5 = y + 5.0h; var y6 = y + 6.0h; var y7 = y + 7.0h;
    for (var s = 0u; s < STEPS; s++) {
        y0 = fma(y0, a, b); y1 = fma(y1, a, b); y2 = fma(y2, a, b); y3 = fma(y3, a, b);
        y4 = fma(y4, a, b); y5 = fma(y5, a, b); y6 = fma(y6, a, b); y7 = fma(y7, a, b);
    }
    out[i] = vec4<f32>(y0 + y1 + y2 + y3 + y4 + y5 + y6 + y7);
}
