//! Which experts a token goes through.

use super::case::{Builder, Compare, F32};
use super::twin::active;
use super::{Access, Case, Experts, Invocation, Kernel, NONE, Needs, wgsl};
use crate::recording::{Buffer, Consts, Recorder};

pub const KERNEL: Kernel = Kernel {
    name: "route",
    wgsl: &[wgsl!("route.wgsl")],
    access: &[Access::Read, Access::Read, Access::ReadWrite, Access::ReadWrite],
    needs: Needs::Reduction,
    twin,
    cases,
};

const WG: usize = 64;

impl Recorder<'_> {
    /// The `slots` experts that each row of `likes` `[capacity, stride]` likes best, of `count`, with weights: their
    /// softmax (arXiv:1701.06538), which is made to add up to 1 where `normed`.
    pub fn route(
        &mut self,
        rows: Buffer,
        capacity: usize,
        likes: Buffer,
        count: usize,
        (slots, normed): (usize, bool),
    ) -> Experts {
        let chosen = self.temporary(capacity * slots, "chosen");
        let weights = self.temporary(capacity * slots, "weights");
        let consts = Consts::new()
            .u32("EXPERTS", count)
            .u32("STRIDE", (likes.len / 4) as usize / capacity)
            .u32("SLOTS", slots)
            .bool("NORMED", normed)
            .u32("WG", WG);
        let bindings = [rows, likes, chosen, weights].map(Into::into);
        self.dispatch("route", consts, bindings, [capacity, 1, 1]);
        Experts { chosen, weights, slots, count, order: None }
    }
}

fn twin(mut call: Invocation<'_>) {
    let [rows, likes, chosen, weights] = call.take();
    let (rows, likes) = (rows.words(), likes.floats());
    let (chosen, weights) = (chosen.words_mut(), weights.floats_mut());
    let [experts, stride, slots] = ["EXPERTS", "STRIDE", "SLOTS"].map(|c| call.consts.get(c));
    let normed = call.consts.flag("NORMED");
    for (r, likes) in likes.chunks_exact(stride).enumerate() {
        if active(rows, r).is_none() {
            chosen[r * slots..][..slots].fill(NONE);
            continue;
        }
        let mut order: Vec<usize> = (0..experts).collect();
        order.sort_by(|&a, &b| likes[b].total_cmp(&likes[a]));
        let weight = |&e: &usize| (f64::from(likes[e]) - f64::from(likes[order[0]])).exp();
        let total: f64 = order[..if normed { slots } else { experts }].iter().map(weight).sum();
        for (slot, e) in order[..slots].iter().enumerate() {
            chosen[r * slots + slot] = *e as u32;
            weights[r * slots + slot] = (weight(e) / total) as f32;
        }
    }
}

fn cases() -> Vec<Case> {
    let case = |(experts, slots, normed): (usize, usize, bool)| {
        let name = format!("{slots} of {experts} experts{}", if normed { ", adding up to 1" } else { "" });
        let mut b = Builder::new(&name);
        let rows = b.used_rows(70, 67);
        let stride = experts.next_multiple_of(8);
        let mut likes: Vec<f32> = (0..70 * stride).map(|_| b.normal()).collect();
        // Ties: of the first row's first two, and of the second row's greatest, which different lanes may find.
        likes[1] = likes[0];
        likes[stride + experts - 1] = 9.0;
        likes[stride] = 9.0;
        let likes = b.floats("likes", &likes);
        let chosen = b.output("chosen", 70 * slots, Compare::Exact);
        let weights = b.output("weights", 70 * slots, F32);
        b.case(name, move |r, buffers| {
            r.pin(buffers[chosen]);
            r.pin(buffers[weights]);
            r.route(buffers[rows], 70, buffers[likes], experts, (slots, normed));
        })
    };
    [(4, 2, true), (60, 4, false), (128, 8, true), (130, 2, false), (3, 3, false), (1, 1, true)]
        .map(case)
        .into()
}
