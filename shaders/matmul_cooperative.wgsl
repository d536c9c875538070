// out[t, n] (+)= Σ_k x[t, k] · W[n, k] for many rows t by matrix units, which multiply 16-bit floats and add up 32-bit ones:
// for GPUs that have them. x comes from halve.wgsl; weights are rounded to 16 bits.
//
// Four subgroups compute a T × 64 tile of out, each a quarter of it in square matrices of SIZE. Steps of 64 columns: lanes
// unpack blocks of W and copy x into workgroup memory, from where subgroups load their matrices.
//
// Subgroups are told apart by the number of a lane: a kernel that used subgroup operations beside matrices crashed one
// compiler. At the end, matrices pass through a corner of workgroup memory, since only lanes can scale, add and stop at an edge.
//
// Expects: K, N (rows of this shard), FIRST (where they stand in out), STRIDE (of out), ADD, GROUP, GROUPS, ROWS (capacity
// of the row table), T (rows of a tile), SIZE, LANES (of a subgroup); MatrixA, MatrixB, MatrixC; outputs.wgsl; a format.
// Grid: (tiles, rows / T).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> x: array<vec4<f16>>;   // [rows, K]
@group(0) @binding(2) var<storage, read> x_scales: array<f32>;  // [rows]
@group(0) @binding(3) var<storage, read_write> out: array<f32>; // [rows, STRIDE]

const WG: u32 = 4u * LANES;
const STEP: u32 = 64u;
const PITCH: u32 = STEP / 4u + 2u;   // vectors from one row to the next: not all in the same banks
const DOWN: u32 = T / 2u / SIZE;     // matrices of a subgroup, along t
const ACROSS: u32 = 32u / SIZE;      // and along n

var<workgroup> weights: array<vec4<f16>, 64u * PITCH>; // [64 rows of W, STEP]
var<workgroup> inputs: array<vec4<f16>, T * PITCH>;    // [T, STEP]
var<workgroup> corner: array<f32, 4u * SIZE * SIZE>;   // a matrix of each subgroup

// What a lane brings of a step into workgroup memory: blocks of W, and vectors of x.
const BLOCKS: u32 = (16u * STEP / 8u + WG - 1u) / WG;
const VECTORS: u32 = (T * STEP / 4u + WG - 1u) / WG;

struct Share {
    words: array<Words, BLOCKS>,
    scales: array<Scales, BLOCKS>,
    x: array<vec4<f16>, VECTORS>,
}

// Rows and columns behind the last ones are the last ones again.
fn fetch(tile: u32, first_row: u32, step: u32, lane: u32) -> Share {
    var share: Share;
    for (var i = 0u; i < BLOCKS; i++) {
        let at = i * WG + lane;
        let block = min(step / 8u + at / 16u, K / 8u - 1u);
        share.words[i] = load_words(tile, at % 16u, block);
        share.scales[i] = load_scales(tile, at % 16u, block * 8u / GROUP);
    }
    for (var i = 0u; i < VECTORS; i++) {
        let at = i * WG + lane;
        let r = min(first_row + at / (STEP / 4u), ROWS - 1u);
        share.x[i] = x[r * (K / 4u) + min(step / 4u + at % (STEP / 4u), K / 4u - 1u)];
    }
    return share;
}

// Puts it there; what is behind the last column, or the last row, counts nothing.
fn spread(share: Share, first_row: u32, step: u32, lane: u32) {
    for (var i = 0u; i < BLOCKS; i++) {
        let at = i * WG + lane;
        let quad = at % 16u;
        let block = at / 16u;
        if block < STEP / 8u {
            var w: array<vec4<f32>, 8>;
            if step / 8u + block < K / 8u {
                w = weights_of(share.words[i], group_of(share.scales[i]));
            }
            for (var j = 0u; j < 4u; j++) {
                let to = (quad * 4u + j) * PITCH + block * 2u;
                weights[to] = vec4<f16>(vec4<f32>(w[0][j], w[1][j], w[2][j], w[3][j]));
                weights[to + 1u] = vec4<f16>(vec4<f32>(w[4][j], w[5][j], w[6][j], w[7][j]));
            }
        }
    }
    for (var i = 0u; i < VECTORS; i++) {
        let at = i * WG + lane;
        let r = at / (STEP / 4u);
        let k = at % (STEP / 4u);
        if r < T {
            inputs[r * PITCH + k] = select(vec4<f16>(), share.x[i], first_row + r < ROWS && step / 4u + k < K / 4u);
        }
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_row = workgroup.y * T;
    // If none of the rows is in use there are no columns to add up: where matrices are, control flow is that of all lanes.
    let end_row = min(first_row + T, ROWS);
    var first_used = first_row;
    while first_used < end_row && rows[first_used].sequence == NONE {
        first_used += 1u;
    }
    let columns = select(K, 0u, first_used == end_row);
    let subgroup = lane / LANES;
    let down = subgroup / 2u * (T / 2u);  // where its quarter begins, along t
    let across = subgroup % 2u * 32u;     // and along n
    var sum: array<MatrixC, DOWN * ACROSS>;
    // The next step is on its way while this one is multiplied.
    var next = fetch(workgroup.x, first_row, 0u, lane);
    for (var step = 0u; step < columns; step += STEP) {
        spread(next, first_row, step, lane);
        workgroupBarrier();
        if step + STEP < columns {
            next = fetch(workgroup.x, first_row, step + STEP, lane);
        }
        for (var k = 0u; k < STEP; k += SIZE) {
            var b: array<MatrixB, ACROSS>;
            for (var j = 0u; j < ACROSS; j++) {
                b[j] = coopLoad<MatrixB>(&weights[(across + j * SIZE) * PITCH + k / 4u], PITCH);
            }
            for (var i = 0u; i < DOWN; i++) {
                let a = coopLoadT<MatrixA>(&inputs[(down + i * SIZE) * PITCH + k / 4u], PITCH);
                for (var j = 0u; j < ACROSS; j++) {
                    sum[i * ACROSS + j] = coopMultiplyAdd(a, b[j], sum[i * ACROSS + j]);
                }
            }
        }
        workgroupBarrier();
    }
    for (var m = 0u; m < DOWN * ACROSS; m++) {
        coopStoreT(sum[m], &corner[subgroup * SIZE * SIZE], SIZE);
        workgroupBarrier();
        for (var i = lane % LANES * FOLD; i < SIZE * SIZE; i += LANES * FOLD) {
            let r = first_row + down + m / ACROSS * SIZE + i / SIZE;
            let n = workgroup.x * 64u + across + m % ACROSS * SIZE + i % SIZE;
            if r < ROWS {
                if rows[r].sequence != NONE {
                    let at = subgroup * SIZE * SIZE + i;
                    put_output(r, n, corner[at] * x_scales[r], corner[at + FOLD - 1u] * x_scales[r]);
                }
            }
        }
        workgroupBarrier();
    }
}
