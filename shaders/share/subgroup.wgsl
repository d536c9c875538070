// Eight numbers that all lanes want: each loads one (or two, where lanes are four), and hands it to all. On processors that
// costs less than if all loaded all of them, though they be the same.
// Expects: LANES (8 or 4, that a subgroup has at least). All lanes take part.

const SHARED: bool = true;

struct Lane { @builtin(subgroup_invocation_id) id: u32 }

fn four(own: f32) -> vec4<f32> {
    return vec4<f32>(
        subgroupBroadcast(own, 0u), subgroupBroadcast(own, 1u),
        subgroupBroadcast(own, 2u), subgroupBroadcast(own, 3u));
}

// All eight; a is number `id % 8`, or, where lanes are four, `id` of the first four and b of the others.
fn share(a: f32, b: f32) -> array<vec4<f32>, 2> {
    if LANES == 4u {
        return array<vec4<f32>, 2>(four(a), four(b));
    }
    return array<vec4<f32>, 2>(
        four(a),
        vec4<f32>(
            subgroupBroadcast(a, 4u), subgroupBroadcast(a, 5u),
            subgroupBroadcast(a, 6u), subgroupBroadcast(a, 7u)));
}
