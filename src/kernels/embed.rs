//! Token embedding: `out[r] = E[token of r]`.

use super::case::{Builder, Compare, F32};
use super::matmul_cases::matrix_of_halves;
use super::twin::active;
use super::{Access, Case, Invocation, Kernel, Matrix, NONE, Needs, wgsl};
use crate::format::TILE_ROWS;
use crate::recording::{Buffer, Consts, Recorder};
use half::f16;
use std::num::FpCategory;

pub const KERNEL: Kernel = Kernel {
    name: "embed",
    wgsl: &[wgsl!("embed.wgsl")],
    access: &[Access::Read, Access::ReadWrite],
    needs: Needs::Nothing,
    twin,
    cases,
};

const WG: usize = 64;

impl Recorder<'_> {
    /// Embeds the tokens of `capacity` rows into `out` `[rows, hidden]`.
    pub fn embed(&mut self, rows: Buffer, capacity: usize, embedding: &Matrix, out: Buffer) {
        for shard in &embedding.shards {
            let consts = Consts::new()
                .u32("K", embedding.cols)
                .u32("N", shard.rows)
                .u32("FIRST", shard.first)
                .u32("GROUP", shard.packing.group)
                .u32("GROUPS", embedding.cols.div_ceil(shard.packing.group))
                .u32("WG", WG);
            let planes = shard.planes.iter().map(|&p| p.into()).collect();
            let grid = [(embedding.cols / 8).div_ceil(WG), capacity, 1];
            let format = Some(shard.packing.format.name);
            self.dispatch_weight("embed", format, consts, [rows.into(), out.into()], planes, grid);
        }
    }
}

fn twin(mut call: Invocation<'_>) {
    let [rows, out] = call.take();
    let (rows, out) = (rows.words(), out.floats_mut());
    let (k, n, first) = (call.consts.get("K"), call.consts.get("N"), call.consts.get("FIRST"));
    let mut tile = vec![0.0; TILE_ROWS * k];
    for (r, out) in out.chunks_exact_mut(k).enumerate() {
        let index =
            active(rows, r).and_then(|row| (row.token as usize).checked_sub(first)).filter(|&i| i < n);
        if let Some(index) = index {
            call.unpack_tile(index / TILE_ROWS, k, &mut tile);
            out.copy_from_slice(&tile[index % TILE_ROWS * k..][..k]);
        }
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for packing in super::matmul_cases::test_packings() {
        for (vocab, hidden, shard_tiles) in [(131, 72, 1), (64, 8, 1), (200, 328, 8)] {
            let hidden = packing.fitting(hidden);
            let name = format!("{} {vocab}x{hidden}", packing.name());
            let mut b = Builder::new(&name);
            let tokens: Vec<_> =
                [0, 3, 63, vocab - 1, vocab / 2, vocab].iter().map(|&t| (t, 0, 0, NONE)).collect();
            let rows = b.rows(8, &tokens);
            let matrix =
                super::matmul_cases::test_matrix(&mut b, packing, vocab as usize, hidden, shard_tiles);
            let out = b.output("out", 8 * hidden, F32);
            cases.push(b.case(name, move |r, buffers| {
                r.embed(buffers[rows], 8, &matrix.on(buffers), buffers[out]);
            }));
        }
    }
    cases.extend([true, false].map(every_half));
    cases
}

/// Every 16-bit float there is but what is no number, to the bit: those of full precision, or the rest, which GPUs may take for zero.
fn every_half(full: bool) -> Case {
    let name = if full { "every half of full precision" } else { "every half of less precision" };
    let mut b = Builder::new(name);
    let value = |bits| {
        let half = f16::from_bits(bits);
        let small = half.classify() == FpCategory::Subnormal;
        if half.is_nan() || small == full { 0.0 } else { half.to_f32() }
    };
    let values: Vec<f32> = (0..=u16::MAX).map(value).collect();
    let matrix = matrix_of_halves(&mut b, &values);
    let tokens: Vec<_> = (0..TILE_ROWS as u32).map(|token| (token, 0, 0, NONE)).collect();
    let rows = b.rows(TILE_ROWS, &tokens);
    let out = b.output("out", values.len(), Compare::Exact);
    b.case(name, move |r, buffers| {
        if full || r.capabilities.software {
            r.embed(buffers[rows], TILE_ROWS, &matrix.on(buffers), buffers[out]);
        }
    })
}
