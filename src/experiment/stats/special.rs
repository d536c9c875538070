//! The few special functions that the tests need.

use std::f64::consts::{FRAC_2_PI, FRAC_PI_2, TAU};

/// ln Γ(x) for x > 0, infinite elsewhere: Stirling's series (Abramowitz and Stegun 6.1.41), where x is large
/// enough for five terms to reach double precision; Γ(x) = Γ(x + 1) / x leads there.
pub fn ln_gamma(x: f64) -> f64 {
    if x.is_nan() || x <= 0.0 || x == f64::INFINITY {
        return f64::INFINITY;
    }
    let (mut x, mut passed) = (x, 1.0);
    while x < 10.0 {
        passed *= x;
        x += 1.0;
    }
    let terms = [1.0 / 12.0, -1.0 / 360.0, 1.0 / 1260.0, -1.0 / 1680.0, 1.0 / 1188.0];
    let series = terms.iter().rev().fold(0.0, |sum, term| sum / (x * x) + term) / x;
    (x - 0.5) * x.ln() - x + 0.5 * TAU.ln() + series - f64::ln(passed)
}

/// ln of the number of ways to choose `k` of `n`, −∞ if there are none: ln(n! / (k! (n − k)!)).
pub fn ln_binomial(n: usize, k: usize) -> f64 {
    if k > n {
        return f64::NEG_INFINITY;
    }
    let ln_factorial = |m: usize| ln_gamma(m as f64 + 1.0);
    ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k)
}

/// Probability of at most `k` hits in `n` trials that each hit with probability `p`: the exact sum of
/// C(n,i) pⁱ (1 − p)ⁿ⁻ⁱ, each term by its logarithm, so that no factor overflows.
pub fn binomial_cdf(k: usize, n: usize, p: f64) -> f64 {
    if k >= n || p.is_nan() || p <= 0.0 {
        return 1.0;
    }
    if p >= 1.0 {
        return 0.0;
    }
    let (hit, miss) = (p.ln(), (-p).ln_1p());
    let term = |i: usize| (ln_binomial(n, i) + i as f64 * hit + (n - i) as f64 * miss).exp();
    (0..=k).map(term).sum::<f64>().min(1.0)
}

/// The t that a Student variable of so many degrees of freedom stays within, on both sides, with probability
/// 95%; none without a degree of freedom. Bisection of
/// the distribution (Abramowitz and Stegun 26.7.3 and 26.7.4).
pub fn student_t(freedom: usize) -> Option<f64> {
    if freedom == 0 {
        return None;
    }
    let (mut low, mut high) = (0.0, FRAC_PI_2);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if within(middle, freedom) < 0.95 { low = middle } else { high = middle }
    }
    Some((freedom as f64).sqrt() * f64::tan(0.5 * (low + high)))
}

/// P(|t| < √ν tan θ), a finite sum for whole ν (Abramowitz and Stegun 26.7.3 and 26.7.4).
fn within(theta: f64, freedom: usize) -> f64 {
    let (sin, cos) = theta.sin_cos();
    let odd = freedom % 2 == 1;
    let (mut term, mut power, mut sum) = if odd { (cos, 1, 0.0) } else { (1.0, 0, 0.0) };
    while power + 2 <= freedom {
        sum += term;
        power += 2;
        term *= cos * cos * (power - 1) as f64 / power as f64;
    }
    if odd { FRAC_2_PI * (theta + sin * sum) } else { sin * sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_input_gives_limits() {
        assert_eq!(ln_gamma(0.0), f64::INFINITY);
        assert_eq!([ln_gamma(f64::NAN), ln_gamma(f64::INFINITY)], [f64::INFINITY; 2]);
        assert_eq!(ln_binomial(2, 3), f64::NEG_INFINITY);
        assert_eq!(
            [binomial_cdf(0, 0, 0.5), binomial_cdf(0, 5, 0.0), binomial_cdf(4, 5, 1.0)],
            [1.0, 1.0, 0.0]
        );
        assert_eq!(student_t(0), None);
    }

    #[test]
    fn a_binomial_distribution_sums_to_one_and_is_symmetric() {
        for n in [1, 2, 9, 10, 57, 1000] {
            let below = binomial_cdf(n - 1, n, 0.5);
            assert!((1.0 - below - 0.5f64.powi(n as i32)).abs() < 1e-11, "{n}: {below}");
            let half = binomial_cdf((n - 1) / 2, n, 0.5);
            let middle = if n % 2 == 0 { (ln_binomial(n, n / 2) - n as f64 * 2f64.ln()).exp() } else { 0.0 };
            assert!((2.0 * half + middle - 1.0).abs() < 1e-11, "{n}: {half} {middle}");
        }
    }
}
