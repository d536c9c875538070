//! Activations as 16-bit floats, which matrix units multiply, or tiles of such.

use super::case::{Builder, Compare};
use super::matmul::Activations;
use super::twin::active;
use super::{Access, Case, Invocation, Kernel, Needs, wgsl};
use crate::format::pair;
use crate::recording::{Buffer, Consts, Recorder};
use half::f16;

pub const KERNEL: Kernel = Kernel {
    name: "halve",
    wgsl: &[wgsl!("halve.wgsl")],
    access: &[Access::Read, Access::Read, Access::ReadWrite, Access::ReadWrite],
    needs: Needs::Reduction,
    twin,
    cases,
};

const WG: usize = 128;

impl Recorder<'_> {
    /// `x` as halves `[capacity, cols]`, and the scale of each row, by which they are to be multiplied.
    pub(super) fn halve(&mut self, x: Activations, cols: usize) -> (Buffer, Buffer) {
        let halves = self.temporary(x.capacity * cols / 2, "halves");
        let scales = self.temporary(x.capacity, "scales");
        let consts = Consts::new().u32("K", cols).u32("WG", WG);
        let bindings = [x.rows, x.values, scales, halves].map(Into::into);
        self.dispatch(KERNEL.name, consts, bindings, [1, x.capacity, 1]);
        (halves, scales)
    }
}

fn twin(mut call: Invocation<'_>) {
    let [rows, x, scales, halves] = call.take();
    let (rows, x, scales, halves) = (rows.words(), x.floats(), scales.floats_mut(), halves.words_mut());
    let k = call.consts.get("K");
    for (r, (x, halves)) in x.chunks_exact(k).zip(halves.chunks_exact_mut(k / 2)).enumerate() {
        if active(rows, r).is_none() {
            continue;
        }
        let greatest = x.iter().fold(0.0, |greatest: f32, v| greatest.max(v.abs()));
        let exponent = (greatest.to_bits() >> 23).max(15);
        let factor = f32::from_bits((268 - exponent) << 23);
        scales[r] = f32::from_bits((exponent - 14) << 23);
        for (half, v) in halves.iter_mut().zip(x.chunks_exact(2)) {
            *half = pair(f16::from_f32(v[0] * factor), f16::from_f32(v[1] * factor));
        }
    }
}

fn cases() -> Vec<Case> {
    // Rows of zeros, of the smallest floats, and of the greatest.
    let case = |(k, magnitudes): (usize, &'static [f32])| {
        let name = format!("{} rows of {k}", magnitudes.len());
        let mut b = Builder::new(&name);
        let capacity = magnitudes.len();
        let [rows, x] = b.rows_of_magnitudes(k, magnitudes);
        let scales = b.output("scales", capacity, Compare::Exact);
        let halves = b.words("halves", vec![0; capacity * k / 2]);
        b.compare(halves, Compare::Halves(1e-6));
        b.case(name, move |r, buffers| {
            r.pin(buffers[scales]);
            r.pin(buffers[halves]);
            r.halve(Activations { rows: buffers[rows], capacity, values: buffers[x] }, k);
        })
    };
    vec![case((8, &[1.0])), case((328, &[1.0, 2.0, 0.0, 1e-30, 3e38, 1e-3, 7e4])), case((1536, &[50.0]))]
}
