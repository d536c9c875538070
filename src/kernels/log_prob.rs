//! Log probability of the token that should come next.

use super::case::{Builder, F32};
use super::twin::active;
use super::{Access, Case, Invocation, Kernel, NONE, Needs, wgsl};
use crate::recording::{Buffer, Consts, Recorder};
use rayon::prelude::*;

pub const KERNEL: Kernel = Kernel {
    name: "log_prob",
    wgsl: &[wgsl!("log_prob.wgsl")],
    access: &[Access::Read, Access::Read, Access::ReadWrite],
    needs: Needs::Reduction,
    twin,
    cases,
};

impl Recorder<'_> {
    /// `log softmax(logits[o])[expected of o]` into `out` `[outputs]`, in nats.
    /// `logits` is `[outputs, stride]`, of which the first `vocab` columns count.
    pub fn log_prob(&mut self, rows: Buffer, logits: Buffer, vocab: usize, stride: usize, out: Buffer) {
        let wg = if self.capabilities.software { 64 } else { 256 };
        let consts = Consts::new().u32("VOCAB", vocab).u32("STRIDE", stride).u32("WG", wg);
        let outputs = (out.len / 4) as usize;
        self.dispatch("log_prob", consts, [rows.into(), logits.into(), out.into()], [1, outputs, 1]);
    }
}

fn twin(mut call: Invocation<'_>) {
    let [rows, logits, out] = call.take();
    let (rows, logits, out) = (rows.words(), logits.floats(), out.floats_mut());
    let (vocab, stride) = (call.consts.get("VOCAB"), call.consts.get("STRIDE"));
    out.par_iter_mut().enumerate().for_each(|(o, out)| {
        let Some(row) = active(rows, o).filter(|r| r.expected != NONE) else { return };
        let logits = &logits[o * stride..][..vocab];
        let greatest = logits.iter().copied().fold(f32::MIN, f32::max);
        let total: f64 = logits.iter().map(|&l| (f64::from(l) - f64::from(greatest)).exp()).sum();
        let expected = logits.get(row.expected as usize).copied().unwrap_or(f32::NAN);
        *out = (f64::from(expected) - f64::from(greatest) - total.ln()) as f32;
    });
}

fn cases() -> Vec<Case> {
    let case = |(vocab, spread): (u32, f32)| {
        let name = format!("vocabulary of {vocab}, spread {spread}");
        let mut b = Builder::new(&name);
        let rows = b.rows(5, &[(0, 0, 0, 0), (0, 1, 0, vocab - 1), (0, 2, 0, NONE), (0, 3, 1, vocab / 3)]);
        let stride = vocab.next_multiple_of(8) as usize;
        let x: Vec<f32> = (0..5 * stride).map(|_| b.normal() * spread).collect();
        let logits = b.floats("logits", &x);
        let out = b.output("log_prob", 5, F32);
        b.case(name, move |r, buffers| {
            r.log_prob(buffers[rows], buffers[logits], vocab as usize, stride, buffers[out]);
        })
    };
    [(3, 1.0), (131, 5.0), (4099, 30.0)].map(case).into()
}
