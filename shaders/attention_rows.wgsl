// Causal attention over the paged cache, four lanes four neighbouring rows: for devices of few lanes, whose compilers unroll no
// loop, and prompts. The formula is that of attention_shared.wgsl.
//
// What a number costs by an index that is not constant is told in matmul_rows.wgsl. So the loop goes over keys,
// four at a time, and has queries and sums of a lane's row by constants alone: all pairs are written out. Each lane loads what four
// would load alike: of keys other pairs, of values other tokens. They are swapped: in turn s a lane has what lane `lane ^ s` loaded,
// and queries and weights are in that order. All lanes add up the same two pairs of four numbers, so that what a row makes does
// not depend on its lane.
//
// Follows slices.wgsl; query/given.wgsl; cache/words.wgsl.
// Expects: HEADS, KV_HEADS, HALF (half a head, a multiple of 4, at most 32), PAGE, MAX_PAGES, WINDOW, SCALE, CAP, TEAM (divides HEADS /
// KV_HEADS, at most 4), ROWS (a multiple of 4), SPLITS (1). Grid: (ROWS / 4 · HEADS / TEAM), of four lanes each.

// Four words are loaded at a time.
alias Words = vec4<u32>;

// Pairs come by fours.
const FOURS: u32 = HALF / 4u;

// No more is written out.
const_assert HALF % 4u == 0u && FOURS <= 8u && TEAM <= 4u && ROWS % 4u == 0u && SPLITS == 1u;

const LOWEST: f32 = -3.0e38;

// Queries [TEAM, FOURS, 4 turns], then sums [TEAM, FOURS, 4].
const SUMS: u32 = TEAM * HALF;
var<private> kept: array<vec2<f32>, SUMS * 2u>;

// Of each head a number for each of four keys.
struct Scores { of0: vec4<f32>, of1: vec4<f32>, of2: vec4<f32>, of3: vec4<f32> }

// What four lanes loaded, in a lane's turns.
struct Turns { a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32> }

fn turns_of(mine: vec4<f32>) -> Turns {
    return Turns(mine, quadSwapX(mine), quadSwapY(mine), quadSwapDiagonal(mine));
}

// Four numbers in a lane's turns.
fn turned(v: vec4<f32>, lane: u32) -> vec4<f32> {
    let near = select(v, v.yxwz, (lane & 1u) == 1u);
    return select(near, near.zwxy, lane > 1u);
}

fn least_of_all(mine: u32) -> u32 {
    let two = min(mine, quadSwapX(mine));
    return min(two, quadSwapY(two));
}

fn most_of_all(mine: u32) -> u32 {
    let two = max(mine, quadSwapX(mine));
    return max(two, quadSwapY(two));
}

fn product_of(pair: vec2<f32>, first: vec4<f32>, second: vec4<f32>) -> vec4<f32> {
    return pair.x * first + pair.y * second;
}

// Four pairs of head h's query times those of four keys.
fn score_of(h: u32, i: u32, first: Turns, second: Turns) -> vec4<f32> {
    let at = (h * FOURS + i) * 4u;
    return (product_of(kept[at], first.a, second.a) + product_of(kept[at + 1u], first.b, second.b))
        + (product_of(kept[at + 2u], first.c, second.c) + product_of(kept[at + 3u], first.d, second.d));
}

// Adds what pairs i · 4 .. i · 4 + 4 make; this lane's key words of pair 0 would be at `start`.
fn add_scores(i: u32, start: u32, lane: u32, s: Scores) -> Scores {
    if i >= FOURS {
        return s;
    }
    let pairs = four_pairs(keys[start + (i * 4u + lane) * (PAGE / 4u)]);
    let first = turns_of(pairs[0]);
    let second = turns_of(pairs[1]);
    var all = s;
    all.of0 += score_of(0u, i, first, second);
    if TEAM > 1u { all.of1 += score_of(1u, i, first, second); }
    if TEAM > 2u { all.of2 += score_of(2u, i, first, second); }
    if TEAM > 3u { all.of3 += score_of(3u, i, first, second); }
    return all;
}

fn weighed(w: vec4<f32>, a: f32, b: f32, c: f32, d: f32) -> f32 {
    return (w.x * a + w.y * b) + (w.z * c + w.w * d);
}

fn add_to_sums(h: u32, i: u32, weight: vec4<f32>, fade: f32, x: Turns, y: Turns) {
    let at = SUMS + (h * FOURS + i) * 4u;
    kept[at] = kept[at] * fade
        + vec2<f32>(weighed(weight, x.a.x, x.b.x, x.c.x, x.d.x), weighed(weight, y.a.x, y.b.x, y.c.x, y.d.x));
    kept[at + 1u] = kept[at + 1u] * fade
        + vec2<f32>(weighed(weight, x.a.y, x.b.y, x.c.y, x.d.y), weighed(weight, y.a.y, y.b.y, y.c.y, y.d.y));
    kept[at + 2u] = kept[at + 2u] * fade
        + vec2<f32>(weighed(weight, x.a.z, x.b.z, x.c.z, x.d.z), weighed(weight, y.a.z, y.b.z, y.c.z, y.d.z));
    kept[at + 3u] = kept[at + 3u] * fade
        + vec2<f32>(weighed(weight, x.a.w, x.b.w, x.c.w, x.d.w), weighed(weight, y.a.w, y.b.w, y.c.w, y.d.w));
}

// Adds four pairs of four values, weighed; those of this lane's token begin at `start`.
fn add_values(i: u32, start: u32, weights: Scores, fade: vec4<f32>) {
    if i >= FOURS {
        return;
    }
    let pairs = four_pairs(values[start + i]);
    let first = turns_of(pairs[0]);
    let second = turns_of(pairs[1]);
    add_to_sums(0u, i, weights.of0, fade.x, first, second);
    if TEAM > 1u { add_to_sums(1u, i, weights.of1, fade.y, first, second); }
    if TEAM > 2u { add_to_sums(2u, i, weights.of2, fade.z, first, second); }
    if TEAM > 3u { add_to_sums(3u, i, weights.of3, fade.w, first, second); }
}

// Of each head the greatest score, and the sum of all weights.
var<private> greatest: array<f32, TEAM>;
var<private> total: array<f32, TEAM>;

// Weights of four scores of head h in the lane's turns, and what sums are worth after those.
struct Weights { weight: vec4<f32>, fade: f32 }

fn weights_of(h: u32, score: vec4<f32>, inside: vec4<bool>, lane: u32) -> Weights {
    let seen = select(vec4<f32>(LOWEST), capped(score), inside);
    let before = greatest[h];
    let most = max(before, max(max(seen.x, seen.y), max(seen.z, seen.w)));
    let fade = exp(before - most);
    let weight = select(vec4<f32>(), exp(seen - most), inside);
    greatest[h] = most;
    total[h] = total[h] * fade + ((weight.x + weight.y) + (weight.z + weight.w));
    return Weights(turned(weight, lane), fade);
}

@compute @workgroup_size(4)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(subgroup_invocation_id) id: u32) {
    let lane = id & 3u;
    let r = workgroup.x % (ROWS / 4u) * 4u + lane;
    let team = workgroup.x / (ROWS / 4u);
    let kv_head = team * TEAM / (HEADS / KV_HEADS);
    let row = rows[r];
    // Sequences of the four rows one after the other: mostly there is one.
    var sequence = least_of_all(row.sequence);
    if sequence == NONE {
        return;
    }
    for (var i = 0u; i < TEAM * FOURS; i++) {
        let pairs = query_pairs(r, team * TEAM + i / FOURS, i % FOURS * 4u);
        let first = turned(pairs[0] * SCALE, lane);
        let second = turned(pairs[1] * SCALE, lane);
        kept[i * 4u] = vec2<f32>(first.x, second.x);
        kept[i * 4u + 1u] = vec2<f32>(first.y, second.y);
        kept[i * 4u + 2u] = vec2<f32>(first.z, second.z);
        kept[i * 4u + 3u] = vec2<f32>(first.w, second.w);
    }
    for (var h = 0u; h < TEAM; h++) {
        greatest[h] = LOWEST;
    }
    loop {
        // The keys of this row, and of all.
        var mine: vec2<u32>;
        var all = vec2<u32>(NONE, 0u);
        if row.sequence == sequence {
            let slice = slice_of(row.position, 0u);
            mine = vec2<u32>(slice.first, slice.end);
            all = mine;
        }
        all = vec2<u32>(least_of_all(all.x), most_of_all(all.y));
        // Four keys at a time, which are in one page. Scores of those that a row does not see do not count, and instead of values
        // that nobody sees the nearest that somebody sees weigh nothing: nothing times what a page held before need not be nothing.
        var four = all.x / 4u * 4u;
        loop {
            let page = (pages[sequence * MAX_PAGES + four / PAGE] * KV_HEADS + kv_head) * PAGE;
            let start = (page * HALF + four % PAGE) / 4u;
            let s0 = add_scores(1u, start, lane, add_scores(0u, start, lane, Scores()));
            let s1 = add_scores(3u, start, lane, add_scores(2u, start, lane, s0));
            let s2 = add_scores(5u, start, lane, add_scores(4u, start, lane, s1));
            let s3 = add_scores(7u, start, lane, add_scores(6u, start, lane, s2));
            let key = four + vec4<u32>(0u, 1u, 2u, 3u);
            let inside = key >= vec4<u32>(mine.x) & key < vec4<u32>(mine.y);
            var weights: Scores;
            var fade: vec4<f32>;
            let w0 = weights_of(0u, s3.of0, inside, lane);
            weights.of0 = w0.weight;
            fade.x = w0.fade;
            if TEAM > 1u {
                let w = weights_of(1u % TEAM, s3.of1, inside, lane);
                weights.of1 = w.weight;
                fade.y = w.fade;
            }
            if TEAM > 2u {
                let w = weights_of(2u % TEAM, s3.of2, inside, lane);
                weights.of2 = w.weight;
                fade.z = w.fade;
            }
            if TEAM > 3u {
                let w = weights_of(3u % TEAM, s3.of3, inside, lane);
                weights.of3 = w.weight;
                fade.w = w.fade;
            }
            let token = (page + clamp(four + lane, all.x, all.y - 1u) % PAGE) * FOURS;
            add_values(0u, token, weights, fade);
            add_values(1u, token, weights, fade);
            add_values(2u, token, weights, fade);
            add_values(3u, token, weights, fade);
            add_values(4u, token, weights, fade);
            add_values(5u, token, weights, fade);
            add_values(6u, token, weights, fade);
            add_values(7u, token, weights, fade);
            four += 4u;
            if four >= all.y {
                break;
            }
        }
        sequence = least_of_all(select(NONE, row.sequence, row.sequence > sequence));
        if sequence == NONE {
            break;
        }
    }
    if row.sequence == NONE {
        return;
    }
    for (var h = 0u; h < TEAM; h++) {
        let to = place_of(r, team * TEAM + h, 0u);
        let scale = 1.0 / total[h];
        for (var i = 0u; i < HALF; i++) {
            let sum = kept[SUMS + h * HALF + i] * scale;
            out[to + i] = sum.x;
            out[to + HALF + i] = sum.y;
        }
    }
}
