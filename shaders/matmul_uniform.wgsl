// out[t, n] (+)= Σ_k x[t, k] · W[n, k] for up to T rows t: for devices whose lanes are a processor's.
//
// One lane owns Q quads, 4·Q rows of W, and loops over all of k. The activations lie in uniform buffers; a lane loads one of
// eight columns, or two of those of two rows, and hands it to the others. That is not for nothing, so Q quads share each of
// them, as T rows share each unpacked weight. Rows and out are windows of WINDOWS times T rows; x is in PARTS bindings, since
// one holds only so much, of which each has as many of the T rows.
//
// Where NORM, x is normed on the way. See norm.wgsl.
//
// Expects: K, N (rows of this shard), FIRST (where they stand in out), STRIDE (of out), T, WINDOWS, PARTS (1 or 2, divides
// T), Q, ADD, NORM, EPS, ONE_PLUS, GROUP, GROUPS, WG; floats/; share/; norm.wgsl; outputs.wgsl; a format.
// Grid: (lanes / WG, WINDOWS).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<uniform> x: array<Four, WINDOWS * EACH * K / 4u>; // [WINDOWS · EACH, K]
@group(0) @binding(2) var<uniform> y: array<Four, WINDOWS * EACH * K / 4u>; // the second part, or x again
@group(0) @binding(3) var<uniform> norm: array<Four, K / 4u>;               // its weight
@group(0) @binding(4) var<storage, read_write> out: array<f32>;             // [WINDOWS · T, STRIDE]

const EACH: u32 = T / PARTS; // rows of x of a window in one part

// Lanes behind the last quad of the last tile take that one.
const LAST_QUAD: u32 = (N + 63u) / 64u * 16u - 1u;

// Rows of x that eight lanes load for each other at a time, eight columns of each.
const R: u32 = select(1u, 2u, SHARED && LOADED == 2u && EACH % 2u == 0u);

// Blocks of columns a turn, of several rows: two, if a group has whole turns. If lanes do not load for each other, loads of x are
// so much code that two take long to compile.
const TURN: u32 = select(1u, 2u, SHARED && GROUP % 16u == 0u && K % 16u == 0u);

// In arrays as long as the loops over them: such loops llvmpipe unrolls, and so does not keep the arrays in memory.
var<private> sum: array<array<array<vec4<f32>, Q>, R>, T / R>;

struct Place { tile: u32, quad: u32 }

// Where the lane's quad q is, of which number `quad` is the first.
fn place_of(quad: u32, q: u32) -> Place {
    let number = min(quad + q, LAST_QUAD);
    return Place(number >> 4u, number & 15u);
}

// What a lane loads for all: of which row, which vector of two, and number of that; and which float of it, if but one is wanted.
var<private> own: vec4<u32>;

fn own_of(lane: u32) -> vec4<u32> {
    let one_row = vec4<u32>(0u, lane % 8u / 4u, lane % 4u / LOADED, lane % LOADED);
    return select(one_row, vec4<u32>(lane % 8u / 4u, lane % 4u / 2u, lane % 2u, 0u), R == 2u);
}

// Where that is in rows that begin with vector i: vector and number.
fn own_place(i: u32) -> vec2<u32> {
    return vec2<u32>(i + own.x * (K / 4u) + own.y, own.z);
}

// What lanes loaded, handed to all of them: eight columns of R rows.
fn share_own(mine: vec2<f32>) -> array<array<vec4<f32>, 2>, 2> {
    if R == 2u {
        return share_twos(mine);
    }
    return array<array<vec4<f32>, 2>, 2>(share(mine[own.w]), array<vec4<f32>, 2>());
}

// What a lane loads for all, of R rows that begin with vector i, the first of which is row t of a window.
fn load_own(t: u32, i: u32) -> vec2<f32> {
    if !SHARED {
        return vec2<f32>();
    }
    let place = own_place(i);
    if t >= EACH {
        return floats_of(y[place.x][place.y]);
    }
    return floats_of(x[place.x][place.y]);
}

// Columns i·4 .. i·4 + 8 of those rows: as lanes loaded them for each other, or else loaded now.
fn blocks_of(t: u32, i: u32, mine: vec2<f32>) -> array<array<vec4<f32>, 2>, 2> {
    if SHARED {
        return share_own(mine);
    }
    var v = array<vec4<f32>, 2>(four_floats(x[i]), four_floats(x[i + 1u]));
    if t >= EACH {
        v = array<vec4<f32>, 2>(four_floats(y[i]), four_floats(y[i + 1u]));
    }
    return array<array<vec4<f32>, 2>, 2>(v, v);
}

// The norm's factors of what a lane loads for all, of a block of columns.
fn own_factors(block: u32) -> vec2<f32> {
    if !SHARED {
        return vec2<f32>();
    }
    let weight = floats_of(norm[block * 2u + own.y][own.z]);
    return vec2<f32>(norm_factor(weight.x), norm_factor(weight.y));
}

// Squares of what a lane loads for all.
fn own_squares(mine: vec2<f32>) -> f32 {
    if R == 2u {
        return dot(mine, mine);
    }
    return mine[own.w] * mine[own.w];
}

// Columns of a row times the norm's factors.
fn normed(v: array<vec4<f32>, 2>, block: u32) -> array<vec4<f32>, 2> {
    return array<vec4<f32>, 2>(
        v[0] * norm_factors(four_floats(norm[block * 2u])), v[1] * norm_factors(four_floats(norm[block * 2u + 1u])));
}

// Of all columns of R rows, of what each lane added up if lanes load for each other.
fn sums_of_squares(squares: f32) -> array<f32, 2> {
    if SHARED {
        let all = share(squares);
        let each = array<f32, 2>(dot(all[0], vec4<f32>(1.0)), dot(all[1], vec4<f32>(1.0)));
        if R == 2u {
            return each;
        }
        return array<f32, 2>(each[0] + each[1], 0.0);
    }
    return array<f32, 2>(squares, 0.0);
}

// A block of columns of all quads. What is loaded is asked for together, before the first of it is used: a processor looks some
// hundred instructions ahead, and would else wait for one load after the other.
fn load_all(quad: u32, block: u32) -> array<Words, Q> {
    var words: array<Words, Q>;
    for (var q = 0u; q < Q; q++) {
        let place = place_of(quad, q);
        words[q] = load_words(place.tile, place.quad, block);
    }
    return words;
}

// Loops end where their bodies do, by a break there: llvmpipe breaks out of a loop by masking lanes off, and jumps at its end alone.
// A loop that asks first, in `for` or `continuing`, goes through its body once more, with no lane.

// For one row of x: by codes, each of which serves once.
fn add_codes(quad: u32, at: u32) {
    var squares: f32;
    var g = 0u;
    loop {
        var part: array<vec4<f32>, Q>;
        var total: vec4<f32>;
        let end = min((g + 1u) * GROUP, K) / 8u;
        var block = g * GROUP / 8u;
        loop {
            let words = load_all(quad, block);
            let i = at + block * 2u;
            var v: array<vec4<f32>, 2>;
            let mine = load_own(0u, i);
            if NORM && SHARED {
                squares += own_squares(mine);
                v = share(mine[own.w] * own_factors(block)[own.w]);
            } else {
                v = blocks_of(0u, i, mine)[0];
            }
            if NORM && !SHARED {
                squares += dot(v[0], v[0]) + dot(v[1], v[1]);
                v = normed(v, block);
            }
            total += v[0] + v[1];
            let a = v[0] * ALIGN_A;
            let b = v[1] * ALIGN_B;
            for (var q = 0u; q < Q; q++) {
                let c = codes_of(words[q]);
                var s = part[q];
                s += c[0] * a.x;
                s += c[1] * a.y;
                s += c[2] * a.z;
                s += c[3] * a.w;
                s += c[4] * b.x;
                s += c[5] * b.y;
                s += c[6] * b.z;
                s += c[7] * b.w;
                part[q] = s;
            }
            block++;
            if block == end {
                break;
            }
        }
        let all = (total.x + total.y) + (total.z + total.w);
        for (var q = 0u; q < Q; q++) {
            let place = place_of(quad, q);
            sum[0][0][q] += finish(part[q], all, load_group(place.tile, place.quad, g));
        }
        g++;
        if g == GROUPS {
            break;
        }
    }
    if NORM {
        let scale = norm_scale(sums_of_squares(squares)[0]);
        for (var q = 0u; q < Q; q++) {
            sum[0][0][q] *= scale;
        }
    }
}

// Where row t of a window is among the rows of all of them: first come those of the first part.
fn row_of(window: u32, t: u32) -> u32 {
    return (t / EACH * WINDOWS + window) * EACH + t % EACH;
}

// Where a block of columns of R rows begins, of a window that begins with vector `at`.
fn pair_at(at: u32, pair: u32, block: u32) -> u32 {
    return at + pair * R % EACH * (K / 4u) + block * 2u;
}

// For several rows of x: by weights, each of which serves all of them. Quads share each activation that is loaded, and the sums of a
// row stay in registers for a turn.
fn add_quads(quad: u32, at: u32) {
    var squares: array<f32, T / R>;
    var g = 0u;
    loop {
        var group: array<Group, Q>;
        for (var q = 0u; q < Q; q++) {
            let place = place_of(quad, q);
            group[q] = load_group(place.tile, place.quad, g);
        }
        let end = min((g + 1u) * GROUP, K) / 8u;
        var block = g * GROUP / 8u;
        loop {
            var words: array<array<Words, Q>, TURN>;
            for (var j = 0u; j < TURN; j++) {
                words[j] = load_all(quad, block + j);
            }
            var mine: array<array<vec2<f32>, TURN>, T / R>;
            for (var pair = 0u; pair < T / R; pair++) {
                for (var j = 0u; j < TURN; j++) {
                    mine[pair][j] = load_own(pair * R, pair_at(at, pair, block + j));
                }
            }
            if NORM && SHARED {
                for (var j = 0u; j < TURN; j++) {
                    let factors = own_factors(block + j);
                    for (var pair = 0u; pair < T / R; pair++) {
                        squares[pair] += own_squares(mine[pair][j]);
                        mine[pair][j] *= factors;
                    }
                }
            }
            var w: array<array<array<vec4<f32>, 8>, Q>, TURN>;
            for (var j = 0u; j < TURN; j++) {
                for (var q = 0u; q < Q; q++) {
                    w[j][q] = weights_of(words[j][q], group[q]);
                }
            }
            for (var pair = 0u; pair < T / R; pair++) {
                var v: array<array<array<vec4<f32>, 2>, 2>, TURN>;
                for (var j = 0u; j < TURN; j++) {
                    v[j] = blocks_of(pair * R, pair_at(at, pair, block + j), mine[pair][j]);
                    if NORM && !SHARED {
                        squares[pair] += dot(v[j][0][0], v[j][0][0]) + dot(v[j][0][1], v[j][0][1]);
                        v[j][0] = normed(v[j][0], block + j);
                    }
                }
                for (var r = 0u; r < R; r++) {
                    var s = sum[pair][r];
                    for (var j = 0u; j < TURN; j++) {
                        let a = v[j][r][0];
                        let b = v[j][r][1];
                        var columns = array<f32, 8>(a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w);
                        for (var k = 0u; k < 8u; k++) {
                            for (var q = 0u; q < Q; q++) {
                                s[q] += w[j][q][k] * columns[k];
                            }
                        }
                    }
                    sum[pair][r] = s;
                }
            }
            block += TURN;
            if block == end {
                break;
            }
        }
        g++;
        if g == GROUPS {
            break;
        }
    }
    if NORM {
        for (var pair = 0u; pair < T / R; pair++) {
            let its = sums_of_squares(squares[pair]);
            for (var r = 0u; r < R; r++) {
                let scale = norm_scale(its[r]);
                for (var q = 0u; q < Q; q++) {
                    sum[pair][r][q] *= scale;
                }
            }
        }
    }
}

// Puts what the sums of row t of a window make where it belongs.
fn put_row(window: u32, t: u32, quad: u32, sums: array<vec4<f32>, Q>) {
    for (var q = 0u; q < Q; q++) {
        put_quad(row_of(window, t), (quad + q) * 4u, sums[q]);
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(workgroup_id) workgroup: vec3<u32>, lane: Lane) {
    // Lanes behind the last row of W go on: others may want what they load.
    own = own_of(lane.id);
    let window = select(workgroup.y, 0u, WINDOWS == 1u);
    // Skipped if none of the rows is in use.
    var first_used = 0u;
    while first_used < T && rows[row_of(window, first_used)].sequence == NONE {
        first_used += 1u;
    }
    if first_used == T {
        return;
    }
    let quad = id.x * Q;
    let at = window * EACH * (K / 4u);
    if T == 1u {
        add_codes(quad, at);
    } else {
        add_quads(quad, at);
    }
    for (var pair = 0u; pair < T / R; pair++) {
        for (var r = 0u; r < R; r++) {
            put_row(window, pair * R + r, quad, sum[pair][r]);
        }
    }
}
