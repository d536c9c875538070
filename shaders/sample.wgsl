// Chooses the next token of each output row and puts it where the next step looks for it.
//
// In llama.cpp's order: repeat penalty, top-k, top-p, min-p, temperature, draw. All decisions after the penalty
// are made in integers (exact.wgsl), so every device chooses alike. Candidates are never sorted: a cut is
// the least key that is kept, found eight bits at a time; logits that tie with it are kept. So is the token that is drawn,
// among tokens instead of logits.
// Temperature 0 takes the greatest logit, the lowest token of those that tie. Where a logit is not finite the
// token is NONE.
//
// The vocabulary is walked three times: for the greatest logit; for how many tokens are how far below it, which tells how far
// down the first cut can be; and to collect what is above that, mostly a few tokens, among which all else is decided. Where
// they are many, that is done with the whole vocabulary.
//
// Expects: VOCAB, STRIDE (of logits), HISTORY (tokens of a sequence's history), WG (at least 256). Grid: (1, outputs).

struct Settings {
    inverse_temperature: f32, // 0: greedy
    penalty: f32,
    inverse_penalty: f32,
    reach: u32,               // −ln(min-p) · 2^20: how far below the greatest logit is kept
    top_k: u32,               // 0: off
    top_p: u32,               // in units of 2^−32; NONE: off
    last: u32,                // how many tokens back the penalty looks; 0: off
    seed_low: u32,
    seed_high: u32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}

@group(0) @binding(0) var<storage, read> rows: array<Row>;            // [outputs]
@group(0) @binding(1) var<storage, read> settings: array<Settings>;   // [sequences]
@group(0) @binding(2) var<storage, read_write> logits: array<f32>;    // [outputs, STRIDE]
@group(0) @binding(3) var<storage, read_write> history: array<u32>;   // [sequences, HISTORY]
@group(0) @binding(4) var<storage, read_write> table: array<Row>;     // the row table of the step

// Most tokens that are collected.
const LIST: u32 = 2048u;

var<workgroup> list: array<u32, LIST>;
var<workgroup> collected: atomic<u32>;
var<workgroup> above: u32;
var<workgroup> bin_count: array<atomic<u32>, 256>;
var<workgroup> bin_low: array<atomic<u32>, 256>;
var<workgroup> bin_high: array<atomic<u32>, 256>;
var<workgroup> bad: atomic<u32>;
var<workgroup> lane_key: array<u32, WG>;
var<workgroup> lane_index: array<u32, WG>;
var<workgroup> lane_sum: array<vec2<u32>, WG>;
var<workgroup> chosen_bin: u32;
var<workgroup> still_wanted: vec2<u32>;

// Orders as the floats do.
fn sort_key(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}

// How far x is below the greatest logit, tempered, in units of 2^−20. The one place where floats are computed
// with: a difference and a product, which IEEE 754 rounds in one way only, and no sum to contract them with.
fn distance(x: f32, greatest: f32, inverse_temperature: f32) -> u32 {
    return u32(min((greatest - x) * inverse_temperature, 31.0) * 1048576.0);
}

// e^(x − greatest), tempered, in units of 2^−24.
fn mass(x: f32, greatest: f32, inverse_temperature: f32) -> u32 {
    return exp_fixed(distance(x, greatest, inverse_temperature));
}

// The sum over all lanes, known to all.
fn sum_lanes(lane: u32, value: vec2<u32>) -> vec2<u32> {
    lane_sum[lane] = value;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        if lane < half {
            lane_sum[lane] = add64(lane_sum[lane], lane_sum[lane + half]);
        }
        workgroupBarrier();
    }
    let total = lane_sum[0];
    workgroupBarrier();
    return total;
}

// What is decided among, and by what.
struct Search {
    base: u32,                // of logits
    greatest: f32,
    least: u32,               // key of what is kept
    reach: u32,
    inverse_temperature: f32,
    few: bool,                // tokens are those of the list
    length: u32,              // how many
}

const BY_COUNT: u32 = 0u;
const BY_MASS: u32 = 1u;
const BY_DRAW: u32 = 2u;      // of what min-p leaves, tempered

fn token_of(s: Search, i: u32) -> u32 {
    if s.few {
        return list[i];
    }
    return i;
}

// What a logit that is kept counts for.
fn amount_of(s: Search, by: u32, x: f32) -> u32 {
    if sort_key(x) < s.least {
        return 0u;
    }
    if by == BY_COUNT {
        return 1u;
    }
    if by == BY_MASS {
        return mass(x, s.greatest, 1.0);
    }
    if distance(x, s.greatest, 1.0) > s.reach {
        return 0u;
    }
    return mass(x, s.greatest, s.inverse_temperature);
}

fn sum_of(lane: u32, s: Search, by: u32) -> vec2<u32> {
    var sum = vec2<u32>();
    for (var i = lane; i < s.length; i += WG) {
        sum = add64(sum, vec2<u32>(amount_of(s, by, logits[s.base + token_of(s, i)]), 0u));
    }
    return sum_lanes(lane, sum);
}

fn clear_bins(lane: u32) {
    if lane < 256u {
        atomicStore(&bin_count[lane], 0u);
        atomicStore(&bin_low[lane], 0u);
        atomicStore(&bin_high[lane], 0u);
    }
    workgroupBarrier();
}

// Halves of 12 bits: sums over a million logits still fit a word.
fn put_in_bin(bin: u32, amount: u32) {
    atomicAdd(&bin_low[bin], amount & 0xfffu);
    atomicAdd(&bin_high[bin], amount >> 12u);
}

fn mass_of_bin(bin: u32) -> vec2<u32> {
    let high = atomicLoad(&bin_high[bin]);
    return add64(vec2<u32>(high << 12u, high >> 20u), vec2<u32>(atomicLoad(&bin_low[bin]), 0u));
}

// The greatest key such that the keys from it upwards hold what is wanted. Keys are logits'; for a draw they are those of
// tokens, lowest first.
fn cut(lane: u32, s: Search, by: u32, wanted: vec2<u32>) -> u32 {
    var prefix = 0u;
    var missing = wanted;
    for (var pass_ = 0u; pass_ < 4u; pass_++) {
        let shift = 24u - 8u * pass_;
        clear_bins(lane);
        for (var i = lane; i < s.length; i += WG) {
            let token = token_of(s, i);
            let x = logits[s.base + token];
            let key = select(sort_key(x), ~token, by == BY_DRAW);
            if pass_ == 0u || (key >> (shift + 8u)) == (prefix >> (shift + 8u)) {
                let amount = amount_of(s, by, x);
                if amount > 0u {
                    put_in_bin((key >> shift) & 255u, amount);
                }
            }
        }
        workgroupBarrier();
        if lane == 0u {
            var bin = 255u;
            var left = missing;
            loop {
                let amount = mass_of_bin(bin);
                if bin == 0u || !less64(amount, left) {
                    break;
                }
                left = subtract64(left, amount);
                bin -= 1u;
            }
            chosen_bin = bin;
            still_wanted = left;
        }
        workgroupBarrier();
        prefix |= chosen_bin << shift;
        missing = still_wanted;
        workgroupBarrier();
    }
    return prefix;
}

// The token that is drawn of the whole vocabulary. Each lane adds up a contiguous part, so that one lane can walk over the
// parts, and then over one part, in the order of tokens.
fn draw_of_all(lane: u32, s: Search, random: u32) -> u32 {
    let part = (VOCAB + WG - 1u) / WG;
    var sum = vec2<u32>();
    for (var i = lane * part; i < min((lane + 1u) * part, VOCAB); i++) {
        sum = add64(sum, vec2<u32>(amount_of(s, BY_DRAW, logits[s.base + i]), 0u));
    }
    lane_sum[lane] = sum;
    workgroupBarrier();
    if lane == 0u {
        var total = vec2<u32>();
        for (var l = 0u; l < WG; l++) {
            total = add64(total, lane_sum[l]);
        }
        var left = scale64(total, random);
        var l = 0u;
        while l < WG - 1u && !less64(left, lane_sum[l]) {
            left = subtract64(left, lane_sum[l]);
            l += 1u;
        }
        for (var i = l * part; i < min((l + 1u) * part, VOCAB); i++) {
            let amount = vec2<u32>(amount_of(s, BY_DRAW, logits[s.base + i]), 0u);
            if less64(left, amount) {
                return i;
            }
            left = subtract64(left, amount);
        }
    }
    return 0u;
}

// How far below the greatest logit x is, in eighths, tempered with 1.
fn step_of(x: f32, greatest: f32) -> u32 {
    return min(distance(x, greatest, 1.0) >> 17u, 255u);
}

// Finds how far down what is kept can be, and collects what is above, if that is few. `chosen_bin` is the last step,
// `still_wanted` the mass of all tokens, if that is what counts.
fn collect(lane: u32, all: Search, top_k: u32, top_p: u32) -> Search {
    var s = all;
    let by_count = top_k > 0u && top_k < VOCAB;
    let by_mass = !by_count && top_p != NONE;
    if !by_count && !by_mass && s.reach == NONE {
        return all;
    }
    clear_bins(lane);
    for (var i = lane; i < VOCAB; i += WG) {
        let x = logits[s.base + i];
        let step = step_of(x, s.greatest);
        atomicAdd(&bin_count[step], 1u);
        if by_mass {
            let amount = mass(x, s.greatest, 1.0);
            if amount > 0u {
                put_in_bin(step, amount);
            }
        }
    }
    workgroupBarrier();
    if lane == 0u {
        var total = vec2<u32>();
        if by_mass {
            for (var step = 0u; step < 256u; step++) {
                total = add64(total, mass_of_bin(step));
            }
        }
        let wanted = scale64(total, top_p);
        var count = 0u;
        var sum = vec2<u32>();
        var step = 0u;
        loop {
            count += atomicLoad(&bin_count[step]);
            sum = add64(sum, mass_of_bin(step));
            let enough = (by_count && count >= top_k) || (by_mass && less64(wanted, sum))
                || (!by_count && !by_mass && step >= s.reach >> 17u);
            if enough || step == 255u {
                break;
            }
            step += 1u;
        }
        chosen_bin = step;
        still_wanted = total;
        above = count;
        atomicStore(&collected, 0u);
    }
    // A load that tells compilers that all lanes go the same way.
    s.few = workgroupUniformLoad(&above) <= LIST;
    let last = chosen_bin;
    if s.few {
        for (var i = lane; i < VOCAB; i += WG) {
            if step_of(logits[s.base + i], s.greatest) <= last {
                list[min(atomicAdd(&collected, 1u), LIST - 1u)] = i;
            }
        }
    }
    workgroupBarrier();
    if s.few {
        s.length = min(atomicLoad(&collected), LIST);
    }
    return s;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = rows[workgroup.y];
    if row.sequence == NONE {
        return;
    }
    let s = settings[row.sequence];
    let base = workgroup.y * STRIDE;
    let past = row.sequence * HISTORY;

    // Each token of the recent past is penalized once: by the first lane that meets it.
    if s.last > 0u {
        let known = row.position + 1u;
        let first = known - min(known, s.last);
        for (var j = first + lane; j < known; j += WG) {
            let token = history[past + j];
            var fresh = token < VOCAB;
            for (var earlier = first; earlier < j && fresh; earlier++) {
                fresh = history[past + earlier] != token;
            }
            if fresh {
                let x = logits[base + token];
                logits[base + token] = select(x * s.inverse_penalty, x * s.penalty, x < 0.0);
            }
        }
        storageBarrier();
        workgroupBarrier();
    }

    // The greatest logit, and whether all are finite.
    if lane == 0u {
        atomicStore(&bad, 0u);
    }
    workgroupBarrier();
    var best = 0u;
    var best_index = 0u;
    for (var i = lane; i < VOCAB; i += WG) {
        let x = logits[base + i];
        if (bitcast<u32>(x) & 0x7f800000u) == 0x7f800000u {
            atomicStore(&bad, 1u);
        }
        let key = sort_key(x);
        if key > best {
            best = key;
            best_index = i;
        }
    }
    lane_key[lane] = best;
    lane_index[lane] = best_index;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        if lane < half {
            let other = lane_key[lane + half];
            if other > lane_key[lane] || (other == lane_key[lane] && lane_index[lane + half] < lane_index[lane]) {
                lane_key[lane] = other;
                lane_index[lane] = lane_index[lane + half];
            }
        }
        workgroupBarrier();
    }
    var token = lane_index[0];

    if s.inverse_temperature > 0.0 {
        var search = Search(base, logits[base + token], 0u, s.reach, s.inverse_temperature, false, VOCAB);
        search = collect(lane, search, s.top_k, s.top_p);
        var total = still_wanted;
        if s.top_k > 0u && s.top_k < VOCAB {
            search.least = cut(lane, search, BY_COUNT, vec2<u32>(s.top_k, 0u));
            total = sum_of(lane, search, BY_MASS);
        }
        if s.top_p != NONE {
            let wanted = add64(scale64(total, s.top_p), vec2<u32>(1u, 0u));
            search.least = max(search.least, cut(lane, search, BY_MASS, wanted));
        }
        let random = philox(vec2<u32>(row.position, s.seed_high), s.seed_low).x;
        if search.few {
            let drawn = add64(scale64(sum_of(lane, search, BY_DRAW), random), vec2<u32>(1u, 0u));
            token = ~cut(lane, search, BY_DRAW, drawn);
        } else {
            token = draw_of_all(lane, search, random);
        }
    }
    if lane == 0u {
        if atomicLoad(&bad) != 0u {
            token = NONE;
        }
        history[past + row.position + 1u] = token;
        table[row.slot].token = token;
        table[row.slot].position = row.position + 1u;
    }
}
