// Rows of 32-bit floats for tile/rows.wgsl.

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> x: array<Loaded>;      // [rows, K]
@group(0) @binding(2) var<storage, read_write> out: array<f32>; // [rows, STRIDE]

// What the sums of a row are multiplied with.
fn scale_of(row: u32) -> f32 {
    return 1.0;
}

// Rows that are not in use are computed too.
fn wanted(row: u32) -> bool {
    return row < ROWS;
}
