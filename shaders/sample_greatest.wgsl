// The greatest logit of each part of the vocabulary, the lowest token of those that tie, after the repeat penalty.
//
// Expects sampling.wgsl. Grid: (PARTS, outputs).

@group(0) @binding(2) var<storage, read> history: array<u32>;         // [sequences, HISTORY]
@group(0) @binding(3) var<storage, read_write> logits: array<f32>;    // [outputs, STRIDE]
@group(0) @binding(4) var<storage, read_write> steps: array<u32>;     // [outputs, 3, STEPS]: cleared
@group(0) @binding(5) var<storage, read_write> lists: array<u32>;     // [outputs, 1 + LIST]: emptied
@group(0) @binding(6) var<storage, read_write> parts: array<u32>;     // [outputs, PARTS + 1, PART_WORDS]

var<workgroup> best: atomic<u32>;
var<workgroup> best_token: atomic<u32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let output = workgroup.y;
    let row = rows[output];
    if row.sequence == NONE {
        return;
    }
    let s = settings[row.sequence];
    let base = output * STRIDE;
    let first = workgroup.x * PART;
    let end = min(first + PART, VOCAB);

    // Each token of the recent past is penalized once: by the first lane that meets it, where its part is.
    if s.last > 0u {
        let past = row.sequence * HISTORY;
        let known = row.position + 1u;
        let since = known - min(known, s.last);
        for (var j = since + lane; j < known; j += WG) {
            let token = history[past + j];
            var fresh = token >= first && token < end;
            for (var earlier = since; earlier < j && fresh; earlier++) {
                fresh = history[past + earlier] != token;
            }
            if fresh {
                let x = logits[base + token];
                logits[base + token] = select(x * s.inverse_penalty, x * s.penalty, x < 0.0);
            }
        }
        storageBarrier();
    }
    if lane == 0u {
        atomicStore(&best, 0u);
        atomicStore(&best_token, NONE);
    }
    workgroupBarrier();

    var key = 0u;
    var token = 0u;
    for (var i = first + lane; i < end; i += WG) {
        let other = sort_key(logits[base + i]);
        token = select(token, i, other > key);
        key = max(key, other);
    }
    atomicMax(&best, key);
    workgroupBarrier();
    if key == atomicLoad(&best) {
        atomicMin(&best_token, token);
    }
    workgroupBarrier();
    if lane == 0u {
        let at = part_at(output, workgroup.x);
        parts[at] = atomicLoad(&best);
        parts[at + 1u] = atomicLoad(&best_token);
    }
    if workgroup.x == 0u {
        for (var i = lane; i < 3u * STEPS; i += WG) {
            steps[steps_at(output) + i] = 0u;
        }
        if lane == 0u {
            lists[list_at(output)] = 0u;
        }
    }
}
