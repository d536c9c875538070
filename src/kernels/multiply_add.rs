//! Multiplications and additions in registers, which is what arithmetic is measured with.

use super::case::{Builder, F32};
use super::{Access, Case, Invocation, Kernel, Needs, wgsl};
use crate::recording::{Buffer, Consts, Recorder};

pub const KERNEL: Kernel = Kernel {
    name: "multiply_add",
    wgsl: &[wgsl!("multiply_add.wgsl")],
    access: &[Access::Read, Access::ReadWrite],
    needs: Needs::Nothing,
    twin,
    cases,
};

const WG: usize = 64;
/// Chains of a lane, of four floats each: as many as a processor's registers hold.
const CHAINS: usize = 3;

impl Recorder<'_> {
    /// `steps` times `y · x[0] + x[1]` in three chains for each of the first `n` floats of `x`, a multiple of 4; how
    /// many multiplications and additions that comes to.
    pub fn multiply_add(&mut self, x: Buffer, out: Buffer, n: usize, steps: usize) -> u64 {
        self.multiply_add_as((KERNEL.name, CHAINS), x, out, n, steps)
    }

    /// The same by a given kernel.
    pub(super) fn multiply_add_as(
        &mut self,
        (kernel, chains): (&'static str, usize),
        x: Buffer,
        out: Buffer,
        n: usize,
        steps: usize,
    ) -> u64 {
        let consts = Consts::new().u32("N", n / 4).u32("CHAINS", chains).u32("STEPS", steps).u32("WG", WG);
        self.dispatch(kernel, consts, [x.into(), out.into()], [(n / 4).div_ceil(WG), 1, 1]);
        2 * (n * chains * steps) as u64
    }
}

pub(super) fn twin(mut call: Invocation<'_>) {
    let [x, out] = call.take();
    let (x, out) = (x.floats(), out.floats_mut());
    let [n, chains, steps] = ["N", "CHAINS", "STEPS"].map(|c| call.consts.get(c));
    let (a, b) = (f64::from(x[0]), f64::from(x[1]));
    for (out, &x) in out.iter_mut().zip(x).take(4 * n) {
        let chain = |c: usize| (0..steps).fold(f64::from(x) + c as f64, |y, _| y * a + b);
        *out = (0..chains).map(chain).sum::<f64>() as f32;
    }
}

fn cases() -> Vec<Case> {
    let case = |(n, steps): (usize, usize)| {
        let name = format!("{n} floats, {steps} steps");
        let mut b = Builder::new(&name);
        let mut values: Vec<f32> = (0..n).map(|_| b.normal()).collect();
        (values[0], values[1]) = (0.9, -0.25);
        let x = b.floats("x", &values);
        let out = b.output("sums", n, F32);
        b.case(name, move |r, buffers| {
            r.pin(buffers[out]);
            r.multiply_add(buffers[x], buffers[out], n, steps);
        })
    };
    [(4, 1), (1000, 7), (260, 40)].map(case).into()
}
