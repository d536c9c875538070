//! A copy of what lies where weights do, which is what bandwidth is measured with.

use super::case::{Builder, Compare};
use super::{Access, Case, Invocation, Kernel, Needs, wgsl};
use crate::recording::{Buffer, Consts, Recorder};

pub const KERNEL: Kernel = Kernel {
    name: "copy",
    wgsl: &[wgsl!("copy.wgsl")],
    access: &[Access::ReadWrite],
    needs: Needs::Nothing,
    twin,
    cases,
};

const WG: usize = 256;
/// Vectors that a lane copies.
const PER: usize = 8;

impl Recorder<'_> {
    /// Copies the first `n` floats, a multiple of 4, of `x`, a plane as weights have them, to `out`.
    pub fn copy(&mut self, x: Buffer, out: Buffer, n: usize) {
        let consts = Consts::new().u32("N", n / 4).u32("PER", PER).u32("WG", WG);
        let grid = [(n / 4).div_ceil(WG * PER), 1, 1];
        self.dispatch_weight("copy", None, consts, [out.into()], vec![x.into()], grid);
    }
}

fn twin(mut call: Invocation<'_>) {
    let [out] = call.take();
    let n = 4 * call.consts.get("N");
    out.words_mut()[..n].copy_from_slice(&call.planes[0][..n]);
}

fn cases() -> Vec<Case> {
    let case = |n: usize| {
        let name = format!("{n} floats");
        let mut b = Builder::new(&name);
        let x = b.normals("x", n + 4);
        // What lies behind stays.
        let out = b.output("copied", n + 4, Compare::Exact);
        b.case(name, move |r, buffers| {
            r.pin(buffers[out]);
            r.copy(buffers[x], buffers[out], n);
        })
    };
    [4, 1000, 4 * WG * PER, 4 * WG * PER + 12].map(case).into()
}
