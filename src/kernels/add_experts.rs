//! Adds what a row's experts made of it.

use super::case::{Builder, F32};
use super::{Access, Case, Experts, Invocation, Kernel, NONE, Needs, wgsl};
use crate::recording::{Buffer, Consts, Recorder};

pub const KERNEL: Kernel = Kernel {
    name: "add_experts",
    wgsl: &[wgsl!("add_experts.wgsl")],
    access: &[Access::Read, Access::Read, Access::Read, Access::ReadWrite],
    needs: Needs::Nothing,
    twin,
    cases,
};

const WG: usize = 64;

impl Recorder<'_> {
    /// `to += Σ_s weight(s) · made_s` over the slots of a row, with `made` `[capacity, slots, n]`.
    pub(super) fn add_experts(
        &mut self,
        capacity: usize,
        experts: Experts,
        made: Buffer,
        n: usize,
        to: Buffer,
    ) {
        let consts = Consts::new().u32("N", n).u32("SLOTS", experts.slots).u32("WG", WG);
        let bindings = [experts.chosen, experts.weights, made, to].map(Into::into);
        self.dispatch(KERNEL.name, consts, bindings, [(n / 4).div_ceil(WG), capacity, 1]);
    }
}

fn twin(mut call: Invocation<'_>) {
    let [chosen, weights, made, out] = call.take();
    let (chosen, weights, made, out) = (chosen.words(), weights.floats(), made.floats(), out.floats_mut());
    let [n, slots] = ["N", "SLOTS"].map(|c| call.consts.get(c));
    for (r, out) in out.chunks_exact_mut(n).enumerate().filter(|(r, _)| chosen[r * slots] != NONE) {
        for (i, out) in out.iter_mut().enumerate() {
            let of = |s| f64::from(weights[s]) * f64::from(made[s * n + i]);
            *out = (f64::from(*out) + (r * slots..(r + 1) * slots).map(of).sum::<f64>()) as f32;
        }
    }
}

fn cases() -> Vec<Case> {
    let case = |(n, capacity, used, slots): (usize, usize, usize, usize)| {
        let name = format!("{slots} of {n} numbers in {used} of {capacity} rows");
        let mut b = Builder::new(&name);
        let chosen = (0..capacity * slots).map(|i| if i < used * slots { i as u32 % 7 } else { NONE });
        let chosen = b.words("chosen", chosen.collect());
        let weights = b.normals("weights", capacity * slots);
        let made = b.normals("made", capacity * slots * n);
        let out = b.output("out", capacity * n, F32);
        b.case(name, move |r, buffers| {
            let experts =
                Experts { chosen: buffers[chosen], weights: buffers[weights], slots, count: 7, order: None };
            r.add_experts(capacity, experts, buffers[made], n, buffers[out]);
        })
    };
    [(8, 1, 1, 1), (328, 9, 7, 2), (576, 3, 3, 8)].map(case).into()
}
