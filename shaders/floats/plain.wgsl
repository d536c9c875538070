// Four floats of a uniform buffer, as they are loaded: LOADED in one number.
alias Four = vec4<f32>;

const LOADED: u32 = 1u;

fn floats_of(one: f32) -> vec2<f32> {
    return vec2<f32>(one);
}

fn four_floats(four: Four) -> vec4<f32> {
    return four;
}
