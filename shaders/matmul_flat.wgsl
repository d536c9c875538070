// out[t, n] (+)= Σ_k x[t, k] · W[n, k] for T rows t: for devices of few lanes, whose compilers unroll no loop.
//
// One lane owns Q quads, 4·Q rows of W. For several rows of x it unpacks a chunk of columns of them, and then goes over the rows
// of x. Weights lie in an array that is indexed by constants alone, since loops over columns and quads are written out: such an
// array is memory that costs an instruction to read. Variables would cost more: a compiler that has few registers gives them to
// what lives longest, and spills all between. The loop over rows of x is not written out, so that its code stays in the
// processor's cache for instructions; its sums are in the array too, and cost tens of instructions each. So one pipeline, of T
// rows, serves for any fewer but one. A lane loads one of four columns of x, and quad operations hand it to the others, or
// swap it. Loops end where their bodies do: see matmul_uniform.wgsl.
//
// Expects: K, N (rows of this shard), FIRST (where they stand in out), STRIDE (of out), T, Q (at most 8 for one row of x, else 4),
// ADD, GROUP, GROUPS, WG; outputs.wgsl; a format. Grid: (lanes / WG, rows of x / T, rounded up).

@group(0) @binding(0) var<storage, read> rows: array<Row>;         // [rows of x]
@group(0) @binding(1) var<storage, read> x: array<f32>;           // [rows of x, K]
@group(0) @binding(2) var<storage, read_write> out: array<f32>;   // [rows of x, STRIDE]

// No more of them are written out.
const_assert Q <= select(4u, 8u, T == 1u);

// Columns of weights that are unpacked at a time.
const CHUNK: u32 = 32u;

// Lanes behind the last quad of the last tile take that one, or where a lane's quads are in one tile the last so many.
const LAST_QUAD: u32 = (N + 63u) / 64u * 16u - 1u;

// Sums [T, Q], then a chunk of weights [Q, CHUNK]; for one row of x, sums of a group [Q].
const WEIGHTS: u32 = T * Q;
var<private> kept: array<vec4<f32>, WEIGHTS + select(Q * CHUNK, Q, T == 1u)>;

var<private> groups: array<Group, Q>;

// Where quad q is, worked out once: compilers do not move that out of a loop.
var<private> tiles: array<u32, Q>;
var<private> places: array<u32, Q>;

// All bits of number i in lane i of four, else none.
var<private> own: array<u32, 4>;

// What lane `own` is all bits of has, in all four.
fn from_lane(bits: u32, own: u32) -> f32 {
    let alone = bits & own;
    let two = alone | quadSwapX(alone);
    return bitcast<f32>(two | quadSwapY(two));
}

// The four lanes' numbers, in lane order, in all of them.
fn four(mine: f32) -> vec4<f32> {
    let bits = bitcast<u32>(mine);
    return vec4<f32>(from_lane(bits, own[0]), from_lane(bits, own[1]), from_lane(bits, own[2]), from_lane(bits, own[3]));
}

// What a row of x has in eight columns, as codes want it.
struct Eight { a: vec4<f32>, b: vec4<f32> }

// Whether lanes take the columns of half a block in turns of their own, where codes lie in words: in turn s lane i takes column
// `i ^ s`, by a mask of its own. So it needs of x what another lane loaded, by one swap, and not a lane's number in all four.
const BY_TURNS: bool = BITS != 0u;

// Whether a code of the half has the uppermost bit of its word, which would be taken for a sign.
fn signed(half: u32) -> bool {
    return BY_TURNS && (half * 4u * BITS) % 32u + 4u * BITS == 32u;
}

// Masks of the codes of eight columns in a lane's turns, and the uppermost bit. In memory, since compilers of such devices fetch a
// constant anew wherever it stands.
var<private> masks: array<u32, 9>;

// What codes of a lane's own column of x in either half are multiplied with, since they are left where they lie.
var<private> align: array<f32, 2>;

// What its codes are less, that have the uppermost bit: they are counted from there.
var<private> less: f32;

fn prepare(lane: u32) {
    if T > 1u || !BY_TURNS {
        for (var i = 0u; i < 4u; i++) {
            own[i] = select(0u, 0xffffffffu, i == lane);
        }
        return;
    }
    for (var i = 0u; i < 9u; i++) {
        let first = (i / 4u * 4u * BITS) % 32u;
        masks[i] = select(((1u << BITS) - 1u) << (first + ((i ^ lane) & 3u) * BITS), 0x80000000u, i == 8u);
    }
    align[0] = ALIGN_A[lane];
    align[1] = ALIGN_B[lane];
    less = select(0.0, f32((1u << BITS) >> 1u), lane == 3u);
}

// Of two numbers that this lane loaded, one of each half, what its codes make too little.
fn missing(first: f32, second: f32) -> f32 {
    return (select(0.0, first, signed(0u)) + select(0.0, second, signed(1u))) * less;
}

fn turns(mine: f32) -> vec4<f32> {
    return vec4<f32>(mine, quadSwapX(mine), quadSwapY(mine), quadSwapDiagonal(mine));
}

fn eight(first: f32, second: f32) -> Eight {
    if BY_TURNS {
        return Eight(turns(first * align[0]), turns(second * align[1]));
    }
    return Eight(four(first) * ALIGN_A, four(second) * ALIGN_B);
}

fn by_turn(word: vec4<u32>, i: u32) -> vec4<f32> {
    // The mask comes first: compilers write over a first operand, and the word is still wanted.
    return vec4<f32>(vec4<i32>(vec4<u32>(masks[i]) & word));
}

// Sums of quad q with one half of a block, by turns. In which order a row of W is added up depends on the lane that has it; by pairs,
// which would not, it took a seventh longer.
fn dot_half(word: vec4<u32>, half: u32, x: vec4<f32>, sums: vec4<f32>) -> vec4<f32> {
    var w = word;
    if signed(half) {
        w = word ^ vec4<u32>(masks[8]);
    }
    let i = half * 4u;
    return sums + by_turn(w, i) * x.x + by_turn(w, i + 1u) * x.y + by_turn(w, i + 2u) * x.z + by_turn(w, i + 3u) * x.w;
}

fn dot_two_columns(words: ptr<function, Words>, i: u32, x: f32, y: f32, sums: vec4<f32>) -> vec4<f32> {
    let columns = columns_of(words, i);
    return sums + columns[0] * x + columns[1] * y;
}

// Where the quads of a lane are in one tile, what row of their planes they are in is worked out once for all.
const ONE_TILE: bool = 16u % Q == 0u;

struct Where { tile: u32, place: u32 }

fn quad_at(q: u32, first: Where) -> Where {
    if ONE_TILE {
        return Where(first.tile, first.place + q);
    }
    return Where(tiles[q], places[q]);
}

// All four rows of a column, then the next: a mask and a number of x serve four.
fn dot_codes(q: u32, first: Where, block: u32, x: Eight) {
    let at = quad_at(q, first);
    var words = load_words(at.tile, at.place, block);
    let sums = kept[WEIGHTS + q];
    if BY_TURNS {
        let half = dot_half(word_of(words, 0u), 0u, x.a, sums);
        kept[WEIGHTS + q] = dot_half(word_of(words, 1u), 1u, x.b, half);
    } else {
        let two = dot_two_columns(&words, 0u, x.a.x, x.a.y, sums);
        let four = dot_two_columns(&words, 1u, x.a.z, x.a.w, two);
        let six = dot_two_columns(&words, 2u, x.b.x, x.b.y, four);
        kept[WEIGHTS + q] = dot_two_columns(&words, 3u, x.b.z, x.b.w, six);
    }
}

fn finish_codes(q: u32, first: Where, g: u32, total: f32, rest: f32) {
    let at = quad_at(q, first);
    let sums = kept[WEIGHTS + q] + vec4<f32>(rest);
    kept[q] = kept[q] + finish(sums, total, load_group(at.tile, at.place, g));
    kept[WEIGHTS + q] = vec4<f32>();
}

// The sum of what four lanes have.
fn of_all(mine: f32) -> f32 {
    let two = mine + quadSwapX(mine);
    return two + quadSwapY(two);
}

// For one row of x: by codes, each of which serves once.
fn add_codes(at: u32) {
    let own_first = Where(tiles[0], places[0]);
    var g = 0u;
    var block = 0u;
    loop {
        var total: f32;
        var rest: f32;
        let end = min(block + GROUP / 8u, K / 8u);
        loop {
            let first = x[at + block * 8u];
            let second = x[at + block * 8u + 4u];
            total += first + second;
            if BY_TURNS { rest += missing(first, second); }
            let both = eight(first, second);
            dot_codes(0u, own_first, block, both);
            if Q > 1u { dot_codes(1u, own_first, block, both); }
            if Q > 2u { dot_codes(2u, own_first, block, both); }
            if Q > 3u { dot_codes(3u, own_first, block, both); }
            if Q > 4u { dot_codes(4u, own_first, block, both); }
            if Q > 5u { dot_codes(5u, own_first, block, both); }
            if Q > 6u { dot_codes(6u, own_first, block, both); }
            if Q > 7u { dot_codes(7u, own_first, block, both); }
            block++;
            if block == end {
                break;
            }
        }
        let all = of_all(total);
        let left = of_all(rest);
        finish_codes(0u, own_first, g, all, left);
        if Q > 1u { finish_codes(1u, own_first, g, all, left); }
        if Q > 2u { finish_codes(2u, own_first, g, all, left); }
        if Q > 3u { finish_codes(3u, own_first, g, all, left); }
        if Q > 4u { finish_codes(4u, own_first, g, all, left); }
        if Q > 5u { finish_codes(5u, own_first, g, all, left); }
        if Q > 6u { finish_codes(6u, own_first, g, all, left); }
        if Q > 7u { finish_codes(7u, own_first, g, all, left); }
        g++;
        if g == GROUPS {
            break;
        }
    }
}

// Eight columns of weights of quad q, from column c of a chunk on; behind the last column they are nothing.
fn keep_block(q: u32, block: u32, c: u32) {
    let i = WEIGHTS + q * CHUNK + c;
    if K % CHUNK != 0u && block >= K / 8u {
        for (var column = 0u; column < 8u; column++) {
            kept[i + column] = vec4<f32>();
        }
        return;
    }
    if c == 0u || GROUP % CHUNK != 0u {
        groups[q] = load_group(tiles[q], places[q], block * 8u / GROUP);
    }
    let w = load_block(tiles[q], places[q], block, groups[q]);
    kept[i] = w[0];
    kept[i + 1u] = w[1];
    kept[i + 2u] = w[2];
    kept[i + 3u] = w[3];
    kept[i + 4u] = w[4];
    kept[i + 5u] = w[5];
    kept[i + 6u] = w[6];
    kept[i + 7u] = w[7];
}

fn keep_weights(q: u32, block: u32) {
    keep_block(q, block, 0u);
    keep_block(q, block + 1u, 8u);
    keep_block(q, block + 2u, 16u);
    keep_block(q, block + 3u, 24u);
}

// Two columns of row j, from i on. Weights are loaded before the first is used: else compilers take each for an operand in
// memory, whose product needs a copy of the other one.
fn dot_two(i: u32, j: u32, a: f32, b: f32) -> f32 {
    let x = kept[i][j];
    let y = kept[i + 1u][j];
    return x * a + y * b;
}

fn dot_row(i: u32, j: u32, a: vec4<f32>, b: vec4<f32>, sum: f32) -> f32 {
    return sum + dot_two(i, j, a.x, a.y) + dot_two(i + 2u, j, a.z, a.w)
        + dot_two(i + 4u, j, b.x, b.y) + dot_two(i + 6u, j, b.z, b.w);
}

// Sums of the four rows of quad q with eight more columns, from column c of a chunk on.
fn dot_rows(q: u32, c: u32, a: vec4<f32>, b: vec4<f32>, sums: vec4<f32>) -> vec4<f32> {
    let i = WEIGHTS + q * CHUNK + c;
    return vec4<f32>(
        dot_row(i, 0u, a, b, sums.x), dot_row(i, 1u, a, b, sums.y), dot_row(i, 2u, a, b, sums.z),
        dot_row(i, 3u, a, b, sums.w));
}

// Four columns of a row of x that starts at `at`; what is behind its last column does not count.
fn columns(at: u32, column: u32) -> vec4<f32> {
    if K % CHUNK == 0u {
        return four(x[at + column]);
    }
    return four(x[at + min(column, K - 4u)]);
}

struct Sums { of0: vec4<f32>, of1: vec4<f32>, of2: vec4<f32>, of3: vec4<f32> }

// Sums of all quads for a row of x, with eight more columns, from column c of a chunk on.
fn add_columns(row: u32, column: u32, c: u32, sums: Sums) -> Sums {
    let a = columns(row, column + c);
    let b = columns(row, column + c + 4u);
    var all = sums;
    all.of0 = dot_rows(0u, c, a, b, sums.of0);
    if Q > 1u { all.of1 = dot_rows(1u, c, a, b, sums.of1); }
    if Q > 2u { all.of2 = dot_rows(2u, c, a, b, sums.of2); }
    if Q > 3u { all.of3 = dot_rows(3u, c, a, b, sums.of3); }
    return all;
}

// For several rows of x, 0 .. end: by weights, each of which serves all of them.
fn add_weights(at: u32, end: u32) {
    var column = 0u;
    loop {
        keep_weights(0u, column / 8u);
        if Q > 1u { keep_weights(1u, column / 8u); }
        if Q > 2u { keep_weights(2u, column / 8u); }
        if Q > 3u { keep_weights(3u, column / 8u); }
        var t = 0u;
        loop {
            let row = at + t * K;
            let eight = add_columns(row, column, 0u, Sums());
            let sixteen = add_columns(row, column, 8u, eight);
            let most = add_columns(row, column, 16u, sixteen);
            let all = add_columns(row, column, 24u, most);
            let s = t * Q;
            kept[s] = kept[s] + all.of0;
            if Q > 1u { kept[s + 1u] = kept[s + 1u] + all.of1; }
            if Q > 2u { kept[s + 2u] = kept[s + 2u] + all.of2; }
            if Q > 3u { kept[s + 3u] = kept[s + 3u] + all.of3; }
            t++;
            if t == end {
                break;
            }
        }
        column += CHUNK;
        if column >= K {
            break;
        }
    }
}

@compute @workgroup_size(WG)
fn main(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let first = workgroup.y * T;
    // Rows behind the last one in use are skipped.
    var end = min(T, arrayLength(&rows) - first);
    while end > 0u && rows[first + end - 1u].sequence == NONE {
        end -= 1u;
    }
    if end == 0u {
        return;
    }
    let column = lane & 3u;
    prepare(column);
    let quad = id.x * Q;
    for (var q = 0u; q < Q; q++) {
        let number = select(min(quad + q, LAST_QUAD), min(quad, LAST_QUAD + 1u - Q) + q, ONE_TILE);
        tiles[q] = number >> 4u;
        places[q] = number & 15u;
    }
    let at = first * K + column;
    if T == 1u {
        add_codes(at);
    } else {
        add_weights(at, end);
    }
    // Lanes behind the last row of W went on, since others wanted what they loaded.
    for (var t = 0u; t < end; t++) {
        for (var q = 0u; q < Q; q++) {
            put_quad(first + t, (quad + q) * 4u, kept[t * Q + q]);
        }
    }
}
