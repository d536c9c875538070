//! SwiGLU: `silu(gate) · up`.

use super::case::{Builder, F32};
use super::twin::active;
use super::{Access, Case, Invocation, Kernel, wgsl};
use crate::recording::{Buffer, Consts, Recorder};

pub const KERNEL: Kernel = Kernel {
    name: "swiglu",
    wgsl: &[wgsl!("swiglu.wgsl")],
    access: &[Access::Read, Access::Read, Access::ReadWrite],
    reduces: false,
    twin,
    cases,
};

const WG: usize = 64;

impl Recorder<'_> {
    /// `silu(gate) · up` `[capacity, intermediate]` of `gate_up` `[capacity, 2 · intermediate]`.
    pub fn swiglu(&mut self, rows: Buffer, capacity: usize, gate_up: Buffer, intermediate: usize) -> Buffer {
        let out = self.temporary(capacity * intermediate, "swiglu");
        let consts = Consts::new().u32("K", intermediate).u32("WG", WG);
        let grid = [(intermediate / 4).div_ceil(WG), capacity, 1];
        self.dispatch("swiglu", consts, [rows.into(), gate_up.into(), out.into()], grid);
        out
    }
}

fn twin(mut call: Invocation<'_>) {
    let [rows, gate_up, out] = call.take();
    let (rows, gate_up, out) = (rows.words(), gate_up.floats(), out.floats_mut());
    let k = call.consts.get("K");
    for (r, (x, out)) in gate_up.chunks_exact(2 * k).zip(out.chunks_exact_mut(k)).enumerate() {
        if active(rows, r).is_some() {
            for ((o, &gate), &up) in out.iter_mut().zip(&x[..k]).zip(&x[k..]) {
                let (gate, up) = (f64::from(gate), f64::from(up));
                *o = (gate / (1.0 + (-gate).exp()) * up) as f32;
            }
        }
    }
}

fn cases() -> Vec<Case> {
    let case = |(k, capacity, used, spread)| {
        let name = format!("{used} of {capacity} rows of {k}, up to {spread}");
        let mut b = Builder::new(&name);
        let rows = b.used_rows(capacity, used);
        let x: Vec<f32> = (0..2 * capacity * k).map(|_| b.normal() * spread).collect();
        let gate_up = b.floats("gate_up", &x);
        let out = b.output("swiglu", capacity * k, F32);
        b.case(name, move |r, buffers| {
            r.pin(buffers[out]);
            r.swiglu(buffers[rows], capacity, buffers[gate_up], k);
        })
    };
    [(8, 1, 1, 1.0), (328, 3, 2, 1.0), (72, 2, 2, 100.0)].map(case).into()
}
