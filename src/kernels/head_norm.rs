//! RMS norm of parts of a row, in place: of the heads of queries and keys.

use super::case::{Builder, F32};
use super::rms_norm::{RmsNorm, factors};
use super::twin::active;
use super::{Access, Case, Invocation, Kernel, Needs, wgsl};
use crate::recording::{Buffer, Consts, Recorder};

pub const KERNEL: Kernel = Kernel {
    name: "head_norm",
    wgsl: &[wgsl!("head_norm.wgsl")],
    access: &[Access::Read, Access::Read, Access::Read, Access::ReadWrite],
    needs: Needs::Reduction,
    twin,
    cases,
};

const WG: usize = 64;

impl Recorder<'_> {
    /// Norms each of the `count` parts of a row of `x` `[capacity, stride]` that follow one another from number `first`
    /// on, each as long as the norm's weight; and as many parts behind them as `others` says by its own weight, which is as long.
    pub fn head_norm(
        &mut self,
        rows: Buffer,
        capacity: usize,
        x: Buffer,
        norm: RmsNorm,
        (first, count): (usize, usize),
        others: Option<(Buffer, usize)>,
    ) {
        let (other, more) = others.unwrap_or((norm.weight, 0));
        let consts = Consts::new()
            .u32("K", norm.width())
            .u32("FIRST", first)
            .u32("COUNT", count)
            .u32("MORE", more)
            .u32("STRIDE", (x.len / 4) as usize / capacity)
            .f32("EPS", norm.eps)
            .bool("ONE_PLUS", norm.one_plus)
            .u32("WG", WG);
        let bindings = [rows, norm.weight, other, x].map(Into::into);
        self.dispatch("head_norm", consts, bindings, [count + more, capacity, 1]);
    }
}

fn twin(mut call: Invocation<'_>) {
    let parts = call.consts;
    let [rows, weight, other, x] = call.take();
    let (rows, weight, other, x) = (rows.words(), weight.floats(), other.floats(), x.floats_mut());
    let [k, first, stride] = ["K", "FIRST", "STRIDE"].map(|c| parts.get(c));
    let [count, more] = ["COUNT", "MORE"].map(|c| parts.get(c));
    for (r, x) in x.chunks_exact_mut(stride).enumerate() {
        if active(rows, r).is_none() {
            continue;
        }
        for (i, part) in x[first..].chunks_exact_mut(k).take(count + more).enumerate() {
            let factors = factors(part, if i < count { weight } else { other }, parts);
            part.iter_mut().zip(factors).for_each(|(v, factor)| *v = (f64::from(*v) * factor) as f32);
        }
    }
}

fn cases() -> Vec<Case> {
    // (numbers of a part, first, count, parts of another weight, numbers of a row, rows, rows in use, weight less one)
    let shapes = [
        (8, 0, 1, 0, 8, 1, 1, false),
        (16, 64, 2, 1, 128, 3, 2, false),
        (256, 256, 1, 2, 1032, 2, 2, true),
        (328, 8, 1, 0, 344, 3, 2, false),
    ];
    let case = |(k, first, count, more, stride, capacity, used, one_plus)| {
        let name =
            format!("{used} of {capacity} rows, {count} and {more} parts of {k} from {first} of {stride}");
        let mut b = Builder::new(&name);
        let rows = b.used_rows(capacity, used);
        let weight = b.normals("weight", k);
        let other = b.normals("other", k);
        let x = b.normals("x", capacity * stride);
        b.compare(x, F32);
        b.case(name, move |r, buffers| {
            // Of the size of what is normed, so that it tells.
            let norm = RmsNorm { weight: buffers[weight], one_plus, eps: 0.5 };
            let others = (more > 0).then_some((buffers[other], more));
            r.head_norm(buffers[rows], capacity, buffers[x], norm, (first, count), others);
        })
    };
    shapes.map(case).into()
}
