// Causal attention over the paged cache, one lane a team of query heads of TILE neighbouring rows: for devices whose
// workgroups are threads of a processor, where a barrier costs more than the arithmetic between two of them. The formula, and
// what it expects, are those of attention_shared.wgsl, and ROWS (rows of the grid, a multiple of TILE), and ALIKE (whether rows
// are mostly of the same sequence as their neighbours). Follows words/; slices.wgsl; share/.
// Grid: (ROWS / TILE · HEADS / TEAM · SPLITS / WG).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> pages: array<u32>;     // [sequences, MAX_PAGES]
@group(0) @binding(2) var<storage, read> q: array<f32>;         // [rows, HEADS · 2·HALF]
@group(0) @binding(3) var<storage, read> keys: array<Four>; // [pages, KV_HEADS, HALF, PAGE]
@group(0) @binding(4) var<storage, read> values: array<Four>; // [pages, KV_HEADS, PAGE, HALF]
@group(0) @binding(5) var<storage, read_write> out: array<f32>; // [rows, HEADS · 2·HALF], or what slices leave

const TEAMS: u32 = HEADS / TEAM;
const TILES: u32 = ROWS / TILE;
const QUERIES: u32 = TILE * TEAM; // of row 0 all heads, and so on
// In arrays as long as the loops over them: such loops llvmpipe unrolls, and so does not keep the arrays in memory.
const STEP: u32 = select(4u, 8u, HALF % 8u == 0u);
const STEPS: u32 = HALF / STEP;
const FOURS: u32 = HALF / 4u;
const PER: u32 = STEP / 4u;

// Whether eight lanes, whose rows are neighbours, load keys and values for each other.
const TOGETHER: bool = ALIKE && SHARED && TILES % 8u == 0u && HALF % 8u == 0u;

// Four pairs of halves: the first of each, and the second.
fn four_pairs(words: vec4<u32>) -> array<vec4<f32>, 2> {
    let a = unpack2x16float(words.x);
    let b = unpack2x16float(words.y);
    let c = unpack2x16float(words.z);
    let d = unpack2x16float(words.w);
    return array<vec4<f32>, 2>(vec4<f32>(a.x, b.x, c.x, d.x), vec4<f32>(a.y, b.y, c.y, d.y));
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>, lane: Lane) {
    // Neighbouring lanes take neighbouring rows, which mostly see the same keys.
    let item = id.x;
    let split = item / (TILES * TEAMS);
    let team = item / TILES % TEAMS;
    if split >= SPLITS {
        return;
    }
    let first_row = item % TILES * TILE;
    let kv_head = team * TEAM / (HEADS / KV_HEADS);
    var query: array<array<array<vec2<f32>, STEP>, STEPS>, QUERIES>;
    var sum: array<array<array<array<vec2<f32>, 4>, PER>, STEPS>, QUERIES>;
    var maximum: array<f32, QUERIES>;
    var total: array<f32, QUERIES>;
    for (var h = 0u; h < QUERIES; h++) {
        let base = ((first_row + h / TEAM) * HEADS + team * TEAM + h % TEAM) * 2u * HALF;
        for (var j = 0u; j < STEPS; j++) {
            for (var i = 0u; i < STEP; i++) {
                let at = base + j * STEP + i;
                query[h][j][i] = vec2<f32>(q[at], q[at + HALF]) * SCALE;
            }
        }
        maximum[h] = -3.0e38;
    }
    // Rows of one sequence at a time, which share its keys: mostly that is all of them.
    var least = 0u;
    loop {
        var sequence = NONE;
        for (var t = 0u; t < TILE; t++) {
            let its = rows[first_row + t].sequence;
            sequence = select(sequence, min(sequence, its), its >= least);
        }
        if TOGETHER {
            sequence = least_of_all(sequence);
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
        if TOGETHER {
            all = vec2<u32>(least_of_all(all.x), NONE - least_of_all(NONE - all.y));
        }
        // Four keys at a time, which are in one page: what is loaded and stored of queries and sums serves them all. Scores
        // of those that nobody sees do not count, and instead of their values the nearest that somebody sees weigh nothing:
        // nothing times what a page held before need not be nothing.
        for (var four = all.x / 4u * 4u; four < all.y; four += 4u) {
            let page = pages[sequence * MAX_PAGES + four / PAGE] * KV_HEADS + kv_head;
            let keys_ = four + vec4<u32>(0u, 1u, 2u, 3u);
            let token = clamp(keys_, vec4<u32>(all.x), vec4<u32>(all.y - 1u)) % PAGE;
            let k = (page * HALF * PAGE + four % PAGE) / 4u;
            var score: array<vec4<f32>, QUERIES>;
            for (var j = 0u; j < STEPS; j++) {
                if TOGETHER {
                    let own_pairs = four_pairs(four_words(keys[k + (j * STEP + lane.id) * (PAGE / 4u)]));
                    let first = share_vectors(own_pairs[0]);
                    let second = share_vectors(own_pairs[1]);
                    for (var i = 0u; i < STEP; i++) {
                        for (var h = 0u; h < QUERIES; h++) {
                            score[h] += query[h][j][i].x * first[i % 8u] + query[h][j][i].y * second[i % 8u];
                        }
                    }
                } else {
                    for (var i = 0u; i < STEP; i++) {
                        let pairs = four_pairs(four_words(keys[k + (j * STEP + i) * (PAGE / 4u)]));
                        for (var h = 0u; h < QUERIES; h++) {
                            score[h] += query[h][j][i].x * pairs[0] + query[h][j][i].y * pairs[1];
                        }
                    }
                }
            }
            var weight: array<vec4<f32>, QUERIES>;
            for (var h = 0u; h < QUERIES; h++) {
                let s = score[h];
                let mine = seen[h / TEAM];
                let inside = keys_ >= vec4<u32>(mine.x) & keys_ < vec4<u32>(mine.y);
                let capped = select(
                    vec4<f32>(-3.0e38), vec4<f32>(soft_cap(s.x), soft_cap(s.y), soft_cap(s.z), soft_cap(s.w)), inside);
                let most = max(max(capped.x, capped.y), max(capped.z, capped.w));
                if most > maximum[h] {
                    let fade = exp(maximum[h] - most);
                    total[h] *= fade;
                    for (var j = 0u; j < STEPS; j++) {
                        for (var p = 0u; p < PER; p++) {
                            for (var c = 0u; c < 4u; c++) {
                                sum[h][j][p][c] *= fade;
                            }
                        }
                    }
                    maximum[h] = most;
                }
                weight[h] = select(vec4<f32>(), exp(capped - maximum[h]), inside);
                total[h] += (weight[h].x + weight[h].y) + (weight[h].z + weight[h].w);
            }
            let v = (page * PAGE + token) * FOURS;
            for (var j = 0u; j < STEPS; j++) {
                if TOGETHER {
                    // A lane has one of four tokens, and of two quads of its pairs one.
                    let own_pairs = four_pairs(four_words(values[v[lane.id % 4u] + j * PER + lane.id / 4u]));
                    let first = share_vectors(own_pairs[0]);
                    let second = share_vectors(own_pairs[1]);
                    for (var p = 0u; p < PER; p++) {
                        let i = p % 2u * 4u;
                        for (var c = 0u; c < 4u; c++) {
                            for (var h = 0u; h < QUERIES; h++) {
                                let w = weight[h];
                                sum[h][j][p][c] += vec2<f32>(
                                    w.x * first[i][c] + w.y * first[i + 1u][c]
                                        + w.z * first[i + 2u][c] + w.w * first[i + 3u][c],
                                    w.x * second[i][c] + w.y * second[i + 1u][c]
                                        + w.z * second[i + 2u][c] + w.w * second[i + 3u][c]);
                            }
                        }
                    }
                } else {
                    for (var p = 0u; p < PER; p++) {
                        let i = j * PER + p;
                        let first = four_words(values[v.x + i]);
                        let second = four_words(values[v.y + i]);
                        let third = four_words(values[v.z + i]);
                        let fourth = four_words(values[v.w + i]);
                        for (var c = 0u; c < 4u; c++) {
                            let a = unpack2x16float(first[c]);
                            let b = unpack2x16float(second[c]);
                            let d = unpack2x16float(third[c]);
                            let e = unpack2x16float(fourth[c]);
                            for (var h = 0u; h < QUERIES; h++) {
                                let w = weight[h];
                                sum[h][j][p][c] += w.x * a + w.y * b + w.z * d + w.w * e;
                            }
                        }
                    }
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
                    for (var p = 0u; p < PER; p++) {
                        for (var c = 0u; c < 4u; c++) {
                            let i = to + (j * PER + p) * 4u + c;
                            out[i] = sum[h][j][p][c].x * scale;
                            out[i + HALF] = sum[h][j][p][c].y * scale;
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
