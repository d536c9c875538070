//! Picks the rows whose logits are wanted.

use super::case::{Builder, Compare};
use super::twin::ROW_WORDS;
use super::{Access, Case, Invocation, Kernel, NONE, Needs, wgsl};
use crate::recording::{Buffer, Consts, Recorder};

pub const KERNEL: Kernel = Kernel {
    name: "gather",
    wgsl: &[wgsl!("gather.wgsl")],
    access: &[Access::Read, Access::Read, Access::Read, Access::ReadWrite, Access::ReadWrite],
    needs: Needs::Nothing,
    twin,
    cases,
};

const WG: usize = 64;

impl Recorder<'_> {
    /// `x[outputs[o]]` for each output, and the table of those rows: `([outputs, hidden], rows)`.
    pub fn gather(&mut self, rows: Buffer, outputs: Buffer, x: Buffer, hidden: usize) -> (Buffer, Buffer) {
        let n = (outputs.len / 4) as usize;
        let out = self.temporary(n * hidden, "gathered");
        let out_rows = self.temporary(n * ROW_WORDS, "gathered rows");
        let consts = Consts::new().u32("K", hidden).u32("WG", WG);
        let bindings = [rows.into(), outputs.into(), x.into(), out.into(), out_rows.into()];
        self.dispatch("gather", consts, bindings, [(hidden / 4).div_ceil(WG), n, 1]);
        (out, out_rows)
    }
}

fn twin(mut call: Invocation<'_>) {
    let [rows, outputs, x, out, out_rows] = call.take();
    let (rows, outputs, x) = (rows.words(), outputs.words(), x.floats());
    let (out, out_rows) = (out.floats_mut(), out_rows.words_mut());
    let k = call.consts.get("K");
    for (o, &source) in outputs.iter().enumerate() {
        let row = &mut out_rows[o * ROW_WORDS..][..ROW_WORDS];
        if source == NONE {
            row[2] = NONE;
            continue;
        }
        row.copy_from_slice(&rows[source as usize * ROW_WORDS..][..ROW_WORDS]);
        out[o * k..][..k].copy_from_slice(&x[source as usize * k..][..k]);
    }
}

fn cases() -> Vec<Case> {
    let case = |(k, outputs): (usize, &'static [u32])| {
        let name = format!("{} of 9 rows of {k}", outputs.len());
        let mut b = Builder::new(&name);
        let rows = b.rows(9, &[(5, 7, 0, 3), (1, 2, 1, NONE), (2, 0, 2, 9), (8, 8, 1, 1)]);
        let picked = b.words("outputs", outputs.to_vec());
        let x = b.normals("x", 9 * k);
        let out = b.output("gathered", outputs.len() * k, Compare::Exact);
        let out_rows = b.words("gathered rows", vec![0; outputs.len() * ROW_WORDS]);
        b.compare(out_rows, Compare::Exact);
        b.case(name, move |r, buffers| {
            r.pin(buffers[out]);
            r.pin(buffers[out_rows]);
            r.gather(buffers[rows], buffers[picked], buffers[x], k);
        })
    };
    vec![case((8, &[0])), case((328, &[3, 1, NONE, 2, NONE]))]
}
