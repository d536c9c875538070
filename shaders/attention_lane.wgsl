// Causal attention over the paged cache, one lane a team of query heads of a row: for devices whose workgroups are
// threads of a processor, where a barrier costs more than the arithmetic between two of them. The formula, and what it
// expects, are those of attention_shared.wgsl, and ROWS (rows of the grid). Follows slices.wgsl.
// Grid: (ROWS · HEADS / TEAM · SPLITS / WG).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> pages: array<u32>;     // [sequences, MAX_PAGES]
@group(0) @binding(2) var<storage, read> q: array<f32>;         // [rows, HEADS · 2·HALF]
@group(0) @binding(3) var<storage, read> keys: array<u32>;      // [pages, KV_HEADS, HALF, PAGE]
@group(0) @binding(4) var<storage, read> values: array<u32>;    // [pages, KV_HEADS, PAGE, HALF]
@group(0) @binding(5) var<storage, read_write> out: array<f32>; // [rows, HEADS · 2·HALF], or what slices leave

const TEAMS: u32 = HEADS / TEAM;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    // Neighbouring lanes take neighbouring rows, which mostly see the same keys.
    let item = workgroup.x * WG + lane;
    let split = item / (ROWS * TEAMS);
    let team = item / ROWS % TEAMS;
    if split >= SPLITS {
        return;
    }
    let row = rows[item % ROWS];
    if row.sequence == NONE {
        return;
    }
    let slice = slice_of(row.position, split);
    if slice.first >= slice.end {
        return;
    }
    let kv_head = team * TEAM / (HEADS / KV_HEADS);
    var query: array<array<vec2<f32>, HALF>, TEAM>;
    var sum: array<array<vec2<f32>, HALF>, TEAM>;
    var maximum: array<f32, TEAM>;
    var total: array<f32, TEAM>;
    for (var h = 0u; h < TEAM; h++) {
        let base = ((item % ROWS) * HEADS + team * TEAM + h) * 2u * HALF;
        for (var i = 0u; i < HALF; i++) {
            query[h][i] = vec2<f32>(q[base + i], q[base + HALF + i]) * SCALE;
        }
        maximum[h] = -3.0e38;
    }
    for (var key = slice.first; key < slice.end; key++) {
        let page = pages[row.sequence * MAX_PAGES + key / PAGE] * KV_HEADS + kv_head;
        let k = page * HALF * PAGE + key % PAGE;
        var score: array<f32, TEAM>;
        for (var i = 0u; i < HALF; i++) {
            let word = unpack2x16float(keys[k + i * PAGE]);
            for (var h = 0u; h < TEAM; h++) {
                score[h] += query[h][i].x * word.x + query[h][i].y * word.y;
            }
        }
        var weight: array<f32, TEAM>;
        for (var h = 0u; h < TEAM; h++) {
            let capped = soft_cap(score[h]);
            if capped > maximum[h] {
                let fade = exp(maximum[h] - capped);
                total[h] *= fade;
                for (var i = 0u; i < HALF; i++) {
                    sum[h][i] *= fade;
                }
                maximum[h] = capped;
            }
            weight[h] = exp(capped - maximum[h]);
            total[h] += weight[h];
        }
        let v = (page * PAGE + key % PAGE) * HALF;
        for (var i = 0u; i < HALF; i++) {
            let word = unpack2x16float(values[v + i]);
            for (var h = 0u; h < TEAM; h++) {
                sum[h][i] += weight[h] * word;
            }
        }
    }
    for (var h = 0u; h < TEAM; h++) {
        let to = place_of(item % ROWS, team * TEAM + h, split);
        let scale = select(1.0, 1.0 / total[h], SPLITS == 1u);
        for (var i = 0u; i < HALF; i++) {
            out[to + i] = sum[h][i].x * scale;
            out[to + HALF + i] = sum[h][i].y * scale;
        }
        if SPLITS > 1u {
            out[to + 2u * HALF] = total[h];
            out[to + 2u * HALF + 1u] = maximum[h];
        }
    }
}
