//! Round to nearest: the grid spans the group's range.

use super::{Quantizer, each, range};

pub const QUANTIZER: Quantizer = Quantizer {
    name: "rtn",
    choose: |row, group, states, zeros| {
        each(row, group, |group| {
            let (low, high) = range(group);
            zeros.spanning(low, high, states)
        })
    },
    calibrated: None,
};
