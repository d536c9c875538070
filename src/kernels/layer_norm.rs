//! Layer norm.

use super::case::{Builder, F32};
use super::twin::active;
use super::{Access, Case, Invocation, Kernel, Needs, wgsl};
use crate::recording::{Buffer, Consts, Recorder};

pub const KERNEL: Kernel = Kernel {
    name: "layer_norm",
    wgsl: &[wgsl!("layer_norm.wgsl")],
    access: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::ReadWrite],
    needs: Needs::Reduction,
    twin,
    cases,
};

/// A layer norm (arXiv:1607.06450): `(x − mean) / sqrt(variance + eps) · weight + bias`.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm {
    /// `[hidden]`
    pub weight: Buffer,
    /// `[hidden]`
    pub bias: Buffer,
    /// What is added under the root.
    pub eps: f32,
}

impl Recorder<'_> {
    /// The norm of each row of `x` `[capacity, hidden]`.
    pub fn layer_norm(&mut self, rows: Buffer, capacity: usize, x: Buffer, norm: LayerNorm) -> Buffer {
        let hidden = (norm.weight.len / 4) as usize;
        let out = self.temporary(capacity * hidden, "norm");
        let wg = if self.capabilities.software { 64 } else { 256 };
        let consts = Consts::new().u32("K", hidden).f32("EPS", norm.eps).u32("WG", wg);
        let bindings = [rows, x, norm.weight, norm.bias, out].map(Into::into);
        self.dispatch("layer_norm", consts, bindings, [1, capacity, 1]);
        out
    }
}

fn twin(mut call: Invocation<'_>) {
    let [rows, x, weight, bias, out] = call.take();
    let (rows, x, weight, bias) = (rows.words(), x.floats(), weight.floats(), bias.floats());
    let (k, eps) = (call.consts.get("K"), f64::from(call.consts.float("EPS")));
    for (r, (x, out)) in x.chunks_exact(k).zip(out.floats_mut().chunks_exact_mut(k)).enumerate() {
        if active(rows, r).is_none() {
            continue;
        }
        let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / k as f64;
        let variance = x.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / k as f64;
        let scale = 1.0 / (variance + eps).sqrt();
        for (i, o) in out.iter_mut().enumerate() {
            *o = ((f64::from(x[i]) - mean) * scale * f64::from(weight[i]) + f64::from(bias[i])) as f32;
        }
    }
}

fn cases() -> Vec<Case> {
    let case = |(hidden, capacity, used, mean)| {
        let name = format!("{used} of {capacity} rows of {hidden} about {mean}");
        let mut b = Builder::new(&name);
        let rows = b.used_rows(capacity, used);
        let x: Vec<f32> = (0..capacity * hidden).map(|_| b.normal() + mean).collect();
        let x = b.floats("x", &x);
        let (weight, bias) = (b.normals("weight", hidden), b.normals("bias", hidden));
        let out = b.output("norm", capacity * hidden, F32);
        b.case(name, move |r, buffers| {
            r.pin(buffers[out]);
            // Of the size of what is normed, so that it tells.
            let norm = LayerNorm { weight: buffers[weight], bias: buffers[bias], eps: 0.5 };
            r.layer_norm(buffers[rows], capacity, buffers[x], norm);
        })
    };
    [(8, 1, 1, 0.0), (72, 3, 2, 50.0), (576, 5, 5, 0.0), (4104, 2, 2, -3.0)].map(case).into()
}
