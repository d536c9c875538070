//! Bias of a projection.

use super::case::{Builder, F32};
use super::twin::active;
use super::{Access, Case, Invocation, Kernel, Needs, wgsl};
use crate::recording::{Buffer, Consts, Recorder};

pub const KERNEL: Kernel = Kernel {
    name: "add_bias",
    wgsl: &[wgsl!("add_bias.wgsl")],
    access: &[Access::Read, Access::Read, Access::ReadWrite],
    needs: Needs::Nothing,
    twin,
    cases,
};

const WG: usize = 64;

impl Recorder<'_> {
    /// `x[r] += bias` for the rows in use of `x` `[capacity, bias length]`.
    pub fn add_bias(&mut self, rows: Buffer, capacity: usize, bias: Buffer, x: Buffer) {
        let k = (bias.len / 4) as usize;
        let consts = Consts::new().u32("K", k).u32("WG", WG);
        self.dispatch(
            "add_bias",
            consts,
            [rows.into(), bias.into(), x.into()],
            [k.div_ceil(WG), capacity, 1],
        );
    }
}

fn twin(mut call: Invocation<'_>) {
    let [rows, bias, x] = call.take();
    let (rows, bias, x) = (rows.words(), bias.floats(), x.floats_mut());
    for (r, x) in x.chunks_exact_mut(call.consts.get("K")).enumerate() {
        if active(rows, r).is_some() {
            x.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
        }
    }
}

fn cases() -> Vec<Case> {
    let case = |(k, capacity, used)| {
        let name = format!("{used} of {capacity} rows of {k}");
        let mut b = Builder::new(&name);
        let rows = b.used_rows(capacity, used);
        let bias = b.normals("bias", k);
        let x = b.normals("x", capacity * k);
        b.compare(x, F32);
        b.case(name, move |r, buffers| r.add_bias(buffers[rows], capacity, buffers[bias], buffers[x]))
    };
    [(8, 1, 1), (200, 3, 2)].map(case).into()
}
