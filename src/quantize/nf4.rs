//! NF4: 16 states for weights that are normally distributed (Dettmers, Pagnoni, Holtzman and Zettlemoyer, "QLoRA:
//! Efficient Finetuning of Quantized LLMs", 2023, section 3 and appendix E).

use half::f16;

pub use crate::format::nf4::STATES;

/// A group's scale as it is stored: its greatest magnitude.
pub fn scale(group: &[f32]) -> f16 {
    f16::from_f32(group.iter().fold(0.0, |most, w| w.abs().max(most)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number below which a standard normal variable lies with probability `p`, by Newton's method on
    /// Φ(x) = ½ + φ(x) · (x + x³/3 + x⁵/(3·5) + …) (Abramowitz and Stegun, 26.2.11).
    fn quantile(p: f64) -> f64 {
        (0..50).fold(0.0, |x: f64, _| {
            let density = (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
            let (mut term, mut sum) = (x, x);
            for k in 1..100 {
                term *= x * x / f64::from(2 * k + 1);
                sum += term;
            }
            x - (0.5 + density * sum - p) / density
        })
    }

    #[test]
    fn states_are_the_published_quantiles() {
        let most = 1.0 - (1.0 / 30.0 + 1.0 / 32.0) / 2.0;
        let side = |steps: usize| {
            (0..steps).map(move |i| quantile(most + (0.5 - most) * i as f64 / steps as f64) / quantile(most))
        };
        let mut expected: Vec<f64> = side(7).map(|q| -q).chain([0.0]).chain(side(8)).collect();
        expected.sort_by(f64::total_cmp);
        for (state, expected) in STATES.iter().zip(&expected) {
            assert!((f64::from(*state) - expected).abs() < 1e-6, "{state} {expected}");
        }
    }
}
