// Causal attention over the paged cache, one lane a team of query heads of TILE neighbouring rows: for devices whose
// workgroups are threads of a processor, where a barrier costs more than the arithmetic between two of them. The formula, and
// what it expects, are those of attention_shared.wgsl, and ROWS (rows of the grid, a multiple of TILE), and ALIKE (whether rows
// are mostly of the same sequence as their neighbours). Keys and values lie in textures, both by token.
// Follows slices.wgsl; query/; cache/ or store/; share/; texels.wgsl.
// Grid: (ROWS / TILE · HEADS / TEAM · SPLITS / WG).

const TEAMS: u32 = HEADS / TEAM;
const TILES: u32 = ROWS / TILE;
const QUERIES: u32 = TILE * TEAM; // of row 0 all heads, and so on
// Four pairs each. Arrays are as long as the loops over them: such loops llvmpipe unrolls, and so does not keep the arrays in
// memory.
const FOURS: u32 = HALF / 4u;

const_assert HALF % 4u == 0u && PAGE % 8u == 0u;

// Whether eight lanes, whose rows are neighbours, load keys and values for each other.
const TOGETHER: bool = ALIKE && SHARED && TILES % 8u == 0u;

const LOWEST: f32 = -3.0e38;

// The words of a key or value that starts at a texel, asked for together, before the first of them is used.
fn words_of(plane: Texels, start: u32) -> array<vec4<u32>, FOURS> {
    var words: array<vec4<u32>, FOURS>;
    for (var j = 0u; j < FOURS; j++) {
        words[j] = texel_of(plane, start, j, FOURS);
    }
    return words;
}

// Number c of four pairs of tokens t .. t + 4 of eight.
fn of_four(pairs: array<vec4<f32>, 8>, t: u32, c: u32) -> vec4<f32> {
    return vec4<f32>(pairs[t][c], pairs[t + 1u][c], pairs[t + 2u][c], pairs[t + 3u][c]);
}

fn sum_of(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

// The first sequence of a lane's rows from `least` on; of all lanes' if they load for each other.
fn next_sequence(first_row: u32, least: u32) -> u32 {
    var sequence = NONE;
    for (var t = 0u; t < TILE; t++) {
        let its = rows[first_row + t].sequence;
        sequence = select(sequence, min(sequence, its), its >= least);
    }
    if TOGETHER {
        return least_of_all(sequence);
    }
    return sequence;
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
    if !TOGETHER && TILE == 1u {
        // Of a short row most slices are empty, and nobody asks what they leave.
        let slice = slice_of(rows[first_row].position, split);
        if rows[first_row].sequence == NONE || slice.first >= slice.end {
            return;
        }
    }
    let kv_head = team * TEAM / (HEADS / KV_HEADS);
    var query: array<array<array<vec2<f32>, 4>, FOURS>, QUERIES>;
    var sum: array<array<array<vec2<f32>, 4>, FOURS>, QUERIES>;
    var maximum: array<f32, QUERIES>;
    var total: array<f32, QUERIES>;
    for (var j = 0u; j < FOURS; j++) {
        for (var h = 0u; h < QUERIES; h++) {
            let pairs_ = query_pairs(first_row + h / TEAM, team * TEAM + h % TEAM, j * 4u);
            for (var c = 0u; c < 4u; c++) {
                query[h][j][c] = vec2<f32>(pairs_[0][c], pairs_[1][c]) * SCALE;
            }
        }
    }
    for (var h = 0u; h < QUERIES; h++) {
        maximum[h] = LOWEST;
    }
    // Rows of one sequence at a time, which share its keys: mostly that is all of them. Loops end where their bodies do: see
    // matmul_uniform.wgsl.
    var sequence = next_sequence(first_row, 0u);
    if sequence == NONE {
        return;
    }
    loop {
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
        if APPEND && all.x < all.y && all.y == rows[first_row].position + 1u {
            append(first_row, kv_head, 0u, 1u);
        }
        // Eight keys at a time, which are in one page, so that sums seldom fade. Of keys that nobody sees nothing is loaded:
        // nothing times what a page held before need not be nothing.
        if all.x < all.y {
            var eight = all.x / 8u * 8u;
            loop {
                let page = (pages[sequence * MAX_PAGES + eight / PAGE] * KV_HEADS + kv_head) * PAGE;
                let near = eight + vec4<u32>(0u, 1u, 2u, 3u);
                let far = near + 4u;
                // Those that are loaded. Where lanes load for each other, instead of those that nobody sees the nearest.
                let begin = max(eight, all.x);
                let end = min(eight + 8u, all.y);
                let own = (page + clamp(eight + lane.id, begin, end - 1u) % PAGE) * FOURS;
                var score: array<array<vec4<f32>, 2>, QUERIES>;
                if TOGETHER {
                    for (var j = 0u; j < FOURS; j++) {
                        let pairs = four_pairs(texel_of(keys, own, j, FOURS));
                        let first = share_vectors(pairs[0]);
                        let second = share_vectors(pairs[1]);
                        // Number by number of all tokens: more would not stay in registers.
                        for (var c = 0u; c < 4u; c++) {
                            for (var half = 0u; half < 2u; half++) {
                                let low = of_four(first, half * 4u, c);
                                let high = of_four(second, half * 4u, c);
                                for (var h = 0u; h < QUERIES; h++) {
                                    score[h][half] += query[h][j][c].x * low + query[h][j][c].y * high;
                                }
                            }
                        }
                    }
                } else {
                    // One after the other: as many at once would be more code than processors keep close.
                    var key = begin;
                    loop {
                        let start = (page + key % PAGE) * FOURS;
                        let words = words_of(keys, start);
                        var products: array<vec2<f32>, QUERIES>;
                        for (var j = 0u; j < FOURS; j++) {
                            let pairs = four_pairs(words[j]);
                            for (var c = 0u; c < 4u; c++) {
                                for (var h = 0u; h < QUERIES; h++) {
                                    products[h] += query[h][j][c] * vec2<f32>(pairs[0][c], pairs[1][c]);
                                }
                            }
                        }
                        for (var h = 0u; h < QUERIES; h++) {
                            let its = vec4<f32>(products[h].x + products[h].y);
                            score[h][0] = select(score[h][0], its, near == vec4<u32>(key));
                            score[h][1] = select(score[h][1], its, far == vec4<u32>(key));
                        }
                        key++;
                        if key >= end {
                            break;
                        }
                    }
                }
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
                        for (var j = 0u; j < FOURS; j++) {
                            for (var c = 0u; c < 4u; c++) {
                                sum[h][j][c] *= fade;
                            }
                        }
                        maximum[h] = most;
                    }
                    weight[h][0] = select(vec4<f32>(), exp(near_score - maximum[h]), near_inside);
                    weight[h][1] = select(vec4<f32>(), exp(far_score - maximum[h]), far_inside);
                    total[h] += sum_of(weight[h][0] + weight[h][1]);
                }
                if TOGETHER {
                    for (var j = 0u; j < FOURS; j++) {
                        let pairs = four_pairs(texel_of(values, own, j, FOURS));
                        let first = share_vectors(pairs[0]);
                        let second = share_vectors(pairs[1]);
                        for (var c = 0u; c < 4u; c++) {
                            var pair: array<vec2<f32>, 8>;
                            for (var t = 0u; t < 8u; t++) {
                                pair[t] = vec2<f32>(first[t][c], second[t][c]);
                            }
                            for (var h = 0u; h < QUERIES; h++) {
                                let w = weight[h][0];
                                let u = weight[h][1];
                                sum[h][j][c] += w.x * pair[0] + w.y * pair[1] + w.z * pair[2] + w.w * pair[3] + u.x * pair[4]
                                    + u.y * pair[5] + u.z * pair[6] + u.w * pair[7];
                            }
                        }
                    }
                } else {
                    var key = begin;
                    loop {
                        let start = (page + key % PAGE) * FOURS;
                        let words = words_of(values, start);
                        var its: array<f32, QUERIES>;
                        for (var h = 0u; h < QUERIES; h++) {
                            its[h] = sum_of(
                                select(vec4<f32>(), weight[h][0], near == vec4<u32>(key))
                                    + select(vec4<f32>(), weight[h][1], far == vec4<u32>(key)));
                        }
                        for (var j = 0u; j < FOURS; j++) {
                            let pairs = four_pairs(words[j]);
                            for (var c = 0u; c < 4u; c++) {
                                for (var h = 0u; h < QUERIES; h++) {
                                    sum[h][j][c] += its[h] * vec2<f32>(pairs[0][c], pairs[1][c]);
                                }
                            }
                        }
                        key++;
                        if key >= end {
                            break;
                        }
                    }
                }
                eight += 8u;
                if eight >= all.y {
                    break;
                }
            }
        }
        sequence = next_sequence(first_row, sequence + 1u);
        if sequence == NONE {
            break;
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
                for (var j = 0u; j < FOURS; j++) {
                    for (var c = 0u; c < 4u; c++) {
                        out[to + j * 4u + c] = sum[h][j][c].x * scale;
                        out[to + HALF + j * 4u + c] = sum[h][j][c].y * scale;
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
