// What an MLP does to each of its numbers, by ACT: 0 SiLU, x / (1 + e^−x); 1 GELU (arXiv:1606.08415) as
// x · ½(1 + tanh(√(2/π)·(x + 0.044715·x³))), where ½(1 + tanh(u)) is the logistic function of 2u; 2 GELU as
// x · ½(1 + erf(x / √2)). Exponents are kept finite. Expects: ACT.

fn logistic(v: f32) -> f32 {
    return 1.0 / (1.0 + exp(min(-v, 80.0)));
}

// Abramowitz & Stegun, 7.1.26: off by at most 1.5e-7.
fn erf(v: f32) -> f32 {
    let a = abs(v);
    let t = 1.0 / (1.0 + 0.3275911 * a);
    let series = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    return sign(v) * (1.0 - series * exp(-min(a * a, 80.0)));
}

fn act(v: f32) -> f32 {
    if ACT == 0u {
        return v * logistic(v);
    }
    if ACT == 1u {
        return v * logistic(1.5957691216 * (v + 0.044715 * v * v * v));
    }
    return 0.5 * v * (1.0 + erf(0.7071067812 * v));
}
