//! Round to nearest: the grid spans the group's range.

use super::{Quantizer, range};

pub const QUANTIZER: Quantizer = Quantizer {
    name: "rtn",
    choose: |group, states, zeros| {
        let (low, high) = range(group);
        zeros.spanning(low, high, states)
    },
    calibrated: None,
};
