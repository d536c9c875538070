// Four floats of a uniform buffer, as they are loaded: LOADED in one number.
alias Four = vec2<u64>;

const LOADED: u32 = 2u;

fn floats_of(two: u64) -> vec2<f32> {
    return vec2<f32>(bitcast<f32>(u32(two)), bitcast<f32>(u32(two >> 32u)));
}

fn four_floats(four: Four) -> vec4<f32> {
    return vec4<f32>(floats_of(four.x), floats_of(four.y));
}
