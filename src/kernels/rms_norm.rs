//! RMS norm.

use super::case::{Builder, F32};
use super::twin::active;
use super::{Access, Case, Invocation, Kernel, Needs, wgsl};
use crate::recording::{Buffer, Consts, Recorder};

pub const KERNEL: Kernel = Kernel {
    name: "rms_norm",
    wgsl: &[wgsl!("rms_norm.wgsl")],
    access: &[Access::Read, Access::Read, Access::Read, Access::ReadWrite],
    needs: Needs::Reduction,
    twin,
    cases,
};

/// An RMS norm (arXiv:1910.07467): `x / sqrt(mean(x²) + eps) · weight`.
#[derive(Clone, Copy, Debug)]
pub struct RmsNorm {
    /// `[hidden]`
    pub weight: Buffer,
    /// Whether the weight is stored as what it differs from 1.
    pub one_plus: bool,
    /// What is added under the root.
    pub eps: f32,
}

impl RmsNorm {
    /// Numbers that the norm is over.
    pub fn width(&self) -> usize {
        (self.weight.len / 4) as usize
    }
}

impl Recorder<'_> {
    /// The norm of each row of `x` `[capacity, hidden]`.
    pub fn rms_norm(&mut self, rows: Buffer, capacity: usize, x: Buffer, norm: RmsNorm) -> Buffer {
        let out = self.temporary(capacity * norm.width(), "norm");
        self.rms_norm_as(rows, capacity, x, norm, out, false);
        out
    }

    /// `to += norm(x)` for each row of `x` and `to` `[capacity, hidden]`.
    pub fn rms_norm_add(&mut self, rows: Buffer, capacity: usize, x: Buffer, norm: RmsNorm, to: Buffer) {
        self.rms_norm_as(rows, capacity, x, norm, to, true);
    }

    fn rms_norm_as(
        &mut self,
        rows: Buffer,
        capacity: usize,
        x: Buffer,
        norm: RmsNorm,
        out: Buffer,
        add: bool,
    ) {
        // On a processor one subgroup, which waits for no other.
        let wg = if self.capabilities.software { 8 } else { 256 };
        let consts = Consts::new()
            .u32("K", norm.width())
            .f32("EPS", norm.eps)
            .bool("ONE_PLUS", norm.one_plus)
            .bool("ADD", add)
            .u32("WG", wg);
        let bindings = [rows, x, norm.weight, out].map(Into::into);
        self.dispatch("rms_norm", consts, bindings, [1, capacity, 1]);
    }
}

/// What the numbers of `x` are multiplied with.
pub(super) fn factors<'a>(
    x: &[f32],
    weight: &'a [f32],
    consts: &Consts,
) -> impl Iterator<Item = f64> + use<'a> {
    let (eps, one) = (f64::from(consts.float("EPS")), f64::from(u8::from(consts.flag("ONE_PLUS"))));
    let squares: f64 = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    let scale = 1.0 / (squares / x.len() as f64 + eps).sqrt();
    weight.iter().map(move |&w| scale * (one + f64::from(w)))
}

fn twin(mut call: Invocation<'_>) {
    let [rows, x, weight, out] = call.take();
    let (rows, x, weight, out) = (rows.words(), x.floats(), weight.floats(), out.floats_mut());
    let (k, add) = (call.consts.get("K"), call.consts.flag("ADD"));
    for (r, (x, out)) in x.chunks_exact(k).zip(out.chunks_exact_mut(k)).enumerate() {
        if active(rows, r).is_none() {
            continue;
        }
        for ((o, &v), factor) in out.iter_mut().zip(x).zip(factors(x, weight, call.consts)) {
            let before = if add { f64::from(*o) } else { 0.0 };
            *o = (before + f64::from(v) * factor) as f32;
        }
    }
}

fn cases() -> Vec<Case> {
    let shapes = [
        (8, 1, 1, false, false),
        (72, 3, 2, false, true),
        (72, 3, 2, true, false),
        (576, 5, 5, false, false),
        (4104, 2, 2, true, true),
    ];
    let case = |(hidden, capacity, used, one_plus, add)| {
        let kinds = [(one_plus, ", of one plus the weight"), (add, ", added")];
        let kinds: String = kinds.iter().filter(|k| k.0).map(|k| k.1).collect();
        let name = format!("{used} of {capacity} rows of {hidden}{kinds}");
        let mut b = Builder::new(&name);
        let rows = b.used_rows(capacity, used);
        let x = b.normals("x", capacity * hidden);
        let weight = b.normals("weight", hidden);
        let out = b.output("norm", capacity * hidden, F32);
        b.case(name, move |r, buffers| {
            // Of the size of what is normed, so that it tells.
            let norm = RmsNorm { weight: buffers[weight], one_plus, eps: 0.5 };
            r.rms_norm_as(buffers[rows], capacity, buffers[x], norm, buffers[out], add);
        })
    };
    shapes.map(case).into()
}
