//! Rotary position embedding: the angles.

use crate::checkpoint::{Rope, RopeScaling};
use std::f64::consts::TAU;

/// Cosine and sine for each position and pair of dimensions, `[positions, rotary_dim / 2, 2]`, with each pair's frequency
/// divided by its factor, if there are factors.
pub fn rotation(rope: Rope, factors: Option<&[f32]>, positions: usize) -> Vec<f32> {
    let mut frequencies = frequencies(rope);
    for (frequency, &factor) in frequencies.iter_mut().zip(factors.unwrap_or_default()) {
        *frequency /= f64::from(factor);
    }
    let length = match rope.rope_scaling {
        RopeScaling::Yarn { attention_factor, .. } | RopeScaling::LongRope { attention_factor, .. } => {
            attention_factor
        }
        _ => 1.0,
    };
    let mut table = Vec::with_capacity(positions * frequencies.len() * 2);
    for position in 0..positions {
        for frequency in &frequencies {
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            table.extend([(length * cos) as f32, (length * sin) as f32]);
        }
    }
    table
}

/// What the frequencies of Llama 3's rule are divided by, which is how GGUF files store it; none for other rules.
pub fn factors(rope: Rope) -> Option<Vec<f32>> {
    matches!(rope.rope_scaling, RopeScaling::Llama3 { .. }).then(|| {
        let plain = frequencies(Rope { rope_scaling: RopeScaling::None, ..rope });
        plain.iter().zip(frequencies(rope)).map(|(plain, scaled)| (plain / scaled) as f32).collect()
    })
}

/// Radians a position, for each pair of dimensions: θ^(−2i/d), scaled as the configuration says.
fn frequencies(rope: Rope) -> Vec<f64> {
    let half = rope.rotary_dim / 2;
    let plain = |i: usize| rope.rope_theta.powf(-(i as f64) / half as f64);
    (0..half).map(|i| scaled(i, plain(i), rope)).collect()
}

fn scaled(i: usize, frequency: f64, rope: Rope) -> f64 {
    match rope.rope_scaling {
        // LongRoPE's factors come apart.
        RopeScaling::None | RopeScaling::LongRope { .. } => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        // Llama 3.1's: long waves are slowed, short ones kept, those between blended.
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        } => {
            let turns = original_max_position_embeddings as f64 * frequency / TAU;
            let kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
            frequency * (kept + (1.0 - kept) / factor)
        }
        // YaRN's "NTK by parts" (arXiv:2309.00071, section 3.2), with the ramp over pairs, not over turns, as all
        // implementations have it: between the pair that makes beta_fast turns over the original length and the one
        // that makes beta_slow.
        RopeScaling::Yarn { factor, beta_fast, beta_slow, original_max_position_embeddings, .. } => {
            let (half, length) = (rope.rotary_dim as f64 / 2.0, original_max_position_embeddings as f64);
            let pair = |turns: f64| half * (length / (turns * TAU)).ln() / rope.rope_theta.ln();
            let first = pair(beta_fast).floor().max(0.0);
            let mut last = pair(beta_slow).ceil().min(rope.rotary_dim as f64 - 1.0);
            if first == last {
                last += 0.001;
            }
            let slowed = ((i as f64 - first) / (last - first)).clamp(0.0, 1.0);
            frequency * (1.0 - slowed + slowed / factor)
        }
    }
}
