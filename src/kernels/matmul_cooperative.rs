//! Activations times a packed weight by matrix units.

use super::matmul::{Activations, multiply};
use super::matmul_cases::{cases, few_packings, glu_cases, test_packings};
use super::shape::Shape;
use super::twin::active;
use super::variant::Variant;
use super::{Access, Invocation, Kernel, Needs, wgsl};
use crate::capabilities::Capabilities;
use crate::format::unpair;
use crate::recording::{Buffer, Consts, Recorder, Window};
use half::f16;

pub const KERNEL: Kernel = Kernel {
    name: "matmul_cooperative",
    wgsl: &[wgsl!("activation.wgsl"), wgsl!("outputs.wgsl"), wgsl!("matmul_cooperative.wgsl")],
    access: &[Access::Read, Access::Read, Access::Read, Access::ReadWrite],
    needs: Needs::Matrices,
    twin,
    cases: || {
        let few = few_packings();
        let others = test_packings().into_iter().filter(|packing| !few.contains(packing)).collect();
        let usual = cases(few, |device, x| x.cooperative(device, 64).filter(|_| worth_it(device, x)));
        let others = cases(others, |device, x| on_gpus(device, x, 64));
        let many = cases(few_packings(), |device, x| on_gpus(device, x, 128));
        let glu = glu_cases(|device, x| on_gpus(device, x, 64));
        usual.into_iter().chain(others).chain(many).chain(glu).collect()
    },
};

/// Processors take the better part of a minute to compile a case, and nobody takes this kernel there: one size in few formats
/// is enough.
fn worth_it(device: &Capabilities, x: Shape) -> bool {
    !device.software || x.capacity == 24
}

fn on_gpus(device: &Capabilities, x: Shape, rows: usize) -> Option<Variant> {
    x.cooperative(device, rows).filter(|_| !device.software)
}

impl Recorder<'_> {
    /// A product with one shard of a weight of so many tiles, by a kernel that multiplies 16-bit floats, of so many rows of x a
    /// workgroup.
    pub(super) fn product_of_halves(
        &mut self,
        (kernel, rows): (&Kernel, usize),
        x: Activations,
        (format, planes): (Option<&'static str>, Vec<Window>),
        consts: Consts,
        (out, tiles): (Buffer, usize),
    ) {
        let (halves, scales) = self.halve(x, consts.get("K"));
        let consts = consts.u32("T", rows).u32("ROWS", x.capacity);
        let grid = [tiles, x.capacity.div_ceil(rows), 1];
        let bindings = [x.rows, halves, scales, out].map(Into::into);
        self.dispatch_weight(kernel.name, format, consts, bindings, planes, grid);
    }
}

/// Of rows in use: 16-bit floats times weights that are rounded to such.
pub(super) fn twin(mut call: Invocation<'_>) {
    let [rows, halves, scales, out] = call.take();
    let (rows, halves, scales) = (rows.words(), halves.words(), scales.floats());
    let k = call.consts.get("K");
    let row = |(halves, scale): (&[u32], &f32)| -> Vec<f64> {
        halves.iter().flat_map(|&pair| unpair(pair)).map(|v| f64::from(v) * f64::from(*scale)).collect()
    };
    let x: Vec<f64> = halves.chunks_exact(k / 2).zip(scales).flat_map(row).collect();
    let used: Vec<usize> = (0..call.consts.get("ROWS")).filter(|&r| active(rows, r).is_some()).collect();
    multiply(&call, &used, &x, out.floats_mut(), |w| f16::from_f32(w).to_f32());
}
