//! RMS norm.

use super::case::{Builder, F32};
use super::twin::active;
use super::{Access, Case, Invocation, Kernel, wgsl};
use crate::recording::{Buffer, Consts, Recorder};

pub const KERNEL: Kernel = Kernel {
    name: "rms_norm",
    wgsl: &[wgsl!("rms_norm.wgsl")],
    access: &[Access::Read, Access::Read, Access::Read, Access::ReadWrite],
    reduces: true,
    twin,
    cases,
};

impl Recorder<'_> {
    /// `x / sqrt(mean(x²) + eps) · weight` for each row of `x` `[rows, hidden]`.
    pub fn rms_norm(&mut self, rows: Buffer, capacity: usize, x: Buffer, weight: Buffer, eps: f32) -> Buffer {
        let hidden = (weight.len / 4) as usize;
        let out = self.temporary(capacity * hidden, "norm");
        let wg = if self.capabilities.software { 64 } else { 256 };
        let consts = Consts::new().u32("K", hidden).f32("EPS", eps).u32("WG", wg);
        self.dispatch(
            "rms_norm",
            consts,
            [rows.into(), x.into(), weight.into(), out.into()],
            [1, capacity, 1],
        );
        out
    }
}

fn twin(mut call: Invocation<'_>) {
    let [rows, x, weight, out] = call.take();
    let (rows, x, weight, out) = (rows.words(), x.floats(), weight.floats(), out.floats_mut());
    let (k, eps) = (call.consts.get("K"), f64::from(call.consts.float("EPS")));
    for (r, (x, out)) in x.chunks_exact(k).zip(out.chunks_exact_mut(k)).enumerate() {
        if active(rows, r).is_none() {
            continue;
        }
        let squares: f64 = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        let scale = 1.0 / (squares / k as f64 + eps).sqrt();
        for ((o, &v), &w) in out.iter_mut().zip(x).zip(weight) {
            *o = (f64::from(v) * scale * f64::from(w)) as f32;
        }
    }
}

fn cases() -> Vec<Case> {
    let shapes = [(8, 1, 1), (72, 3, 2), (576, 5, 5), (4104, 2, 2)];
    let case = |(hidden, capacity, used)| {
        let name = format!("{used} of {capacity} rows of {hidden}");
        let mut b = Builder::new(&name);
        let rows = b.used_rows(capacity, used);
        let x = b.normals("x", capacity * hidden);
        let weight = b.normals("weight", hidden);
        let out = b.output("norm", capacity * hidden, F32);
        b.case(name, move |r, buffers| {
            r.pin(buffers[out]);
            r.rms_norm(buffers[rows], capacity, buffers[x], buffers[weight], 1e-5);
        })
    };
    shapes.map(case).into()
}
