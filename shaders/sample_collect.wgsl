// Finds how far down what top-k or top-p keeps can be, and collects the tokens above that, if they are few: mostly some dozens.
//
// Expects exact.wgsl, sampling.wgsl, greatest.wgsl. Grid: (PARTS, outputs).

@group(0) @binding(2) var<storage, read> logits: array<f32>;                // [outputs, STRIDE]
@group(0) @binding(3) var<storage, read> steps: array<u32>;                 // [outputs, 3, STEPS]
@group(0) @binding(4) var<storage, read_write> lists: array<atomic<u32>>;   // [outputs, 1 + LIST]
@group(0) @binding(5) var<storage, read_write> parts: array<u32>;           // [outputs, PARTS + 1, PART_WORDS]

// A number of tokens, and what they weigh.
struct Amount {
    count: u32,
    weight: vec2<u32>,
}

// Steps are walked by one lane, sixteen at a time first.
const GROUP: u32 = 16u;
var<workgroup> of_step: array<Amount, STEPS>;
var<workgroup> of_group: array<Amount, GROUP>;
var<workgroup> last_step: u32;
var<workgroup> above: u32;

fn plus(a: Amount, b: Amount) -> Amount {
    return Amount(a.count + b.count, add64(a.weight, b.weight));
}

// Whether a cut keeps no more than that.
fn enough(s: Settings, sum: Amount, wanted: vec2<u32>) -> bool {
    if cuts_by_count(s) {
        return sum.count >= s.top_k;
    }
    return less64(wanted, sum.weight);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let output = workgroup.y;
    let row = rows[output];
    if row.sequence == NONE {
        return;
    }
    let s = settings[row.sequence];
    if s.inverse_temperature == 0.0 || !cuts(s) {
        return;
    }
    let greatest = logit_of(find_greatest(lane, output));
    for (var step = lane; step < STEPS; step += WG) {
        let at = steps_at(output) + step;
        of_step[step] = Amount(steps[at], of_halves(steps[at + STEPS], steps[at + 2u * STEPS]));
    }
    workgroupBarrier();
    if lane < GROUP {
        var sum = Amount();
        for (var i = 0u; i < GROUP; i++) {
            sum = plus(sum, of_step[lane * GROUP + i]);
        }
        of_group[lane] = sum;
    }
    workgroupBarrier();
    if lane == 0u {
        var all = Amount();
        for (var group = 0u; group < GROUP; group++) {
            all = plus(all, of_group[group]);
        }
        let wanted = scale64(all.weight, s.top_p);
        var sum = Amount();
        var group = 0u;
        for (; group < GROUP - 1u; group++) {
            let next = plus(sum, of_group[group]);
            if enough(s, next, wanted) {
                break;
            }
            sum = next;
        }
        var step = group * GROUP;
        for (; step < STEPS; step++) {
            sum = plus(sum, of_step[step]);
            if enough(s, sum, wanted) {
                break;
            }
        }
        last_step = step;
        above = sum.count;
        if workgroup.x == 0u {
            let at = part_at(output, PARTS);
            parts[at] = sum.count;
            parts[at + 2u] = all.weight.x;
            parts[at + 3u] = all.weight.y;
        }
    }
    workgroupBarrier();
    if above > LIST {
        return;
    }
    let first = workgroup.x * PART;
    for (var i = first + lane; i < min(first + PART, VOCAB); i += WG) {
        if step_of(logits[output * STRIDE + i], greatest) <= last_step {
            let place = atomicAdd(&lists[list_at(output)], 1u);
            // More than were counted are met only where a logit is not finite.
            if place < LIST {
                atomicStore(&lists[list_at(output) + 1u + place], i);
            }
        }
    }
}
