// What matmul_tile multiplies: 32-bit floats, as they are.

alias Loaded = vec4<f32>; // four columns of a row of x
alias Kept = vec4<f32>;   // four numbers in workgroup memory

fn keep(loaded: Loaded) -> Kept {
    return loaded;
}
