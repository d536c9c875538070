// For devices without subgroups of eight lanes or more: each lane loads all that it wants.

const SHARED: bool = false;

struct Lane { @builtin(local_invocation_index) id: u32 }

fn share(a: f32) -> array<vec4<f32>, 2> {
    return array<vec4<f32>, 2>();
}

fn share_twos(a: vec2<f32>) -> array<array<vec4<f32>, 2>, 2> {
    return array<array<vec4<f32>, 2>, 2>();
}

fn share_vectors(a: vec4<f32>) -> array<vec4<f32>, 8> {
    return array<vec4<f32>, 8>();
}

fn least_of_all(a: u32) -> u32 {
    return a;
}
