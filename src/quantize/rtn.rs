//! Round to nearest: the grid spans the group's range.

use super::{Grid, Quantizer};

pub const QUANTIZER: Quantizer = Quantizer {
    name: "rtn",
    choose: |group, states| {
        let (low, high) = range(group);
        Grid::spanning(low, high, states)
    },
};

/// Least and greatest of a group.
pub fn range(group: &[f32]) -> (f32, f32) {
    group.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &w| (low.min(w), high.max(w)))
}
