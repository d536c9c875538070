// Causal attention over the paged cache, one lane a query head of a row: for devices whose workgroups are threads of
// a processor, where a barrier costs more than the arithmetic between two of them. The formula, and what it
// expects, are those of attention_shared.wgsl, but for TEAM, and with ROWS (rows of the grid).
// Grid: (ROWS · HEADS / WG).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> pages: array<u32>;     // [sequences, MAX_PAGES]
@group(0) @binding(2) var<storage, read> q: array<f32>;         // [rows, HEADS · 2·HALF]
@group(0) @binding(3) var<storage, read> keys: array<u32>;      // [pages, KV_HEADS, HALF, PAGE]
@group(0) @binding(4) var<storage, read> values: array<u32>;    // [pages, KV_HEADS, PAGE, HALF]
@group(0) @binding(5) var<storage, read_write> out: array<f32>; // [rows, HEADS · 2·HALF]

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    // Neighbouring lanes take neighbouring rows, which mostly see the same keys.
    let item = workgroup.x * WG + lane;
    let head = item / ROWS;
    if head >= HEADS {
        return;
    }
    let row = rows[item % ROWS];
    if row.sequence == NONE {
        return;
    }
    let kv_head = head / (HEADS / KV_HEADS);
    let base = ((item % ROWS) * HEADS + head) * 2u * HALF;
    var query: array<vec2<f32>, HALF>;
    var sum: array<vec2<f32>, HALF>;
    for (var i = 0u; i < HALF; i++) {
        query[i] = vec2<f32>(q[base + i], q[base + HALF + i]) * SCALE;
    }
    let end = row.position + 1u;
    let first = select(0u, end - min(end, WINDOW), WINDOW > 0u);
    var maximum = -3.0e38;
    var total = 0.0;
    for (var key = first; key < end; key++) {
        let page = pages[row.sequence * MAX_PAGES + key / PAGE] * KV_HEADS + kv_head;
        let k = page * HALF * PAGE + key % PAGE;
        var score = 0.0;
        for (var i = 0u; i < HALF; i++) {
            score += dot(query[i], unpack2x16float(keys[k + i * PAGE]));
        }
        score = soft_cap(score);
        if score > maximum {
            let fade = exp(maximum - score);
            total *= fade;
            for (var i = 0u; i < HALF; i++) {
                sum[i] *= fade;
            }
            maximum = score;
        }
        let p = exp(score - maximum);
        total += p;
        let v = (page * PAGE + key % PAGE) * HALF;
        for (var i = 0u; i < HALF; i++) {
            sum[i] += p * unpack2x16float(values[v + i]);
        }
    }
    for (var i = 0u; i < HALF; i++) {
        out[base + i] = sum[i].x / total;
        out[base + HALF + i] = sum[i].y / total;
    }
}
