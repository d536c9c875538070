//! Activations in 8-bit codes times a weight of integer codes, by packed dot products: four products and their sum in one
//! operation, where a device has it. Used only where that is asked for, since it rounds more than the weights.

use super::activate::Activation;
use super::case::{Builder, F32};
use super::matmul::{Activations, multiply, shard_consts};
use super::matmul_cases::{test_matrix, test_packings, test_part};
use super::quantize::Quantized;
use super::shape::Shape;
use super::twin::active;
use super::variant::Variant;
use super::{Access, Case, Invocation, Kernel, Matrix, Needs, Shard, wgsl};
use crate::format::{BLOCK, Order, Packing, TILE_ROWS};
use crate::recording::{Buffer, Recorder};

const ACCESS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::ReadWrite];

/// For few rows.
pub const FEW: Kernel = Kernel {
    name: "matmul_dot",
    wgsl: &[
        wgsl!("dots.wgsl"),
        wgsl!("splits.wgsl"),
        wgsl!("activation.wgsl"),
        wgsl!("outputs.wgsl"),
        wgsl!("put.wgsl"),
        wgsl!("matmul_dot.wgsl"),
    ],
    access: ACCESS,
    needs: Needs::Nothing,
    twin,
    cases: || cases(|x| x.dot(test_part(x.capacity))),
};

/// For many rows: for GPUs.
pub const TILE: Kernel = Kernel {
    name: "matmul_dot_tile",
    wgsl: &[
        wgsl!("dots.wgsl"),
        wgsl!("activation.wgsl"),
        wgsl!("outputs.wgsl"),
        wgsl!("matmul_dot_tile.wgsl"),
    ],
    access: ACCESS,
    needs: Needs::Nothing,
    twin,
    cases: || cases(|_| Variant::DotTile),
};

/// Rows of x that `matmul_dot_tile` takes at a time.
const TILE_T: usize = 64;

/// Columns of activations that share a scale: as many as can within the groups of a weight, up to 32.
fn unit(packing: Packing) -> usize {
    [32, 16].into_iter().find(|&unit| packing.group.is_multiple_of(unit)).unwrap_or(BLOCK)
}

impl Recorder<'_> {
    /// A product with one shard of a weight whose codes are integers.
    pub(super) fn dots(
        &mut self,
        variant: Variant,
        x: Activations,
        weight: &Matrix,
        shard: &Shard,
        (out, add): (Buffer, bool),
    ) {
        let Some(order) = shard.packing.format.dots else {
            unreachable!("{} has no integer codes", shard.packing.format.name)
        };
        let codes = self.quantize(x, weight.cols, unit(shard.packing), order);
        self.dots_of(variant, x, codes, weight, shard, (out, add));
    }

    /// The same of codes that are there.
    fn dots_of(
        &mut self,
        variant: Variant,
        x: Activations,
        codes: Quantized,
        weight: &Matrix,
        shard: &Shard,
        (out, add): (Buffer, bool),
    ) {
        let unit = unit(shard.packing);
        let alternating = shard.packing.format.dots == Some(Order::Alternating);
        let consts = shard_consts(weight, shard, add).u32("UNIT", unit);
        let consts = consts.u32("UNITS", weight.cols.div_ceil(unit)).bool("ALTERNATING", alternating);
        let (kernel, t, each, consts) = match variant {
            Variant::Dot { rows, part } => (FEW, rows, 4 * part.quads, part.consts(1, consts.u32("T", rows))),
            _ => (TILE, TILE_T, TILE_ROWS, consts.u32("T", TILE_T).u32("ROWS", x.capacity)),
        };
        let grid = [shard.rows.div_ceil(each), x.capacity.div_ceil(t), 1];
        let bindings = [x.rows, codes.codes, codes.scales, out].map(Into::into);
        let planes = shard.planes.iter().map(|&p| p.into()).collect();
        self.dispatch_weight(kernel.name, Some(shard.packing.format.name), consts, bindings, planes, grid);
    }
}

fn twin(mut call: Invocation<'_>) {
    let [rows, codes, scales, out] = call.take();
    let (rows, codes, scales) = (rows.words(), codes.words(), scales.floats());
    let [k, t, unit, units] = ["K", "T", "UNIT", "UNITS"].map(|c| call.consts.get(c));
    let order = if call.consts.flag("ALTERNATING") { Order::Alternating } else { Order::InTurn };
    let capacity = codes.len() / (k / 4);
    let mut x = vec![0.0; capacity * k];
    for (at, words) in codes.chunks_exact(2).enumerate() {
        let (row, first) = (at / (k / BLOCK), at % (k / BLOCK) * BLOCK);
        let scale = f64::from(scales[(row * units + first / unit) * 2]);
        for (byte, column) in order.columns().into_iter().enumerate() {
            let code = words[byte / 4].to_le_bytes()[byte % 4] as i8;
            x[row * k + first + column] = scale * f64::from(code);
        }
    }
    let used = |first: usize| (first..capacity.min(first + t)).any(|r| active(rows, r).is_some());
    let rows: Vec<usize> = (0..capacity).filter(|&r| used(r / t * t)).collect();
    multiply(&call, &rows, &x, out.floats_mut(), |w| w);
}

fn cases(variant: impl Fn(Shape) -> Variant + Copy + Send + Sync + 'static) -> Vec<Case> {
    let mut cases = Vec::new();
    for packing in test_packings().into_iter().filter(|packing| packing.format.dots.is_some()) {
        // (rows of W, columns, capacity, rows in use, tiles a shard, add to what is there, rows are gate and up in turns)
        let all = [
            (131, 72, 1, 1, 1, true, None),
            (200, 576, 8, 3, 9, false, None),
            (67, 328, 24, 17, 9, true, None),
            (130, 136, 72, 70, 2, false, None),
            (134, 72, 2, 1, 1, false, Some(Activation::Silu)),
            (134, 72, 65, 64, 1, false, Some(Activation::Gelu)),
        ];
        let shapes = if packing.name() == "q4/32" { ..6 } else { ..4 };
        for &(n, k, capacity, used, tiles, add, glu) in &all[shapes] {
            let k = packing.fitting(k);
            let kind = if glu.is_some() { "glu " } else { "" };
            let name = format!("{kind}{} {n}x{k}, {used} of {capacity} rows", packing.name());
            let mut b = Builder::new(&name);
            let rows = b.last_rows(capacity, used);
            let words: Vec<u32> = (0..capacity * k / 4).map(|_| b.random()).collect();
            // What `quantize` makes: scales, and sums of what is in each unit.
            let mut scales = Vec::new();
            for row in words.chunks_exact(k / 4) {
                for unit in row.chunks(unit(packing) / 4) {
                    let codes = unit.iter().flat_map(|word| word.to_le_bytes());
                    let total: i32 = codes.map(|byte| i32::from(byte as i8)).sum();
                    scales.extend([0.01 + b.normal().abs() * 0.01, total as f32]);
                }
            }
            let codes = b.words("codes", words);
            let scales = b.floats("scales of codes", &scales);
            let matrix = test_matrix(&mut b, packing, n, k, tiles).with(glu);
            let out = b.output("out", capacity * matrix.stride(), F32);
            cases.push(b.case(name, move |r, buffers| {
                let weight = matrix.on(buffers);
                let variant = variant(Shape::new(capacity, &weight));
                let x = Activations { rows: buffers[rows], capacity, values: buffers[codes] };
                let codes = Quantized { codes: buffers[codes], scales: buffers[scales] };
                for shard in &weight.shards {
                    let to = (buffers[out], add);
                    r.dots_of(variant, x, codes, &weight, shard, to);
                }
            }));
        }
    }
    cases
}
