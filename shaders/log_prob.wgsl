// out[o] = log softmax(logits[o])[expected token of o], in nats. Also NONE-safe: rows without an
// expected token are left alone.
// Expects: VOCAB, STRIDE (of logits), WG. Grid: (1, outputs).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> logits: array<f32>;    // [outputs, STRIDE]
@group(0) @binding(2) var<storage, read_write> out: array<f32>; // [outputs]

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, t: Thread) {
    let row = rows[workgroup.y];
    if row.sequence == NONE || row.expected == NONE {
        return;
    }
    let base = workgroup.y * STRIDE;
    var greatest = -3.0e38;
    for (var i = t.lane; i < VOCAB; i += WG) {
        greatest = max(greatest, logits[base + i]);
    }
    greatest = workgroup_max(t, greatest);
    var sum = 0.0;
    for (var i = t.lane; i < VOCAB; i += WG) {
        sum += exp(logits[base + i] - greatest);
    }
    let total = workgroup_sum(t, sum);
    if t.lane == 0u {
        out[workgroup.y] = logits[base + row.expected] - greatest - log(total);
    }
}
