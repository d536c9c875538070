// Copies: out = plane 0, as fast as memory gives and takes. What bandwidth is measured with.
// Expects: N (vectors), PER (vectors a lane), WG. Grid: (workgroups of WG · PER vectors).

@group(0) @binding(0) var<storage, read_write> out: array<vec4<u32>>; // [N]

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    for (var j = 0u; j < PER; j++) {
        let i = (workgroup.x * PER + j) * WG + lane;
        if i < N {
            out[i] = words_0(i / 16u, i % 16u);
        }
    }
}
