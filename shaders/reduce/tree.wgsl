// Sums and maxima over a workgroup, in workgroup memory alone: for devices and browsers without subgroups.
// Every invocation takes part and gets the result. Expects: WG (invocations, a power of two).

struct Thread {
    @builtin(local_invocation_index) lane: u32,
}

var<workgroup> reduce_scratch: array<f32, WG>;

fn workgroup_sum(t: Thread, value: f32) -> f32 {
    reduce_scratch[t.lane] = value;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        if t.lane < half {
            reduce_scratch[t.lane] += reduce_scratch[t.lane + half];
        }
        workgroupBarrier();
    }
    let total = reduce_scratch[0];
    workgroupBarrier();
    return total;
}

fn workgroup_max(t: Thread, value: f32) -> f32 {
    reduce_scratch[t.lane] = value;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        if t.lane < half {
            reduce_scratch[t.lane] = max(reduce_scratch[t.lane], reduce_scratch[t.lane + half]);
        }
        workgroupBarrier();
    }
    let greatest = reduce_scratch[0];
    workgroupBarrier();
    return greatest;
}
