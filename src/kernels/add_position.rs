//! Learned positions.

use super::case::{Builder, F32};
use super::twin::active;
use super::{Access, Case, Invocation, Kernel, NONE, Needs, wgsl};
use crate::recording::{Buffer, Consts, Recorder};

pub const KERNEL: Kernel = Kernel {
    name: "add_position",
    wgsl: &[wgsl!("add_position.wgsl")],
    access: &[Access::Read, Access::Read, Access::ReadWrite],
    needs: Needs::Nothing,
    twin,
    cases,
};

const WG: usize = 64;

impl Recorder<'_> {
    /// `x[r] += table[position of r]`, with `x` `[capacity, hidden]` and `table` `[context, hidden]`.
    pub fn add_position(&mut self, rows: Buffer, capacity: usize, table: Buffer, x: Buffer) {
        let k = (x.len / 4) as usize / capacity;
        let consts = Consts::new().u32("K", k).u32("WG", WG);
        let bindings = [rows.into(), table.into(), x.into()];
        self.dispatch("add_position", consts, bindings, [k.div_ceil(WG), capacity, 1]);
    }
}

fn twin(mut call: Invocation<'_>) {
    let [rows, table, x] = call.take();
    let (rows, table, x) = (rows.words(), table.floats(), x.floats_mut());
    let k = call.consts.get("K");
    for (r, x) in x.chunks_exact_mut(k).enumerate() {
        if let Some(row) = active(rows, r) {
            x.iter_mut().zip(&table[row.position * k..]).for_each(|(x, p)| *x += p);
        }
    }
}

fn cases() -> Vec<Case> {
    let case = |k: usize| {
        let name = format!("rows of {k}");
        let mut b = Builder::new(&name);
        let rows = b.rows(4, &[(0, 6, 0, NONE), (3, 0, 1, NONE), (1, 2, 0, NONE)]);
        let table = b.normals("table", 7 * k);
        let x = b.normals("x", 4 * k);
        b.compare(x, F32);
        b.case(name, move |r, buffers| r.add_position(buffers[rows], 4, buffers[table], buffers[x]))
    };
    [8, 200].map(case).into()
}
