// How many tokens are how far below the greatest, and what they weigh if that is what top-p goes by: it tells how far down
// the first cut can be. Where nothing is cut, what the tokens of each part weigh in a draw.
//
// Expects exact.wgsl, sampling.wgsl, bins.wgsl, greatest.wgsl. Grid: (PARTS, outputs).

@group(0) @binding(2) var<storage, read> logits: array<f32>;                // [outputs, STRIDE]
@group(0) @binding(3) var<storage, read_write> steps: array<atomic<u32>>;   // [outputs, 3, STEPS]
@group(0) @binding(4) var<storage, read_write> parts: array<u32>;           // [outputs, PARTS + 1, PART_WORDS]

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let output = workgroup.y;
    let row = rows[output];
    if row.sequence == NONE {
        return;
    }
    let s = settings[row.sequence];
    if s.inverse_temperature == 0.0 {
        return;
    }
    let base = output * STRIDE;
    let first = workgroup.x * PART;
    let end = min(first + PART, VOCAB);
    let greatest = logit_of(find_greatest(lane, output));
    if cuts(s) {
        let by_mass = !cuts_by_count(s);
        clear_bins(lane);
        for (var i = first + lane; i < end; i += WG) {
            let x = logits[base + i];
            let step = step_of(x, greatest);
            atomicAdd(&bin_count[step], 1u);
            if by_mass {
                let amount = mass(x, greatest, 1.0);
                if amount > 0u {
                    put_in_bin(step, amount);
                }
            }
        }
        workgroupBarrier();
        for (var step = lane; step < STEPS; step += WG) {
            let count = atomicLoad(&bin_count[step]);
            if count > 0u {
                let at = steps_at(output) + step;
                atomicAdd(&steps[at], count);
                atomicAdd(&steps[at + STEPS], atomicLoad(&bin_low[step]));
                atomicAdd(&steps[at + 2u * STEPS], atomicLoad(&bin_high[step]));
            }
        }
    } else {
        var sum = vec2<u32>();
        for (var i = first + lane; i < end; i += WG) {
            sum = add64(sum, vec2<u32>(draw_mass(s, logits[base + i], greatest), 0u));
        }
        let total = sum_lanes(lane, sum);
        if lane == 0u {
            let at = part_at(output, workgroup.x);
            parts[at + 2u] = total.x;
            parts[at + 3u] = total.y;
        }
    }
}
