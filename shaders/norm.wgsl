// RMS norm (arXiv:1910.07467) of what is multiplied, in the product: columns of x are multiplied with their factors, and the sums
// with the scale. Expects: K, EPS, ONE_PLUS (the weight is stored as what it differs from 1).

fn norm_factor(weight: f32) -> f32 {
    return select(weight, 1.0 + weight, ONE_PLUS);
}

fn norm_factors(weight: vec4<f32>) -> vec4<f32> {
    return select(weight, 1.0 + weight, ONE_PLUS);
}

fn norm_scale(squares: f32) -> f32 {
    return inverseSqrt(squares / f32(K) + EPS);
}
