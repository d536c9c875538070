// What the kernels have in common that choose tokens together: `sample_greatest`, `sample_count` and `sample_collect`, which
// walk the vocabulary in parts of PART logits, and `sample`, which decides among what they found.
//
// In llama.cpp's order: repeat penalty, top-k, top-p, min-p, temperature, draw. All decisions after the penalty are made in
// integers (exact.wgsl), so every device chooses alike.
//
// Expects: VOCAB, STRIDE (of logits), HISTORY (tokens of a sequence's history), PART, PARTS, WG (at least 16).

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

// Words about a part: key and token of its greatest logit, and, where nothing is cut, what its tokens weigh in a draw (low,
// high). One entry more, of the whole: how many tokens a cut is decided among, unused, what all tokens weigh (low, high).
const PART_WORDS: u32 = 4u;
fn part_at(output: u32, part: u32) -> u32 {
    return (output * (PARTS + 1u) + part) * PART_WORDS;
}

// How many tokens are how far below the greatest, and what they weigh: counts, then low and high halves of weights.
const STEPS: u32 = 256u;
fn steps_at(output: u32) -> u32 {
    return output * 3u * STEPS;
}

// Tokens that a cut is decided among: how many, and then they, in no order. Where there are more than LIST, all are looked at.
const LIST: u32 = 2048u;
fn list_at(output: u32) -> u32 {
    return output * (LIST + 1u);
}

fn cuts_by_count(s: Settings) -> bool {
    return s.top_k > 0u && s.top_k < VOCAB;
}

// Whether anything is cut off that needs more than a look at the greatest logit.
fn cuts(s: Settings) -> bool {
    return cuts_by_count(s) || s.top_p != NONE;
}

// Orders as the floats do. NONE, above all others, for what is not finite.
fn sort_key(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let key = select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
    return select(key, NONE, (bits & 0x7f800000u) == 0x7f800000u);
}

fn logit_of(key: u32) -> f32 {
    return bitcast<f32>(select(~key, key & 0x7fffffffu, (key >> 31u) == 1u));
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

// What x weighs in a draw, if min-p keeps it.
fn draw_mass(s: Settings, x: f32, greatest: f32) -> u32 {
    if distance(x, greatest, 1.0) > s.reach {
        return 0u;
    }
    return mass(x, greatest, s.inverse_temperature);
}

// How far below the greatest logit x is, in eighths, tempered with 1.
fn step_of(x: f32, greatest: f32) -> u32 {
    return min(distance(x, greatest, 1.0) >> 17u, STEPS - 1u);
}
