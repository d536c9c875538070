// Causal attention over the paged cache, streaming softmax (arXiv:2205.14135): no row of scores is ever
// held whole. out[r, h] = Σ_j softmax_j(cap(q[r, h] · k_j · SCALE)) · v_j over the keys j of r's sequence
// up to r's position, and no further back than WINDOW where that is not 0; cap(v) = CAP · tanh(v / CAP)
// (arXiv:2408.00118) where CAP is not 0.
//
// One workgroup a tile of TILE neighbouring rows, slice of their keys and team: TEAM query heads that share a key-value head,
// so that a key or value is loaded once for all of them. Where a row has several slices, attention_merge.wgsl puts them
// together. For WG keys at a time: a lane scores one key (neighbouring lanes read neighbouring words of a page); then a lane
// adds up PAIRS pairs of dimensions over the keys of its slice.
//
// Queries are staged in workgroup memory. Follows slices.wgsl; query/; cache/ or store/.
// Expects: HEADS, KV_HEADS, HALF (half a head, a multiple of 4), PAGE (tokens of a page, divides WG), MAX_PAGES
// (a sequence's), WINDOW, SCALE, CAP, TEAM (divides HEADS / KV_HEADS), TILE, SPLITS, WG.
// Grid: (HEADS / TEAM, rows / TILE, SPLITS).

alias Words = u32;

fn place_of_word(at: u32) -> u32 {
    return at;
}

fn with_word(before: Words, at: u32, word: u32) -> Words {
    return word;
}

const LOWEST: f32 = -3.0e38;
const SPAN: u32 = min(max(HALF / 4u, 4u), WG); // lanes that share the keys of one slice
const SLICES: u32 = WG / SPAN;                 // slices of the keys that are summed side by side
const PAIRS: u32 = (HALF + SPAN - 1u) / SPAN;  // pairs of dimensions that a lane owns

const QUERIES: u32 = TILE * TEAM;              // of row 0 all heads, and so on

// What a lane has under way before it needs the first of it: words of its key (divides HALF), and values. What it waits for is
// memory, and in decoding, where few others have something to do meanwhile, it should do so as few times as possible.
const MOST_WORDS: u32 = select(8u, 32u, TILE == 1u);
const KEY_WORDS: u32 = select(select(4u, 8u, HALF % 8u == 0u), MOST_WORDS, HALF % MOST_WORDS == 0u);
const VALUES: u32 = select(1u, 4u, TILE == 1u);

var<workgroup> weight: array<f32, WG * QUERIES>;
var<workgroup> slice_sum: array<vec2<f32>, WG * PAIRS>;

var<workgroup> query: array<vec4<f32>, QUERIES * HALF / 2u>;

fn open_queries(workgroup: vec3<u32>, t: Thread) {
    const FOURS: u32 = HALF / 4u;
    for (var i = t.lane; i < QUERIES * FOURS; i += WG) {
        let h = i / FOURS;
        let four = i % FOURS;
        let pairs_ = query_pairs(workgroup.y * TILE + h / TEAM, workgroup.x * TEAM + h % TEAM, four * 4u);
        query[h * 2u * FOURS + four] = pairs_[0];
        query[h * 2u * FOURS + FOURS + four] = pairs_[1];
    }
    workgroupBarrier();
}

fn query_low(h: u32, i: u32) -> vec4<f32> {
    return query[h * HALF / 2u + i / 4u];
}

fn query_high(h: u32, i: u32) -> vec4<f32> {
    return query[h * HALF / 2u + (HALF + i) / 4u];
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, t: Thread) {
    let kv_head = workgroup.x * TEAM / (HEADS / KV_HEADS);
    let first_row = workgroup.y * TILE;
    open_queries(workgroup, t);
    let slice = t.lane / SPAN;
    var maximum: array<f32, QUERIES>;
    var total: array<f32, QUERIES>; // of the keys that this lane scored
    var sum: array<vec2<f32>, QUERIES * PAIRS>;
    for (var h = 0u; h < QUERIES; h++) {
        maximum[h] = LOWEST;
    }
    // Rows of one sequence at a time, which share its keys: mostly that is all of them.
    var begin_row = 0u;
    while begin_row < TILE {
        let sequence = rows[first_row + begin_row].sequence;
        var end_row = begin_row + 1u;
        while end_row < TILE && rows[first_row + end_row].sequence == sequence {
            end_row += 1u;
        }
        // The keys of each row, first .. end, and of all of them.
        var seen: array<vec2<u32>, TILE>;
        var first = NONE;
        var end = 0u;
        for (var r = begin_row; r < end_row && sequence != NONE; r++) {
            let keys_ = slice_of(rows[first_row + r].position, workgroup.z);
            if keys_.first < keys_.end {
                seen[r] = vec2<u32>(keys_.first, keys_.end);
                first = min(first, keys_.first);
                end = max(end, keys_.end);
            }
        }
        if APPEND {
            // Others who share the key have other slices, and so other pages.
            if first < end && end == rows[first_row].position + 1u {
                append(first_row, kv_head, t.lane, WG);
            }
            storageBarrier();
            workgroupBarrier();
        }
        // Blocks start on a page.
        for (var block = first / PAGE * PAGE; block < end; block += WG) {
            let key = block + t.lane;
            var score: array<f32, QUERIES>;
            if key >= first && key < end {
                let page = pages[sequence * MAX_PAGES + key / PAGE];
                let at = (page * KV_HEADS + kv_head) * HALF * PAGE + key % PAGE;
                for (var i = 0u; i < HALF; i += KEY_WORDS) {
                    var words: array<vec4<u32>, KEY_WORDS / 4u>;
                    for (var four = 0u; four < KEY_WORDS / 4u; four++) {
                        let place = at + (i + four * 4u) * PAGE;
                        words[four] = vec4<u32>(keys[place], keys[place + PAGE], keys[place + 2u * PAGE], keys[place + 3u * PAGE]);
                    }
                    for (var four = 0u; four < KEY_WORDS / 4u; four++) {
                        let pairs = four_pairs(words[four]);
                        for (var h = 0u; h < QUERIES; h++) {
                            let q = query_low(h, i + four * 4u);
                            let r = query_high(h, i + four * 4u);
                            let low = pairs[0];
                            let high = pairs[1];
                            // From left to right, one fused product after the other.
                            score[h] = score[h] + q.x * low.x + q.y * low.y + q.z * low.z + q.w * low.w
                                + r.x * high.x + r.y * high.y + r.z * high.z + r.w * high.w;
                        }
                    }
                }
            }
            for (var h = 0u; h < QUERIES; h++) {
                let mine = seen[h / TEAM];
                let inside = key >= mine.x && key < mine.y;
                let scaled = select(LOWEST, soft_cap(score[h] * SCALE), inside);
                let greatest = max(maximum[h], workgroup_max(t, scaled));
                let p = select(0.0, exp(scaled - greatest), inside);
                let fade = exp(maximum[h] - greatest);
                weight[t.lane * QUERIES + h] = p;
                total[h] = total[h] * fade + p;
                maximum[h] = greatest;
                for (var j = 0u; j < PAIRS; j++) {
                    sum[h * PAIRS + j] *= fade;
                }
            }
            workgroupBarrier();
            for (var start = 0u; start < min(WG, end - block) && slice < SLICES; start += PAGE) {
                let page = pages[sequence * MAX_PAGES + (block + start) / PAGE];
                let at = (page * KV_HEADS + kv_head) * PAGE * HALF;
                let count = min(PAGE, end - block - start);
                for (var k = slice; k < count; k += SLICES * VALUES) {
                    // Those past the last key repeat it, and weigh nothing.
                    var value: array<array<u32, PAIRS>, VALUES>;
                    for (var v = 0u; v < VALUES; v++) {
                        for (var j = 0u; j < PAIRS; j++) {
                            // Lanes past the last pair repeat it, and are not asked for it.
                            let pair = min(t.lane % SPAN + j * SPAN, HALF - 1u);
                            value[v][j] = values[at + min(k + v * SLICES, count - 1u) * HALF + pair];
                        }
                    }
                    for (var v = 0u; v < VALUES; v++) {
                        let one = k + v * SLICES;
                        for (var h = 0u; h < QUERIES; h++) {
                            let p = select(0.0, weight[(start + min(one, count - 1u)) * QUERIES + h], one < count);
                            for (var j = 0u; j < PAIRS; j++) {
                                sum[h * PAIRS + j] += p * two_halves(value[v][j]);
                            }
                        }
                    }
                }
            }
            workgroupBarrier();
        }
        begin_row = end_row;
    }
    for (var h = 0u; h < QUERIES; h++) {
        for (var j = 0u; j < PAIRS; j++) {
            slice_sum[t.lane * PAIRS + j] = sum[h * PAIRS + j];
        }
        let all = workgroup_sum(t, total[h]); // its barriers publish the slices
        let r = first_row + h / TEAM;
        let base = place_of(r, workgroup.x * TEAM + h % TEAM, workgroup.z);
        let scale = select(1.0, 1.0 / all, SPLITS == 1u);
        // A row that is not in use has no result, nor has one whose keys are too few for this slice.
        let row = rows[r];
        let mine = slice_of(row.position, workgroup.z);
        let any = row.sequence != NONE && mine.first < mine.end;
        for (var pair = t.lane; pair < HALF && any; pair += WG) {
            var result = vec2<f32>();
            for (var s = 0u; s < SLICES; s++) {
                result += slice_sum[(s * SPAN + pair % SPAN) * PAIRS + pair / SPAN];
            }
            out[base + pair] = result.x * scale;
            out[base + HALF + pair] = result.y * scale;
        }
        if SPLITS > 1u && t.lane == 0u && any {
            out[base + 2u * HALF] = all;
            out[base + 2u * HALF + 1u] = maximum[h];
        }
        workgroupBarrier();
    }
}
