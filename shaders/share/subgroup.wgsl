// Eight numbers that every lane wants: SHARE lanes load one each (or two, if they are four), and hand them to all. On
// processors that costs less than each number loaded by all lanes, though it be the same for all of them.
// Expects: SHARE (8 or 4, lanes that a subgroup has at least). All lanes take part.

struct Lane { @builtin(subgroup_invocation_id) id: u32 }

// a: number `id % 8` of those eight; if lanes are four, number `id` of the first four and b of the others.
fn share(a: f32, b: f32) -> array<vec4<f32>, 2> {
    let first = vec4<f32>(
        subgroupBroadcast(a, 0u), subgroupBroadcast(a, 1u), subgroupBroadcast(a, 2u), subgroupBroadcast(a, 3u));
    if SHARE == 4u {
        return array<vec4<f32>, 2>(first, vec4<f32>(
            subgroupBroadcast(b, 0u), subgroupBroadcast(b, 1u), subgroupBroadcast(b, 2u), subgroupBroadcast(b, 3u)));
    }
    return array<vec4<f32>, 2>(first, vec4<f32>(
        subgroupBroadcast(a, 4u), subgroupBroadcast(a, 5u), subgroupBroadcast(a, 6u), subgroupBroadcast(a, 7u)));
}
