// What matmul_tile multiplies: 16-bit floats (shaders/halve.wgsl), which are half as much to read from workgroup memory.

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> x: array<Loaded>;      // [rows, K] halves
@group(0) @binding(2) var<storage, read> scales: array<f32>;    // [rows]
@group(0) @binding(3) var<storage, read_write> out: array<f32>; // [rows, STRIDE]

alias Loaded = vec2<u32>; // four columns of a row of x
alias Kept = vec4<f16>;   // four numbers in workgroup memory

fn keep(loaded: Loaded) -> Kept {
    return Kept(vec4<f32>(unpack2x16float(loaded.x), unpack2x16float(loaded.y)));
}

// What the sums of a row are multiplied with.
fn scale_of(row: u32) -> f32 {
    return scales[row];
}

// Rows that are not in use were not made halves of.
fn wanted(row: u32) -> bool {
    return row < ROWS && rows[row].sequence != NONE;
}
