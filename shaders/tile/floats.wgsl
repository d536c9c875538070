// What matmul_tile multiplies: 32-bit floats, as they are.

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;   // [rows, K]
@group(0) @binding(2) var<storage, read_write> out: array<f32>; // [rows, STRIDE]

alias Loaded = vec4<f32>; // four columns of a row of x
alias Kept = vec4<f32>;   // four numbers in workgroup memory

fn keep(loaded: Loaded) -> Kept {
    return loaded;
}

// What the sums of a row are multiplied with.
fn scale_of(row: u32) -> f32 {
    return 1.0;
}

// Rows that are not in use are computed too.
fn wanted(row: u32) -> bool {
    return row < ROWS;
}
