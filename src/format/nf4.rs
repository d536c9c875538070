//! bitsandbytes' NF4: 16 states at quantiles of the normal distribution (arXiv:2305.14314), as its files have them.

use super::states::states_format;

/// The states of a group whose greatest magnitude is 1: quantiles of the standard normal distribution, evenly
/// spaced in probability from δ = 1 − (1/30 + 1/32)/2 to 1/2, in 8 steps above 0 and in 7 below, with 0 itself,
/// divided by the greatest.
pub const STATES: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// `w = scale · state`
pub const FORMAT: super::Format = states_format!("nf4", STATES);
