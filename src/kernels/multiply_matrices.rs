//! Products of matrices in registers, which matrix units are measured with.

use super::case::{Builder, F32};
use super::{Access, Case, Invocation, Kernel, Needs, wgsl};
use crate::format::{pair, unpair};
use crate::recording::{Buffer, Consts, Recorder};
use half::f16;

pub const KERNEL: Kernel = Kernel {
    name: "multiply_matrices",
    wgsl: &[wgsl!("multiply_matrices.wgsl")],
    access: &[Access::Read, Access::ReadWrite],
    needs: Needs::Matrices,
    twin,
    cases,
};

/// Chains of a subgroup.
const CHAINS: usize = 8;

impl Recorder<'_> {
    /// `steps` products of the matrices of halves A and B at the beginning of `x`, in eight chains for each of
    /// `4 · groups` subgroups; how many multiplications and additions that comes to. None, and nothing is recorded, where
    /// the device has no matrix units.
    pub fn multiply_matrices(&mut self, x: Buffer, out: Buffer, groups: usize, steps: usize) -> Option<u64> {
        let size = self.capabilities.matrices?.size as usize;
        let consts = Consts::new().u32("STEPS", steps).u32("SIDE", size);
        self.dispatch(KERNEL.name, consts, [x.into(), out.into()], [groups, 1, 1]);
        Some((2 * size * size * size * CHAINS * steps * groups * 4) as u64)
    }
}

fn twin(mut call: Invocation<'_>) {
    let [x, out] = call.take();
    let (x, out) = (x.words(), out.floats_mut());
    let [size, steps] = ["SIDE", "STEPS"].map(|c| call.consts.get(c));
    let values: Vec<f64> = x[..size * size].iter().flat_map(|&word| unpair(word)).map(f64::from).collect();
    let (a, b) = values.split_at(size * size);
    let times = (CHAINS * steps + CHAINS * (CHAINS - 1) / 2) as f64;
    for matrix in out.chunks_exact_mut(size * size) {
        for (i, out) in matrix.iter_mut().enumerate() {
            let product: f64 = (0..size).map(|k| a[i / size * size + k] * b[k * size + i % size]).sum();
            *out = (times * product) as f32;
        }
    }
}

fn cases() -> Vec<Case> {
    // As many numbers as the greatest matrices have.
    let mut b = Builder::new("two matrices");
    let halves: Vec<u32> =
        (0..256).map(|_| pair(f16::from_f32(b.normal()), f16::from_f32(b.normal()))).collect();
    let x = b.words("x", halves);
    let out = b.output("products", 3 * 4 * 256, F32);
    let case = b.case("3 workgroups, 5 steps", move |r, buffers| {
        let Some(size) = r.capabilities.matrices.map(|m| u64::from(m.size)) else { return };
        let groups = (3 * 256 / (size * size)) as usize;
        r.multiply_matrices(buffers[x], buffers[out], groups, 5);
    });
    vec![case]
}
