// Multiplies matrices in registers: each subgroup leaves the sum over eight chains c of (c + STEPS) · A · B. What matrix units
// are measured with.
// Expects: STEPS, SIZE, LANES (of a subgroup); MatrixA, MatrixB, MatrixC. Grid: (subgroups / 4).

@group(0) @binding(0) var<storage, read> x: array<f16>;         // A, then B: [2, SIZE, SIZE]
@group(0) @binding(1) var<storage, read_write> out: array<f32>; // [subgroups, SIZE, SIZE]

@compute @workgroup_size(4u * LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let a = coopLoadT<MatrixA>(&x[0], SIZE);
    let b = coopLoadT<MatrixB>(&x[SIZE * SIZE], SIZE);
    // Eight chains: none has to wait for itself, and no two are the same.
    var y0: MatrixC;
    var y1 = coopMultiplyAdd(a, b, y0);
    var y2 = coopMultiplyAdd(a, b, y1);
    var y3 = coopMultiplyAdd(a, b, y2);
    var y4 = coopMultiplyAdd(a, b, y3);
    var y5 = coopMultiplyAdd(a, b, y4);
    var y6 = coopMultiplyAdd(a, b, y5);
    var y7 = coopMultiplyAdd(a, b, y6);
    for (var s = 0u; s < STEPS; s++) {
        y0 = coopMultiplyAdd(a, b, y0);
        y1 = coopMultiplyAdd(a, b, y1);
        y2 = coopMultiplyAdd(a, b, y2);
        y3 = coopMultiplyAdd(a, b, y3);
        y4 = coopMultiplyAdd(a, b, y4);
        y5 = coopMultiplyAdd(a, b, y5);
        y6 = coopMultiplyAdd(a, b, y6);
        y7 = coopMultiplyAdd(a, b, y7);
    }
    let all = y0 + y1 + y2 + y3 + y4 + y5 + y6 + y7;
    coopStoreT(all, &out[(workgroup.x * 4u + lane / LANES) * SIZE * SIZE], SIZE);
}
