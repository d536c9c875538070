// The key of the greatest logit of an output, known to all lanes, from what `sample_greatest` found of each part.

var<workgroup> greatest_key: atomic<u32>;

fn find_greatest(lane: u32, output: u32) -> u32 {
    if lane == 0u {
        atomicStore(&greatest_key, 0u);
    }
    workgroupBarrier();
    for (var part = lane; part < PARTS; part += WG) {
        atomicMax(&greatest_key, parts[part_at(output, part)]);
    }
    workgroupBarrier();
    return atomicLoad(&greatest_key);
}
