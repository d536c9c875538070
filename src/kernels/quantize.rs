//! Activations as 8-bit codes, which packed dot products multiply.

use super::case::{Builder, Compare, F32};
use super::matmul::Activations;
use super::twin::active;
use super::{Access, Case, Invocation, Kernel, Needs, wgsl};
use crate::format::{BLOCK, Order};
use crate::recording::{Buffer, Consts, Recorder};

pub const KERNEL: Kernel = Kernel {
    name: "quantize",
    wgsl: &[wgsl!("quantize.wgsl")],
    access: &[Access::Read, Access::Read, Access::ReadWrite, Access::ReadWrite],
    needs: Needs::Nothing,
    twin,
    cases,
};

const WG: usize = 64;

/// Below this, activations are 0.
const LEAST: f32 = f32::from_bits(27 << 23);

/// Rows of activations in codes.
#[derive(Clone, Copy)]
pub(super) struct Quantized {
    /// `[capacity, cols / 4]`, four codes a word.
    pub codes: Buffer,
    /// `[capacity, units, 2]`: the scale of each unit of columns, and the sum of its codes.
    pub scales: Buffer,
}

impl Order {
    /// The columns of a block in the order in which they lie in its two words.
    pub(super) fn columns(self) -> [usize; BLOCK] {
        match self {
            Order::InTurn => [0, 1, 2, 3, 4, 5, 6, 7],
            Order::Alternating => [0, 2, 4, 6, 1, 3, 5, 7],
        }
    }
}

impl Recorder<'_> {
    /// `x` in codes, with a scale for each `unit` columns.
    pub(super) fn quantize(&mut self, x: Activations, cols: usize, unit: usize, order: Order) -> Quantized {
        let units = cols.div_ceil(unit);
        let scales = self.temporary(x.capacity * units * 2, "scales of codes");
        let codes = self.temporary(x.capacity * cols / 4, "codes");
        let consts = Consts::new().u32("K", cols).u32("UNIT", unit).u32("UNITS", units);
        let consts = consts.bool("ALTERNATING", order == Order::Alternating).u32("WG", WG);
        let bindings = [x.rows, x.values, scales, codes].map(Into::into);
        self.dispatch(KERNEL.name, consts, bindings, [units.div_ceil(WG), x.capacity, 1]);
        Quantized { codes, scales }
    }
}

fn twin(mut call: Invocation<'_>) {
    let [rows, x, scales, codes] = call.take();
    let (rows, x, scales, codes) = (rows.words(), x.floats(), scales.floats_mut(), codes.words_mut());
    let [k, unit, units] = ["K", "UNIT", "UNITS"].map(|c| call.consts.get(c));
    let order = if call.consts.flag("ALTERNATING") { Order::Alternating } else { Order::InTurn };
    for (r, x) in x.chunks_exact(k).enumerate().filter(|(r, _)| active(rows, *r).is_some()) {
        for (u, x) in x.chunks(unit).enumerate() {
            let greatest = x.iter().map(|v| v.to_bits() & 0x7fff_ffff).max().map_or(0.0, f32::from_bits);
            // What is no number is greater too.
            let (scale, factor) = match greatest <= LEAST {
                true => (0.0, 0.0),
                false => (greatest / 127.0, 127.0 / greatest),
            };
            let code = |v: f32| (v * factor).round_ties_even().clamp(-127.0, 127.0) as i8;
            let total: i32 = x.iter().map(|&v| i32::from(code(v))).sum();
            let at = (r * units + u) * 2;
            (scales[at], scales[at + 1]) = (scale, total as f32);
            for (b, x) in x.chunks_exact(BLOCK).enumerate() {
                let bytes = order.columns().map(|c| code(x[c]) as u8);
                let at = r * k / 4 + u * unit / 4 + b * 2;
                codes[at..at + 2].copy_from_slice(
                    &[0, 4].map(|i| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]])),
                );
            }
        }
    }
}

fn cases() -> Vec<Case> {
    // Units that are cut short, of zeros, of the smallest floats, and of the greatest.
    let case = |(k, unit, order, magnitudes): (usize, usize, Order, &'static [f32])| {
        let name = format!("{} rows of {k} by {unit}, {order:?}", magnitudes.len());
        let mut b = Builder::new(&name);
        let capacity = magnitudes.len();
        let [rows, x] = b.rows_of_magnitudes(k, magnitudes);
        let units = k.div_ceil(unit);
        let scales = b.output("scales of codes", capacity * units * 2, F32);
        let codes = b.words("codes", vec![0; capacity * k / 4]);
        // What lies between two codes may be either, by a division that is not quite exact.
        b.compare(codes, Compare::Bytes(1e-5));
        b.case(name, move |r, buffers| {
            r.pin(buffers[scales]);
            r.pin(buffers[codes]);
            r.quantize(Activations { rows: buffers[rows], capacity, values: buffers[x] }, k, unit, order);
        })
    };
    vec![
        case((8, 32, Order::Alternating, &[1.0])),
        case((328, 32, Order::Alternating, &[1.0, 2.0, 0.0, 1e-20, 3e38, 1e-3, 7e4])),
        case((328, 16, Order::InTurn, &[1.0, 2.0, 0.0, 1e-35])),
        case((2304, 32, Order::InTurn, &[50.0])),
    ]
}
