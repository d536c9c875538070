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

// Four pairs of halves: the first of each, and the second.
fn four_pairs(words: vec4<u32>) -> array<vec4<f32>, 2> {
    let a = two_halves(words.x);
    let b = two_halves(words.y);
    let c = two_halves(words.z);
    let d = two_halves(words.w);
    return array<vec4<f32>, 2>(vec4<f32>(a.x, b.x, c.x, d.x), vec4<f32>(a.y, b.y, c.y, d.y));
}

fn capped(s: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(soft_cap(s.x), soft_cap(s.y), soft_cap(s.z), soft_cap(s.w));
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
    var query: array<array<array<vec2<f32>, STEP>, STEPS>, QUERIES>;
    var sum: array<array<array<array<vec2<f32>, 4>, 2>, STEPS>, QUERIES>;
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
            var score: array<array<vec4<f32>, 2>, QUERIES>;
            for (var j = 0u; j < STEPS; j++) {
                for (var half = 0u; half < 2u; half++) {
                    for (var i = 0u; i < STEP; i++) {
                        let place = k + (j * STEP + i) * (PAGE / 8u);
                        let pairs = four_pairs(keys[place * 2u + half]);
                        for (var h = 0u; h < QUERIES; h++) {
                            score[h][half] += query[h][j][i].x * pairs[0] + query[h][j][i].y * pairs[1];
                        }
                    }
                }
            }
            let near = eight + vec4<u32>(0u, 1u, 2u, 3u);
            let far = near + 4u;
            var weight: array<array<vec4<f32>, 2>, QUERIES>;
            for (var h = 0u; h < QUERIES; h++) {
                let mine = seen[h / TEAM];
                let near_inside = near >= vec4<u32>(mine.x) & near < vec4<u32>(mine.y);
                let far_inside = far >= vec4<u32>(mine.x) & far < vec4<u32>(mine.y);
                let near_score = select(vec4<f32>(LOWEST), capped(score[h][0]), near_inside);
                let far_score = select(vec4<f32>(LOWEST), capped(score[h][1]), far_inside);
                let either = max(near_score, far_score);
                let most = max(max(either.x, either.y), max(either.z, either.w));
                if most > maximum[h] {
                    let fade = exp(maximum[h] - most);
                    total[h] *= fade;
                    for (var j = 0u; j < STEPS; j++) {
                        for (var half = 0u; half < 2u; half++) {
                            for (var c = 0u; c < 4u; c++) {
                                sum[h][j][half][c] *= fade;
                            }
                        }
                    }
                    maximum[h] = most;
                }
                weight[h][0] = select(vec4<f32>(), exp(near_score - maximum[h]), near_inside);
                weight[h][1] = select(vec4<f32>(), exp(far_score - maximum[h]), far_inside);
                let both = weight[h][0] + weight[h][1];
                total[h] += (both.x + both.y) + (both.z + both.w);
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
                    for (var c = 0u; c < 4u; c++) {
                        let pair = array<vec2<f32>, 8>(
                            two_halves(a[c]), two_halves(b[c]), two_halves(d[c]),
                            two_halves(e[c]), two_halves(f[c]), two_halves(g[c]),
                            two_halves(m[c]), two_halves(n[c]));
                        for (var h = 0u; h < QUERIES; h++) {
                            let w = weight[h][0];
                            let u = weight[h][1];
                            sum[h][j][half][c] += w.x * pair[0] + w.y * pair[1] + w.z * pair[2] + w.w * pair[3]
                                + u.x * pair[4] + u.y * pair[5] + u.z * pair[6] + u.w * pair[7];
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
