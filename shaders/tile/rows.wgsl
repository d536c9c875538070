// The rows of matmul_tile: of a row table, one after the other. out[t, n] (+)= Σ_k x[t, k] · W[n, k].
// Expects: N (rows of this shard of W), FIRST (where they stand in out), STRIDE (of out), ADD, ROWS (of the row table, or of a
// part of it); outputs.wgsl; `rows`, `x`, `out`, scale_of and wanted: plain.wgsl or halves.wgsl.

// Where the quad of W lies that a lane has.
struct Place { tile: u32, quad: u32 }

fn any_used(tile: u32, first_row: u32) -> bool {
    let end_row = min(first_row + 64u, ROWS);
    var first_used = first_row;
    while first_used < end_row && rows[first_used].sequence == NONE {
        first_used += 1u;
    }
    return first_used < end_row;
}

fn place_of(tile: u32, first_row: u32, quad: u32) -> Place {
    return Place(tile, quad);
}

// Rows behind the last ones are the last ones again.
fn row_of_x(first_row: u32, i: u32) -> u32 {
    return min(first_row + i, ROWS - 1u);
}

// Whether any of eight rows is worth multiplying.
fn part_used(row: u32) -> bool {
    return true;
}

fn put_row(mine: Place, row: u32, sums: vec4<f32>) {
    if wanted(row) {
        put_vector(row, mine.tile * 64u + mine.quad * 4u, sums * scale_of(row));
    }
}
