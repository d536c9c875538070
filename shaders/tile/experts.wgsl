// The rows of matmul_tile: slots of rows that were sorted by expert (shaders/sort_experts.wgsl), each tile with the matrix of its
// expert. All experts' matrices are one, below one another, of which a shard may have a part; see matmul_experts.wgsl.
// Where SPREAD, all slots of a row have one row of x, and out has of all slots gate and then up; else both have a row a slot:
// out[r, s, n] = Σ_k x[r, s, k] · W[e·N + n, k].
// Expects: N (rows of an expert, a multiple of 8), COUNT (rows of this shard of W), FIRST (the first of them), SLOTS, SPREAD.

@group(0) @binding(0) var<storage, read> chosen: array<u32>;          // [rows, SLOTS] experts
@group(0) @binding(1) var<storage, read> order: array<u32>;           // [tiles, 64] slots of rows, or NONE
@group(0) @binding(2) var<storage, read> x: array<Loaded>;            // [rows, K], or [rows, SLOTS, K]
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>; // [rows, SLOTS · N], or [rows, SLOTS, N]

// Where the quad of W lies that a lane has: where it has none, at the beginning.
struct Place { tile: u32, quad: u32, n: u32, here: bool }

// Whether there is a slot, and of its expert's rows from here on one in this shard.
fn any_used(tile: u32, first_row: u32) -> bool {
    if order[first_row] == NONE {
        return false;
    }
    let row = chosen[order[first_row]] * N + tile * 64u;
    let end = row + min(64u, N - tile * 64u);
    return row < FIRST + COUNT && end > FIRST;
}

fn place_of(tile: u32, first_row: u32, quad: u32) -> Place {
    let n = tile * 64u + quad * 4u;
    let row = chosen[order[first_row]] * N + n;
    let here = n < N && row >= FIRST && row - FIRST < COUNT;
    let at = select(0u, row - FIRST, here);
    return Place(at / 64u, at % 64u / 4u, n, here);
}

// Where there is no slot, the first one again.
fn row_of_x(first_row: u32, i: u32) -> u32 {
    let slot = order[first_row + i];
    let there = select(order[first_row], slot, slot != NONE);
    return select(there, there / SLOTS, SPREAD);
}

// Whether any of eight rows is worth multiplying: no slot comes behind NONE.
fn part_used(row: u32) -> bool {
    return order[row] != NONE;
}

fn put_row(mine: Place, row: u32, sums: vec4<f32>) {
    let slot = order[row];
    if slot != NONE && mine.here {
        let h = N / 2u;
        let apart = slot / SLOTS * SLOTS * N + mine.n / h * SLOTS * h + slot % SLOTS * h + mine.n % h;
        out[select(slot * N + mine.n, apart, SPREAD) / 4u] = sums;
    }
}
