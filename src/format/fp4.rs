//! bitsandbytes' FP4: floating point numbers of 4 bits with two of exponent and one of mantissa, over 12.

use super::states::states_format;

/// The states.
pub const STATES: [f32; 16] = [
    0.0,
    0.0625 / 12.0,
    8.0 / 12.0,
    1.0,
    4.0 / 12.0,
    6.0 / 12.0,
    2.0 / 12.0,
    3.0 / 12.0,
    0.0,
    -0.0625 / 12.0,
    -8.0 / 12.0,
    -1.0,
    -4.0 / 12.0,
    -6.0 / 12.0,
    -2.0 / 12.0,
    -3.0 / 12.0,
];

/// `w = scale · state`
pub const FORMAT: super::Format = states_format!("fp4", STATES);
