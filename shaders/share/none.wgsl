// For devices without subgroups, or with some of less than four lanes: each lane loads all that it wants.

const SHARED: bool = false;
const LANES: u32 = 4u;

struct Lane { @builtin(local_invocation_index) id: u32 }

fn share(a: f32, b: f32) -> array<vec4<f32>, 2> {
    return array<vec4<f32>, 2>();
}
