// Causal attention over the paged cache, streaming softmax (arXiv:2205.14135): no row of scores is ever
// held whole. out[r, h] = Σ_j softmax_j(q[r, h] · k_j / sqrt(head size)) · v_j over the keys j of r's sequence
// up to r's position, and no further back than WINDOW where that is not 0.
//
// One workgroup a row and head. For WG keys at a time: a lane scores one key (neighbouring lanes read
// neighbouring words of a page); then a lane adds up one pair of dimensions over the keys of its slice.
//
// Expects: HEADS, KV_HEADS, HALF (half a head), PAGE (tokens of a page, divides WG), MAX_PAGES (a sequence's),
// WINDOW, SCALE, WG. Grid: (heads, rows).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> pages: array<u32>;     // [sequences, MAX_PAGES]
@group(0) @binding(2) var<storage, read> q: array<f32>;         // [rows, HEADS · 2·HALF]
@group(0) @binding(3) var<storage, read> keys: array<u32>;      // [pages, KV_HEADS, HALF, PAGE]
@group(0) @binding(4) var<storage, read> values: array<u32>;    // [pages, KV_HEADS, PAGE, HALF]
@group(0) @binding(5) var<storage, read_write> out: array<f32>; // [rows, HEADS · 2·HALF]

const LOWEST: f32 = -3.0e38;
const SPAN: u32 = min(HALF, WG);             // lanes that share the keys of one slice
const SLICES: u32 = WG / SPAN;               // slices of the keys that are summed side by side
const PAIRS: u32 = (HALF + SPAN - 1u) / SPAN; // pairs of dimensions that a lane owns

var<workgroup> query: array<vec2<f32>, HALF>;
var<workgroup> weight: array<f32, WG>;
var<workgroup> slice_sum: array<vec2<f32>, WG>;

@compute @workgroup_size(WG)
fn main(t: Thread) {
    let head = t.workgroup.x;
    let row = rows[t.workgroup.y];
    if row.sequence == NONE {
        return;
    }
    let kv_head = head / (HEADS / KV_HEADS);
    let base = (t.workgroup.y * HEADS + head) * 2u * HALF;
    for (var i = t.lane; i < HALF; i += WG) {
        query[i] = vec2<f32>(q[base + i], q[base + HALF + i]) * SCALE;
    }
    workgroupBarrier();

    let end = row.position + 1u;
    let first = select(0u, end - min(end, WINDOW), WINDOW > 0u);
    let slice = t.lane / SPAN;
    var maximum = LOWEST;
    var total = 0.0;
    var sum: array<vec2<f32>, PAIRS>;
    // Blocks start on a page.
    for (var block = first / PAGE * PAGE; block < end; block += WG) {
        let key = block + t.lane;
        let seen = key >= first && key < end;
        var score = LOWEST;
        if seen {
            let page = pages[row.sequence * MAX_PAGES + key / PAGE];
            let at = (page * KV_HEADS + kv_head) * HALF * PAGE + key % PAGE;
            score = 0.0;
            for (var i = 0u; i < HALF; i++) {
                score += dot(query[i], unpack2x16float(keys[at + i * PAGE]));
            }
        }
        let greatest = max(maximum, workgroup_max(t, score));
        let p = select(0.0, exp(score - greatest), seen);
        let fade = exp(maximum - greatest);
        weight[t.lane] = p;
        total = total * fade + workgroup_sum(t, p); // its barriers publish the weights
        for (var j = 0u; j < PAIRS; j++) {
            sum[j] *= fade;
        }
        for (var start = 0u; start < min(WG, end - block) && slice < SLICES; start += PAGE) {
            let page = pages[row.sequence * MAX_PAGES + (block + start) / PAGE];
            let at = (page * KV_HEADS + kv_head) * PAGE * HALF;
            for (var k = slice; k < min(PAGE, end - block - start); k += SLICES) {
                for (var j = 0u; j < PAIRS; j++) {
                    let pair = t.lane % SPAN + j * SPAN;
                    if pair < HALF {
                        sum[j] += weight[start + k] * unpack2x16float(values[at + k * HALF + pair]);
                    }
                }
            }
        }
        maximum = greatest;
        workgroupBarrier();
    }
    for (var j = 0u; j < PAIRS; j++) {
        slice_sum[t.lane] = sum[j];
        workgroupBarrier();
        let pair = t.lane + j * SPAN;
        if t.lane < SPAN && pair < HALF {
            var result = vec2<f32>();
            for (var s = 0u; s < SLICES; s++) {
                result += slice_sum[s * SPAN + t.lane];
            }
            out[base + pair] = result.x / total;
            out[base + HALF + pair] = result.y / total;
        }
        workgroupBarrier();
    }
}
