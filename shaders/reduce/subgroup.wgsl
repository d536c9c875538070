// Sums and maxima over a workgroup: within each subgroup first, then over one value a subgroup.
// Every invocation takes part and gets the result. Expects: WG (invocations).

struct Thread {
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
}

var<workgroup> reduce_scratch: array<f32, WG>;

fn workgroup_sum(t: Thread, value: f32) -> f32 {
    let part = subgroupAdd(value);
    if t.subgroup_lane == 0u {
        reduce_scratch[t.subgroup] = part;
    }
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < t.subgroups; i++) {
        total += reduce_scratch[i];
    }
    workgroupBarrier();
    return total;
}

fn workgroup_max(t: Thread, value: f32) -> f32 {
    let part = subgroupMax(value);
    if t.subgroup_lane == 0u {
        reduce_scratch[t.subgroup] = part;
    }
    workgroupBarrier();
    var greatest = reduce_scratch[0];
    for (var i = 1u; i < t.subgroups; i++) {
        greatest = max(greatest, reduce_scratch[i]);
    }
    workgroupBarrier();
    return greatest;
}
