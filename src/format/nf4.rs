//! bitsandbytes' NF4: 16 states at quantiles of the normal distribution (arXiv:2305.14314), as its files have them.

use super::states::states_format;

/// The states.
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
