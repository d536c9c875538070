// How the distribution over the next token differs between two models, row by row: only these few numbers
// leave the device. p = softmax(a), the reference; q = softmax(b).
//
//   out[o] = KL(p ‖ q) = Σ p · (ln p − ln q)      ln p[expected]      ln q[expected]
//            H(p) = −Σ p · ln p                    p₁ − p₂, the margin of the likeliest token over the second
//            1 if both hold the same token likeliest, else 0
//            1 if the reference holds the expected token likeliest, else 0      the same for the other
//
// Natural logarithms. With (a − b) − (ln Z_a − ln Z_b) for ln p − ln q, equal logits give exactly 0.
// Rows without an expected token are left alone.
// Expects: VOCAB, STRIDE (of logits), WG. Grid: (1, outputs).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> a: array<f32>;         // [outputs, STRIDE]
@group(0) @binding(2) var<storage, read> b: array<f32>;         // [outputs, STRIDE]
@group(0) @binding(3) var<storage, read_write> out: array<f32>; // [outputs, 8]

const LEAST: f32 = -3.0e38;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, t: Thread) {
    let row = rows[workgroup.y];
    if row.sequence == NONE || row.expected == NONE {
        return;
    }
    let base = workgroup.y * STRIDE;
    var top_a = LEAST;
    var top_b = LEAST;
    for (var i = t.lane; i < VOCAB; i += WG) {
        top_a = max(top_a, a[base + i]);
        top_b = max(top_b, b[base + i]);
    }
    top_a = workgroup_max(t, top_a);
    top_b = workgroup_max(t, top_b);
    // The first of equals. Indices are exact as floats up to 2^24.
    var first_a = LEAST;
    var first_b = LEAST;
    var z_a = 0.0;
    var z_b = 0.0;
    for (var i = t.lane; i < VOCAB; i += WG) {
        if a[base + i] == top_a {
            first_a = max(first_a, -f32(i));
        }
        if b[base + i] == top_b {
            first_b = max(first_b, -f32(i));
        }
        z_a += exp(a[base + i] - top_a);
        z_b += exp(b[base + i] - top_b);
    }
    first_a = workgroup_max(t, first_a);
    first_b = workgroup_max(t, first_b);
    z_a = workgroup_sum(t, z_a);
    z_b = workgroup_sum(t, z_b);
    let log_a = top_a + log(z_a);
    let log_b = top_b + log(z_b);
    var kl = 0.0;
    var entropy = 0.0;
    var second = LEAST;
    for (var i = t.lane; i < VOCAB; i += WG) {
        let p = exp(a[base + i] - top_a) / z_a;
        kl += p * ((a[base + i] - b[base + i]) - (log_a - log_b));
        entropy += p * (log_a - a[base + i]);
        if -f32(i) != first_a {
            second = max(second, a[base + i]);
        }
    }
    kl = workgroup_sum(t, kl);
    entropy = workgroup_sum(t, entropy);
    second = workgroup_max(t, second);
    if t.lane == 0u {
        let o = workgroup.y * 8u;
        out[o] = kl;
        out[o + 1u] = a[base + row.expected] - log_a;
        out[o + 2u] = b[base + row.expected] - log_b;
        out[o + 3u] = entropy;
        out[o + 4u] = (1.0 - exp(second - top_a)) / z_a;
        out[o + 5u] = select(0.0, 1.0, first_a == first_b);
        out[o + 6u] = select(0.0, 1.0, first_a == -f32(row.expected));
        out[o + 7u] = select(0.0, 1.0, first_b == -f32(row.expected));
    }
}
