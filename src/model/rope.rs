//! Rotary position embedding: the angles.

use crate::checkpoint::{Config, RopeScaling};
use std::f64::consts::TAU;

/// Cosine and sine for each position and pair of dimensions, `[positions, head_dim / 2, 2]`.
pub fn rotation(config: &Config, positions: usize) -> Vec<f32> {
    let frequencies = frequencies(config);
    let mut table = Vec::with_capacity(positions * frequencies.len() * 2);
    for position in 0..positions {
        for frequency in &frequencies {
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            table.extend([cos as f32, sin as f32]);
        }
    }
    table
}

/// Radians a position, for each pair of dimensions: θ^(−2i/d), scaled as the configuration says.
fn frequencies(config: &Config) -> Vec<f64> {
    let half = config.head_dim / 2;
    let plain = |i: usize| config.rope_theta.powf(-(i as f64) / half as f64);
    (0..half).map(|i| scaled(plain(i), config.rope_scaling)).collect()
}

fn scaled(frequency: f64, scaling: RopeScaling) -> f64 {
    match scaling {
        RopeScaling::None => frequency,
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
    }
}
