// What all lanes want: each of eight loads a part, and hands it to all. On processors that costs less than if all loaded all
// of them, though they be the same. Subgroups have eight lanes or more, and all of them take part.

const SHARED: bool = true;

struct Lane { @builtin(subgroup_invocation_id) id: u32 }

// All eight; a is number `id % 8`.
fn share(a: f32) -> array<vec4<f32>, 2> {
    return array<vec4<f32>, 2>(
        vec4<f32>(
            subgroupBroadcast(a, 0u), subgroupBroadcast(a, 1u),
            subgroupBroadcast(a, 2u), subgroupBroadcast(a, 3u)),
        vec4<f32>(
            subgroupBroadcast(a, 4u), subgroupBroadcast(a, 5u),
            subgroupBroadcast(a, 6u), subgroupBroadcast(a, 7u)));
}

// Those of the first four lanes, and those of the next four.
fn share_twos(a: vec2<f32>) -> array<array<vec4<f32>, 2>, 2> {
    return array<array<vec4<f32>, 2>, 2>(
        array<vec4<f32>, 2>(
            vec4<f32>(subgroupBroadcast(a, 0u), subgroupBroadcast(a, 1u)),
            vec4<f32>(subgroupBroadcast(a, 2u), subgroupBroadcast(a, 3u))),
        array<vec4<f32>, 2>(
            vec4<f32>(subgroupBroadcast(a, 4u), subgroupBroadcast(a, 5u)),
            vec4<f32>(subgroupBroadcast(a, 6u), subgroupBroadcast(a, 7u))));
}

// The vectors of the first eight lanes.
fn share_vectors(a: vec4<f32>) -> array<vec4<f32>, 8> {
    return array<vec4<f32>, 8>(
        subgroupBroadcast(a, 0u), subgroupBroadcast(a, 1u), subgroupBroadcast(a, 2u), subgroupBroadcast(a, 3u),
        subgroupBroadcast(a, 4u), subgroupBroadcast(a, 5u), subgroupBroadcast(a, 6u), subgroupBroadcast(a, 7u));
}

fn least_of_all(a: u32) -> u32 {
    return subgroupMin(a);
}
