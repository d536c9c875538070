// Chooses the next token of each output row and puts it where the next step looks for it.
//
// Candidates are never sorted: a cut is the least key that is kept, found eight bits at a time; logits that tie with it are
// kept. So is the token that is drawn, among tokens instead of logits.
// Temperature 0 takes the greatest logit, the lowest token of those that tie. Where a logit is not finite the
// token is NONE.
//
// Where something is cut, the tokens that `sample_collect` found decide it, or, where those are too many, the whole vocabulary.
//
// Expects exact.wgsl, sampling.wgsl, bins.wgsl, greatest.wgsl. Grid: (1, outputs).

@group(0) @binding(2) var<storage, read> logits: array<f32>;          // [outputs, STRIDE]
@group(0) @binding(3) var<storage, read> parts: array<u32>;           // [outputs, PARTS + 1, PART_WORDS]
@group(0) @binding(4) var<storage, read> lists: array<u32>;           // [outputs, 1 + LIST]
@group(0) @binding(5) var<storage, read_write> history: array<u32>;   // [sequences, HISTORY]
@group(0) @binding(6) var<storage, read_write> table: array<Row>;     // the row table of the step

var<workgroup> few_logits: array<f32, LIST>;
var<workgroup> group_sum: array<vec2<u32>, 16>;
var<workgroup> sums: array<vec2<u32>, max(WG, PARTS)>;
var<workgroup> likeliest: atomic<u32>;
var<workgroup> chosen: u32;
var<workgroup> still_wanted: vec2<u32>;

// What is decided among, and by what.
struct Search {
    output: u32,
    greatest: f32,
    least: u32,     // key of what is kept
    few: bool,      // tokens are those of the list
    length: u32,    // how many
}

const BY_COUNT: u32 = 0u;
const BY_MASS: u32 = 1u;
const BY_DRAW: u32 = 2u;      // of what min-p leaves, tempered

fn logit_at(f: Search, i: u32) -> f32 {
    if f.few {
        return few_logits[i];
    }
    return logits[f.output * STRIDE + i];
}

fn token_at(f: Search, i: u32) -> u32 {
    if f.few {
        return lists[list_at(f.output) + 1u + i];
    }
    return i;
}

// What a logit that is kept counts for.
fn amount_of(s: Settings, f: Search, by: u32, x: f32) -> u32 {
    if sort_key(x) < f.least {
        return 0u;
    }
    if by == BY_COUNT {
        return 1u;
    }
    if by == BY_MASS {
        return mass(x, f.greatest, 1.0);
    }
    return draw_mass(s, x, f.greatest);
}

fn sum_of(lane: u32, s: Settings, f: Search, by: u32) -> vec2<u32> {
    var sum = vec2<u32>();
    for (var i = lane; i < f.length; i += WG) {
        sum = add64(sum, vec2<u32>(amount_of(s, f, by, logit_at(f, i)), 0u));
    }
    return sum_lanes(lane, sum);
}

// The greatest key such that the keys from it upwards hold what is wanted. Keys are logits'; for a draw they are those of
// tokens, lowest first.
fn cut(lane: u32, s: Settings, f: Search, by: u32, wanted: vec2<u32>) -> u32 {
    var prefix = 0u;
    var missing = wanted;
    for (var pass_ = 0u; pass_ < 4u; pass_++) {
        let shift = 24u - 8u * pass_;
        clear_bins(lane);
        for (var i = lane; i < f.length; i += WG) {
            let x = logit_at(f, i);
            var key = sort_key(x);
            if by == BY_DRAW {
                key = ~token_at(f, i);
            }
            if pass_ == 0u || (key >> (shift + 8u)) == (prefix >> (shift + 8u)) {
                let amount = amount_of(s, f, by, x);
                if amount > 0u {
                    put_in_bin((key >> shift) & 255u, amount);
                }
            }
        }
        workgroupBarrier();
        // One lane walks the bins, sixteen at a time first.
        if lane < 16u {
            var sum = vec2<u32>();
            for (var i = 0u; i < 16u; i++) {
                sum = add64(sum, mass_of_bin(lane * 16u + i));
            }
            group_sum[lane] = sum;
        }
        workgroupBarrier();
        if lane == 0u {
            var left = missing;
            var group = 15u;
            while group > 0u && less64(group_sum[group], left) {
                left = subtract64(left, group_sum[group]);
                group -= 1u;
            }
            var bin = group * 16u + 15u;
            loop {
                let amount = mass_of_bin(bin);
                if bin == 0u || !less64(amount, left) {
                    break;
                }
                left = subtract64(left, amount);
                bin -= 1u;
            }
            chosen = bin;
            still_wanted = left;
        }
        workgroupBarrier();
        prefix |= chosen << shift;
        missing = still_wanted;
        workgroupBarrier();
    }
    return prefix;
}

// The token from `first` to before `end` of the vocabulary at which a sum over all, in their order, comes to more than `target`; known to
// lane 0. Each lane adds up a contiguous part, so that one lane can walk over the parts, and then over one part.
fn draw_among(lane: u32, s: Settings, f: Search, first: u32, end: u32, target_: vec2<u32>) -> u32 {
    let part = (end - first + WG - 1u) / WG;
    let start = first + lane * part;
    var sum = vec2<u32>();
    for (var i = start; i < min(start + part, end); i++) {
        sum = add64(sum, vec2<u32>(amount_of(s, f, BY_DRAW, logit_at(f, i)), 0u));
    }
    sums[lane] = sum;
    workgroupBarrier();
    if lane == 0u {
        var left = target_;
        var l = 0u;
        while l < WG - 1u && !less64(left, sums[l]) {
            left = subtract64(left, sums[l]);
            l += 1u;
        }
        for (var i = first + l * part; i < min(first + (l + 1u) * part, end); i++) {
            let amount = vec2<u32>(amount_of(s, f, BY_DRAW, logit_at(f, i)), 0u);
            if less64(left, amount) {
                return i;
            }
            left = subtract64(left, amount);
        }
    }
    return 0u;
}

// The token that is drawn where nothing is cut: first a part of the vocabulary, and then a token of it.
fn draw_of_parts(lane: u32, s: Settings, f: Search, random: u32) -> u32 {
    var sum = vec2<u32>();
    for (var part = lane; part < PARTS; part += WG) {
        let at = part_at(f.output, part);
        sums[part] = vec2<u32>(parts[at + 2u], parts[at + 3u]);
        sum = add64(sum, sums[part]);
    }
    let total = sum_lanes(lane, sum);
    if lane == 0u {
        var left = scale64(total, random);
        var part = 0u;
        while part < PARTS - 1u && !less64(left, sums[part]) {
            left = subtract64(left, sums[part]);
            part += 1u;
        }
        chosen = part;
        still_wanted = left;
    }
    workgroupBarrier();
    let first = chosen * PART;
    return draw_among(lane, s, f, first, min(first + PART, VOCAB), still_wanted);
}

// The token that is drawn of what top-k, top-p and min-p leave.
fn draw_of_kept(lane: u32, s: Settings, all: Search, random: u32) -> u32 {
    var f = all;
    let whole = part_at(f.output, PARTS);
    f.few = parts[whole] <= LIST;
    if f.few {
        f.length = min(lists[list_at(f.output)], LIST);
        for (var i = lane; i < f.length; i += WG) {
            few_logits[i] = logits[f.output * STRIDE + token_at(f, i)];
        }
        workgroupBarrier();
    }
    var total = vec2<u32>(parts[whole + 2u], parts[whole + 3u]);
    if cuts_by_count(s) {
        f.least = cut(lane, s, f, BY_COUNT, vec2<u32>(s.top_k, 0u));
        total = sum_of(lane, s, f, BY_MASS);
    }
    if s.top_p != NONE {
        let wanted = add64(scale64(total, s.top_p), vec2<u32>(1u, 0u));
        f.least = max(f.least, cut(lane, s, f, BY_MASS, wanted));
    }
    let drawn = scale64(sum_of(lane, s, f, BY_DRAW), random);
    if f.few {
        return ~cut(lane, s, f, BY_DRAW, add64(drawn, vec2<u32>(1u, 0u)));
    }
    return draw_among(lane, s, f, 0u, VOCAB, drawn);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let output = workgroup.y;
    let row = rows[output];
    if row.sequence == NONE {
        return;
    }
    let s = settings[row.sequence];
    let key = find_greatest(lane, output);
    if lane == 0u {
        atomicStore(&likeliest, NONE);
    }
    workgroupBarrier();
    for (var part = lane; part < PARTS; part += WG) {
        if parts[part_at(output, part)] == key {
            atomicMin(&likeliest, parts[part_at(output, part) + 1u]);
        }
    }
    workgroupBarrier();
    var token = atomicLoad(&likeliest);
    if s.inverse_temperature > 0.0 {
        let all = Search(output, logit_of(key), 0u, false, VOCAB);
        let random = philox(vec2<u32>(row.position, s.seed_high), s.seed_low).x;
        if cuts(s) {
            token = draw_of_kept(lane, s, all, random);
        } else {
            token = draw_of_parts(lane, s, all, random);
        }
    }
    if lane == 0u {
        // Greater than what any number has: one that is not finite.
        if key == NONE {
            token = NONE;
        }
        history[row.sequence * HISTORY + row.position + 1u] = token;
        table[row.slot].token = token;
        table[row.slot].position = row.position + 1u;
    }
}
