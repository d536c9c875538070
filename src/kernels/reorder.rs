//! Columns in the order in which a weight has them.

use super::case::{Builder, Compare};
use super::matmul::Activations;
use super::twin::active;
use super::{Access, Case, Invocation, Kernel, NONE, Needs, wgsl};
use crate::recording::{Buffer, Consts, Recorder};

pub const KERNEL: Kernel = Kernel {
    name: "reorder",
    wgsl: &[wgsl!("reorder.wgsl")],
    access: &[Access::Read, Access::Read, Access::Read, Access::ReadWrite],
    needs: Needs::Nothing,
    twin,
    cases,
};

const WG: usize = 64;

impl Recorder<'_> {
    /// The same activations, with column `order[i]` `[cols]` at place `i`.
    pub(super) fn reorder(&mut self, x: Activations, order: Buffer) -> Activations {
        let cols = (order.len / 4) as usize;
        let out = self.temporary(x.capacity * cols, "reordered");
        let consts = Consts::new().u32("K", cols).u32("WG", WG);
        let bindings = [x.rows.into(), order.into(), x.values.into(), out.into()];
        self.dispatch("reorder", consts, bindings, [cols.div_ceil(WG), x.capacity, 1]);
        Activations { values: out, ..x }
    }
}

fn twin(mut call: Invocation<'_>) {
    let [rows, order, x, out] = call.take();
    let (rows, order, x, out) = (rows.words(), order.words(), x.floats(), out.floats_mut());
    let k = call.consts.get("K");
    for (r, (x, out)) in x.chunks_exact(k).zip(out.chunks_exact_mut(k)).enumerate() {
        if active(rows, r).is_some() {
            out.iter_mut().zip(order).for_each(|(out, &col)| *out = x[col as usize]);
        }
    }
}

fn cases() -> Vec<Case> {
    let case = |(k, capacity): (usize, usize)| {
        let name = format!("{capacity} rows of {k}");
        let mut b = Builder::new(&name);
        let table: Vec<_> =
            (0..capacity as u32).map(|r| (0, r, if r == 1 { NONE } else { 0 }, NONE)).collect();
        let rows = b.rows(capacity, &table);
        // A step that has no divisor in common with the sizes.
        let order = b.words("order", (0..k).map(|i| (i * 61 % k) as u32).collect());
        let x = b.normals("x", capacity * k);
        let out = b.output("reordered", capacity * k, Compare::Exact);
        b.case(name, move |r, buffers| {
            r.pin(buffers[out]);
            r.reorder(Activations { rows: buffers[rows], capacity, values: buffers[x] }, buffers[order]);
        })
    };
    vec![case((8, 1)), case((328, 3))]
}
