// Causal attention over the paged cache, one lane a team of query heads of TILE neighbouring rows: for devices whose
// workgroups are threads of a processor, where a barrier costs more than the arithmetic between two of them. The formula, and
// what it expects, are those of attention_shared.wgsl, and ROWS (rows of the grid, a multiple of TILE).
// Follows slices.wgsl; query/; cache/ or store/.
// Grid: (ROWS / TILE · HEADS / TEAM · SPLITS / WG).

// Four words are loaded at a time.
alias Words = vec4<u32>;

fn place_of_word(at: u32) -> u32 {
    return at / 4u;
}

fn with_word(before: Words, at: u32, word: u32) -> Words {
    var words = before;
    words[at % 4u] = word;
    return words;
}

const TEAMS: u32 = HEADS / TEAM;
const TILES: u32 = ROWS / TILE;
const QUERIES: u32 = TILE * TEAM; // of row 0 all heads, and so on
// In arrays as long as the loops over them: such loops llvmpipe unrolls, and so does not keep the arrays in memory.
const STEP: u32 = 8u;
const STEPS: u32 = HALF / STEP;

const_assert HALF % STEP == 0u && PAGE % 8u == 0u;

const LOWEST: f32 = -3.0e38;

// No more queries are written out.
const_assert QUERIES <= 8u;

var<private> query: array<array<array<vec2<f32>, STEP>, STEPS>, QUERIES>;
var<private> sum: array<array<array<array<vec2<f32>, 4>, 2>, STEPS>, QUERIES>;
// Of eight keys.
var<private> score: array<array<vec4<f32>, 2>, QUERIES>;
var<private> weight: array<array<vec4<f32>, 2>, QUERIES>;
// What sums are worth after those eight.
var<private> fade: array<f32, QUERIES>;

// One pair of eight keys times that of a query.
fn add_score(h: u32, j: u32, i: u32, near: array<vec4<f32>, 2>, far: array<vec4<f32>, 2>) {
    let pair = query[h][j][i];
    score[h][0] += pair.x * near[0] + pair.y * near[1];
    score[h][1] += pair.x * far[0] + pair.y * far[1];
}

// Of all queries, written out: see matmul_flat.wgsl of compilers that unroll no loop.
fn add_scores(j: u32, i: u32, near: array<vec4<f32>, 2>, far: array<vec4<f32>, 2>) {
    add_score(0u, j, i, near, far);
    if QUERIES > 1u { add_score(1u, j, i, near, far); }
    if QUERIES > 2u { add_score(2u, j, i, near, far); }
    if QUERIES > 3u { add_score(3u, j, i, near, far); }
    if QUERIES > 4u { add_score(4u, j, i, near, far); }
    if QUERIES > 5u { add_score(5u, j, i, near, far); }
    if QUERIES > 6u { add_score(6u, j, i, near, far); }
    if QUERIES > 7u { add_score(7u, j, i, near, far); }
}

fn weighed(w: vec4<f32>, u: vec4<f32>, near: vec4<f32>, far: vec4<f32>) -> f32 {
    return w.x * near.x + w.y * near.y + w.z * near.z + w.w * near.w + u.x * far.x + u.y * far.y + u.z * far.z + u.w * far.w;
}

// A pair of eight values, weighed.
fn add_value(h: u32, j: u32, half: u32, c: u32, near: array<vec4<f32>, 2>, far: array<vec4<f32>, 2>) {
    let w = weight[h][0];
    let u = weight[h][1];
    let its = vec2<f32>(weighed(w, u, near[0], far[0]), weighed(w, u, near[1], far[1]));
    sum[h][j][half][c] = sum[h][j][half][c] * fade[h] + its;
}

fn add_values(j: u32, half: u32, c: u32, near: array<vec4<f32>, 2>, far: array<vec4<f32>, 2>) {
    add_value(0u, j, half, c, near, far);
    if QUERIES > 1u { add_value(1u, j, half, c, near, far); }
    if QUERIES > 2u { add_value(2u, j, half, c, near, far); }
    if QUERIES > 3u { add_value(3u, j, half, c, near, far); }
    if QUERIES > 4u { add_value(4u, j, half, c, near, far); }
    if QUERIES > 5u { add_value(5u, j, half, c, near, far); }
    if QUERIES > 6u { add_value(6u, j, half, c, near, far); }
    if QUERIES > 7u { add_value(7u, j, half, c, near, far); }
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    // Neighbouring lanes take neighbouring rows, which mostly see the same keys.
    let item = id.x;
    let split = item / (TILES * TEAMS);
    let team = item / TILES % TEAMS;
    if split >= SPLITS {
        return;
    }
    let first_row = item % TILES * TILE;
    if TILE == 1u {
        // Of a short row most slices are empty, and nobody asks what they leave.
        let slice = slice_of(rows[first_row].position, split);
        if rows[first_row].sequence == NONE || slice.first >= slice.end {
            return;
        }
    }
    let kv_head = team * TEAM / (HEADS / KV_HEADS);
    var maximum: array<f32, QUERIES>;
    var total: array<f32, QUERIES>;
    for (var j = 0u; j < STEPS; j++) {
        for (var half = 0u; half < 2u; half++) {
            for (var h = 0u; h < QUERIES; h++) {
                let pairs_ = query_pairs(first_row + h / TEAM, team * TEAM + h % TEAM, j * STEP + half * 4u);
                for (var c = 0u; c < 4u; c++) {
                    query[h][j][half * 4u + c] = vec2<f32>(pairs_[0][c], pairs_[1][c]) * SCALE;
                }
            }
        }
    }
    for (var h = 0u; h < QUERIES; h++) {
        maximum[h] = LOWEST;
    }
    // Rows of one sequence at a time, which share its keys: mostly that is all of them.
    var least = 0u;
    loop {
        var sequence = NONE;
        for (var t = 0u; t < TILE; t++) {
            let its = rows[first_row + t].sequence;
            sequence = select(sequence, min(sequence, its), its >= least);
        }
        if sequence == NONE {
            break;
        }
        least = sequence + 1u;
        // The keys of each row, first .. end, and of all of them.
        var seen: array<vec2<u32>, TILE>;
        var all = vec2<u32>(NONE, 0u);
        for (var t = 0u; t < TILE; t++) {
            if rows[first_row + t].sequence == sequence {
                let slice = slice_of(rows[first_row + t].position, split);
                if slice.first < slice.end {
                    seen[t] = vec2<u32>(slice.first, slice.end);
                    all = vec2<u32>(min(all.x, slice.first), max(all.y, slice.end));
                }
            }
        }
        if APPEND && all.x < all.y && all.y == rows[first_row].position + 1u {
            append(first_row, kv_head, 0u, 1u);
        }
        // Eight keys at a time, which are in one page: what is loaded and stored of queries and sums serves them all. Scores
        // of those that nobody sees do not count, and instead of their values the nearest that somebody sees weigh nothing:
        // nothing times what a page held before need not be nothing.
        for (var eight = all.x / 8u * 8u; eight < all.y; eight += 8u) {
            let page = pages[sequence * MAX_PAGES + eight / PAGE] * KV_HEADS + kv_head;
            let k = (page * HALF * PAGE + eight % PAGE) / 8u;
            score = array<array<vec4<f32>, 2>, QUERIES>();
            for (var j = 0u; j < STEPS; j++) {
                for (var i = 0u; i < STEP; i++) {
                    let place = (k + (j * STEP + i) * (PAGE / 8u)) * 2u;
                    add_scores(j, i, four_pairs(keys[place]), four_pairs(keys[place + 1u]));
                }
            }
            let near = eight + vec4<u32>(0u, 1u, 2u, 3u);
            let far = near + 4u;
            for (var h = 0u; h < QUERIES; h++) {
                let mine = seen[h / TEAM];
                let near_inside = near >= vec4<u32>(mine.x) & near < vec4<u32>(mine.y);
                let far_inside = far >= vec4<u32>(mine.x) & far < vec4<u32>(mine.y);
                let near_score = select(vec4<f32>(LOWEST), capped(score[h][0]), near_inside);
                let far_score = select(vec4<f32>(LOWEST), capped(score[h][1]), far_inside);
                let either = max(near_score, far_score);
                let most = max(max(either.x, either.y), max(either.z, either.w));
                let greatest = max(maximum[h], most);
                fade[h] = exp(maximum[h] - greatest);
                maximum[h] = greatest;
                weight[h][0] = select(vec4<f32>(), exp(near_score - maximum[h]), near_inside);
                weight[h][1] = select(vec4<f32>(), exp(far_score - maximum[h]), far_inside);
                let both = weight[h][0] + weight[h][1];
                total[h] = total[h] * fade[h] + ((both.x + both.y) + (both.z + both.w));
            }
            let v = page * PAGE;
            let near_token = clamp(near, vec4<u32>(all.x), vec4<u32>(all.y - 1u)) % PAGE;
            let far_token = clamp(far, vec4<u32>(all.x), vec4<u32>(all.y - 1u)) % PAGE;
            for (var j = 0u; j < STEPS; j++) {
                for (var half = 0u; half < 2u; half++) {
                    let to = (v + near_token) * STEPS + j;
                    let further = (v + far_token) * STEPS + j;
                    let a = values[to.x * 2u + half];
                    let b = values[to.y * 2u + half];
                    let d = values[to.z * 2u + half];
                    let e = values[to.w * 2u + half];
                    let f = values[further.x * 2u + half];
                    let g = values[further.y * 2u + half];
                    let m = values[further.z * 2u + half];
                    let n = values[further.w * 2u + half];
                    add_values(j, half, 0u, four_pairs(vec4<u32>(a.x, b.x, d.x, e.x)), four_pairs(vec4<u32>(f.x, g.x, m.x, n.x)));
                    add_values(j, half, 1u, four_pairs(vec4<u32>(a.y, b.y, d.y, e.y)), four_pairs(vec4<u32>(f.y, g.y, m.y, n.y)));
                    add_values(j, half, 2u, four_pairs(vec4<u32>(a.z, b.z, d.z, e.z)), four_pairs(vec4<u32>(f.z, g.z, m.z, n.z)));
                    add_values(j, half, 3u, four_pairs(vec4<u32>(a.w, b.w, d.w, e.w)), four_pairs(vec4<u32>(f.w, g.w, m.w, n.w)));
                }
            }
        }
    }
    for (var h = 0u; h < QUERIES; h++) {
        let r = first_row + h / TEAM;
        let row = rows[r];
        if row.sequence != NONE {
            let slice = slice_of(row.position, split);
            if slice.first < slice.end {
                let to = place_of(r, team * TEAM + h % TEAM, split);
                let scale = select(1.0, 1.0 / total[h], SPLITS == 1u);
                for (var j = 0u; j < STEPS; j++) {
                    for (var half = 0u; half < 2u; half++) {
                        for (var c = 0u; c < 4u; c++) {
                            let i = to + (j * 2u + half) * 4u + c;
                            out[i] = sum[h][j][half][c].x * scale;
                            out[i + HALF] = sum[h][j][half][c].y * scale;
                        }
                    }
                }
                if SPLITS > 1u {
                    out[to + 2u * HALF] = total[h];
                    out[to + 2u * HALF + 1u] = maximum[h];
                }
            }
        }
    }
}
