// Chooses the next token of each output row and puts it where the next step looks for it.
//
// In llama.cpp's order: repeat penalty, top-k, top-p, min-p, temperature, draw. All decisions after the penalty
// are made in integers (exact.wgsl), so every device chooses alike. Candidates are never sorted: a cut is
// the least key that is kept, found eight bits at a time; logits that tie with it are kept.
// Temperature 0 takes the greatest logit, the lowest token of those that tie. Where a logit is not finite the
// token is NONE.
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

// The greatest key such that the keys from it upwards, of those not below floor_key, hold what is wanted:
// of mass, or else of count.
fn cut(lane: u32, base: u32, greatest: f32, floor_key: u32, by_mass: bool, wanted: vec2<u32>) -> u32 {
    var prefix = 0u;
    var missing = wanted;
    for (var pass_ = 0u; pass_ < 4u; pass_++) {
        let shift = 24u - 8u * pass_;
        if lane < 256u {
            atomicStore(&bin_low[lane], 0u);
            atomicStore(&bin_high[lane], 0u);
        }
        workgroupBarrier();
        for (var i = lane; i < VOCAB; i += WG) {
            let x = logits[base + i];
            let key = sort_key(x);
            if key >= floor_key && (pass_ == 0u || (key >> (shift + 8u)) == (prefix >> (shift + 8u))) {
                var amount = 1u;
                if by_mass {
                    amount = mass(x, greatest, 1.0);
                }
                let bin = (key >> shift) & 255u;
                // Halves of 12 bits: sums over a million logits still fit a word.
                atomicAdd(&bin_low[bin], amount & 0xfffu);
                atomicAdd(&bin_high[bin], amount >> 12u);
            }
        }
        workgroupBarrier();
        if lane == 0u {
            var bin = 255u;
            var left = missing;
            loop {
                let high = atomicLoad(&bin_high[bin]);
                let amount = add64(vec2<u32>(high << 12u, high >> 20u), vec2<u32>(atomicLoad(&bin_low[bin]), 0u));
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
        let greatest = logits[base + token];
        var least = 0u;
        if s.top_k > 0u && s.top_k < VOCAB {
            least = cut(lane, base, greatest, 0u, false, vec2<u32>(s.top_k, 0u));
        }
        if s.top_p != NONE {
            var sum = vec2<u32>();
            for (var i = lane; i < VOCAB; i += WG) {
                let x = logits[base + i];
                if sort_key(x) >= least {
                    sum = add64(sum, vec2<u32>(mass(x, greatest, 1.0), 0u));
                }
            }
            let wanted = scale64(sum_lanes(lane, sum), s.top_p);
            least = cut(lane, base, greatest, least, true, add64(wanted, vec2<u32>(1u, 0u)));
        }
        // Each lane adds up a contiguous part, so that the draw walks the tokens in their order.
        let part = (VOCAB + WG - 1u) / WG;
        var sum = vec2<u32>();
        for (var i = lane * part; i < min((lane + 1u) * part, VOCAB); i++) {
            let x = logits[base + i];
            if sort_key(x) >= least && distance(x, greatest, 1.0) <= s.reach {
                sum = add64(sum, vec2<u32>(mass(x, greatest, s.inverse_temperature), 0u));
            }
        }
        lane_sum[lane] = sum;
        workgroupBarrier();
        if lane == 0u {
            var total = vec2<u32>();
            for (var l = 0u; l < WG; l++) {
                total = add64(total, lane_sum[l]);
            }
            let random = philox(vec2<u32>(row.position, s.seed_high), s.seed_low).x;
            var left = scale64(total, random);
            var l = 0u;
            while l < WG - 1u && !less64(left, lane_sum[l]) {
                left = subtract64(left, lane_sum[l]);
                l += 1u;
            }
            for (var i = l * part; i < min((l + 1u) * part, VOCAB); i++) {
                let x = logits[base + i];
                if sort_key(x) >= least && distance(x, greatest, 1.0) <= s.reach {
                    let amount = vec2<u32>(mass(x, greatest, s.inverse_temperature), 0u);
                    if less64(left, amount) {
                        token = i;
                        break;
                    }
                    left = subtract64(left, amount);
                }
            }
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
