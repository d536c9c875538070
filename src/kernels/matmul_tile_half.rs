//! Activations times a packed weight by tiles of 16-bit floats, added up in 32 bits: for GPUs without matrix units, and many rows.

use super::matmul_cases::{cases, few_packings, glu_cases};
use super::shape::Shape;
use super::variant::Variant;
use super::{Access, Kernel, Needs, matmul_cooperative, wgsl};
use crate::capabilities::Capabilities;

pub const KERNEL: Kernel = Kernel {
    name: "matmul_tile_half",
    wgsl: &[
        wgsl!("activation.wgsl"),
        wgsl!("outputs.wgsl"),
        wgsl!("tile/halves.wgsl"),
        wgsl!("tile/rows.wgsl"),
        wgsl!("matmul_tile.wgsl"),
    ],
    access: &[Access::Read, Access::Read, Access::Read, Access::ReadWrite],
    needs: Needs::Halves,
    twin: matmul_cooperative::twin,
    cases: || {
        // A processor takes two seconds to compile each, and never takes this kernel: those of more than one tile of rows there.
        let tile = |device: &Capabilities, x: Shape| {
            let wanted = !device.software || x.capacity > 64;
            (wanted && Needs::Halves.met(device)).then_some(Variant::TileHalf)
        };
        cases(few_packings(), tile).into_iter().chain(glu_cases(tile)).collect()
    },
};
