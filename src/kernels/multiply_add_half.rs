//! The same as `multiply_add` in 16-bit floats.

use super::case::{Builder, Compare};
use super::{Access, Case, Kernel, Needs, multiply_add, wgsl};
use crate::recording::{Buffer, Recorder};

pub const KERNEL: Kernel = Kernel {
    name: "multiply_add_half",
    wgsl: &[wgsl!("multiply_add_half.wgsl")],
    access: &[Access::Read, Access::ReadWrite],
    needs: Needs::Halves,
    twin: multiply_add::twin,
    cases,
};

/// Chains of a lane, of four halves each. Fewer, as of [`multiply_add`], are slower on llvmpipe.
const CHAINS: usize = 8;

impl Recorder<'_> {
    /// As [`multiply_add`](Recorder::multiply_add). None, and nothing is recorded, where the device has no 16-bit floats.
    pub fn multiply_add_half(&mut self, x: Buffer, out: Buffer, n: usize, steps: usize) -> Option<u64> {
        self.capabilities.f16.then(|| self.multiply_add_as((KERNEL.name, CHAINS), x, out, n, steps))
    }
}

fn cases() -> Vec<Case> {
    let case = |(n, steps): (usize, usize)| {
        let name = format!("{n} floats, {steps} steps");
        let mut b = Builder::new(&name);
        // Whole numbers, and factors that keep them so: 16 bits hold every result.
        let mut values: Vec<f32> = (0..n).map(|_| (b.normal() * 10.0).round()).collect();
        (values[0], values[1]) = (-1.0, 3.0);
        let x = b.floats("x", &values);
        let out = b.output("sums", n, Compare::Exact);
        b.case(name, move |r, buffers| {
            r.pin(buffers[out]);
            r.multiply_add_half(buffers[x], buffers[out], n, steps);
        })
    };
    [(4, 1), (1000, 7), (260, 40)].map(case).into()
}
