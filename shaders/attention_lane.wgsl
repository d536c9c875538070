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
    // Four keys at a time, which are in one page: what is loaded and stored of queries and sums serves them all. Of those
    // outside of the slice the nearest inside is looked at instead, and weighs nothing.
    for (var four = slice.first / 4u * 4u; four < slice.end; four += 4u) {
        let page = pages[row.sequence * MAX_PAGES + four / PAGE] * KV_HEADS + kv_head;
        let keys_ = four + vec4<u32>(0u, 1u, 2u, 3u);
        let inside = keys_ >= vec4<u32>(slice.first) & keys_ < vec4<u32>(slice.end);
        let token = clamp(keys_, vec4<u32>(slice.first), vec4<u32>(slice.end - 1u)) % PAGE;
        let k = page * HALF * PAGE + token;
        var score: array<vec4<f32>, TEAM>;
        for (var i = 0u; i < HALF; i++) {
            let at = k + i * PAGE;
            let a = unpack2x16float(keys[at.x]);
            let b = unpack2x16float(keys[at.y]);
            let c = unpack2x16float(keys[at.z]);
            let d = unpack2x16float(keys[at.w]);
            for (var h = 0u; h < TEAM; h++) {
                let x = query[h][i];
                score[h] += x.x * vec4<f32>(a.x, b.x, c.x, d.x) + x.y * vec4<f32>(a.y, b.y, c.y, d.y);
            }
        }
        var weight: array<vec4<f32>, TEAM>;
        for (var h = 0u; h < TEAM; h++) {
            let s = score[h];
            let capped = select(
                vec4<f32>(-3.0e38), vec4<f32>(soft_cap(s.x), soft_cap(s.y), soft_cap(s.z), soft_cap(s.w)), inside);
            let most = max(max(capped.x, capped.y), max(capped.z, capped.w));
            if most > maximum[h] {
                let fade = exp(maximum[h] - most);
                total[h] *= fade;
                for (var i = 0u; i < HALF; i++) {
                    sum[h][i] *= fade;
                }
                maximum[h] = most;
            }
            weight[h] = exp(capped - maximum[h]);
            total[h] += (weight[h].x + weight[h].y) + (weight[h].z + weight[h].w);
        }
        let v = (page * PAGE + token) * HALF;
        for (var i = 0u; i < HALF; i++) {
            let a = unpack2x16float(values[v.x + i]);
            let b = unpack2x16float(values[v.y + i]);
            let c = unpack2x16float(values[v.z + i]);
            let d = unpack2x16float(values[v.w + i]);
            for (var h = 0u; h < TEAM; h++) {
                let w = weight[h];
                sum[h][i] += w.x * a + w.y * b + w.z * c + w.w * d;
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
