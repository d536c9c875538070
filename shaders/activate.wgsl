// The middle of an MLP: out[r, i] = act(gate[r, i]) · up[r, i] where GATED (arXiv:2002.05202), else act(x[r, i]).
// act is, by ACT: 0 SiLU, x / (1 + e^−x); 1 GELU (arXiv:1606.08415) as x · ½(1 + tanh(√(2/π)·(x + 0.044715·x³))), where
// ½(1 + tanh(u)) is the logistic function of 2u; 2 GELU as x · ½(1 + erf(x / √2)). Exponents are kept finite.
// Expects: K (intermediate size), ACT, GATED, WG. Grid: (vectors of a row / WG, rows).

@group(0) @binding(0) var<storage, read> rows: array<Row>;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;         // [rows, 2·K] gate, then up; [rows, K] if not GATED
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>; // [rows, K]

fn logistic(v: vec4<f32>) -> vec4<f32> {
    return 1.0 / (1.0 + exp(min(-v, vec4<f32>(80.0))));
}

// Abramowitz & Stegun, 7.1.26: off by at most 1.5e-7.
fn erf(v: vec4<f32>) -> vec4<f32> {
    let a = abs(v);
    let t = 1.0 / (1.0 + 0.3275911 * a);
    let series = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    return sign(v) * (1.0 - series * exp(-min(a * a, vec4<f32>(80.0))));
}

fn act(v: vec4<f32>) -> vec4<f32> {
    if ACT == 0u {
        return v * logistic(v);
    }
    if ACT == 1u {
        return v * logistic(1.5957691216 * (v + 0.044715 * v * v * v));
    }
    return 0.5 * v * (1.0 + erf(0.7071067812 * v));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = workgroup.x * WG + lane;
    if rows[workgroup.y].sequence == NONE || i >= K / 4u {
        return;
    }
    var result: vec4<f32>;
    if GATED {
        let gate = x[workgroup.y * (K / 2u) + i];
        result = act(gate) * x[workgroup.y * (K / 2u) + K / 4u + i];
    } else {
        result = act(x[workgroup.y * (K / 4u) + i]);
    }
    out[workgroup.y * (K / 4u) + i] = result;
}
