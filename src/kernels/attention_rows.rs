//! Causal attention of neighbouring rows, whose lanes load for each other: for devices of few lanes.

use super::attention::{Cache, Way, twin};
use super::attention_cases::cases_by_rows;
use super::{Access, Kernel, Needs, wgsl};
use crate::capabilities::Capabilities;

/// Four lanes four rows, each a team of query heads.
pub const KERNEL: Kernel = Kernel {
    name: "attention_rows",
    wgsl: &[
        wgsl!("soft_cap.wgsl"),
        wgsl!("slices.wgsl"),
        wgsl!("cache/words.wgsl"),
        wgsl!("query/given.wgsl"),
        wgsl!("attention_rows.wgsl"),
    ],
    access: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Read, Access::ReadWrite],
    needs: Needs::Quads,
    twin: |call| twin(call, false),
    cases: cases_by_rows,
};

/// Rows of a workgroup.
pub(super) const TILE: usize = 4;

/// Largest heads: the kernel writes out all pairs.
const MAX_HEAD: usize = 64;

/// Whether heads of a cache are such that the kernel can serve.
pub(super) fn fits(cache: &Cache, device: &Capabilities) -> bool {
    cache.way == Way::Lane && cache.head_dim <= MAX_HEAD && KERNEL.needs.met(device)
}
