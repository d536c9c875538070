//! Activations times a packed weight: `out[t, n] (+)= Σ_k x[t, k] · W[n, k]`.
//!
//! Six kernels that make the same: see the head of each WGSL file for what it is good at.

use super::activate::{ACTIVATIONS, Activation};
use super::matmul_cases::{
    cases, few_packings, glu_cases, normed_cases, row_cases, run_cases, test_packings, test_part, test_quads,
};
use super::rms_norm::{RmsNorm, factors};
use super::shape::{FEW_ROWS_T, FLAT_WG, Product, ROWS_T, Shape, UNIFORM_WG};
use super::twin::active;
use super::variant::{Part, Variant};
use super::{
    Access, Case, Invocation, Kernel, Matrix, Needs, Shard, matmul_cooperative, matmul_tile_half, wgsl,
};
use crate::capabilities::Capabilities;
use crate::format::TILE_ROWS;
use crate::recording::{Buffer, Consts, Recorder, Window};
use rayon::prelude::*;

/// Activations as uniforms: for devices whose lanes are a processor's.
pub const UNIFORM: Kernel = Kernel {
    name: "matmul_uniform",
    wgsl: &[
        wgsl!("norm.wgsl"),
        wgsl!("activation.wgsl"),
        wgsl!("outputs.wgsl"),
        wgsl!("matmul_uniform.wgsl"),
    ],
    access: &[Access::Read, Access::Uniform, Access::Uniform, Access::Uniform, Access::ReadWrite],
    needs: Needs::Sharing,
    twin: uniform_twin,
    cases: || {
        // Devices of few lanes have another kernel, and never take this one: one row alone there.
        let rows = |device: &Capabilities, x: Shape, most| {
            let wanted = !device.few_lanes() || x.capacity == 1;
            x.uniform_rows(device, most).filter(|_| wanted)
        };
        let usual = move |device: &Capabilities, x: Shape| {
            rows(device, x, 16).map(|rows| Variant::Uniform { rows, quads: 2 })
        };
        let all = cases(test_packings(), usual);
        let few = cases(few_packings(), move |device, x| {
            rows(device, x, 8).map(|rows| Variant::Uniform { rows, quads: test_quads(x.capacity) })
        });
        let own = move |device: &Capabilities, x: Shape| usual(device, x).filter(|_| !device.few_lanes());
        let normed = normed_cases(own);
        [all, few, normed, glu_cases(own)].into_iter().flatten().collect()
    },
};

/// Columns written out: for devices of few lanes, whose compilers unroll no loop.
pub const FLAT: Kernel = Kernel {
    name: "matmul_flat",
    wgsl: &[wgsl!("activation.wgsl"), wgsl!("outputs.wgsl"), wgsl!("matmul_flat.wgsl")],
    access: &[Access::Read, Access::Read, Access::ReadWrite],
    needs: Needs::Quads,
    twin: flat_twin,
    cases: || {
        let usual = |device: &Capabilities, x: Shape| {
            device.few_lanes().then(|| x.flat(64, if x.capacity == 1 { 5 } else { 2 }))
        };
        let few = cases(few_packings(), |device, x| {
            let quads = if x.capacity == 1 { 8 } else { test_quads(x.capacity) };
            device.few_lanes().then(|| x.flat(2, quads))
        });
        let one = row_cases(|device, x| device.few_lanes().then(|| x.flat(1, 8)));
        let elsewhere = few_elsewhere(|x| (x.capacity <= 8).then(|| x.flat(2, 1)));
        [cases(test_packings(), usual), few, one, elsewhere, glu_cases(usual)].into_iter().flatten().collect()
    },
};

/// Rows of x shared out among lanes: for devices of few lanes, and many rows.
pub const ROWS: Kernel = Kernel {
    name: "matmul_rows",
    wgsl: &[
        wgsl!("activation.wgsl"),
        wgsl!("outputs.wgsl"),
        wgsl!("rows/eight.wgsl"),
        wgsl!("matmul_rows.wgsl"),
    ],
    access: &[Access::Read, Access::Read, Access::ReadWrite],
    needs: Needs::Quads,
    twin: flat_twin,
    cases: || {
        let usual = |device: &Capabilities, x: Shape| {
            (device.few_lanes() && x.capacity > FEW_ROWS_T).then(|| x.rows_by_lane(device, 2))
        };
        let elsewhere = few_elsewhere(|x| (x.capacity == 24).then_some(one_block(ROWS_T)));
        let all = [cases(test_packings(), usual), cases_of_rows(ROWS_T), elsewhere, glu_cases(usual)];
        all.into_iter().flatten().collect()
    },
};

/// The same for few rows.
pub const FEW_ROWS: Kernel = Kernel {
    name: "matmul_rows_16",
    wgsl: &[
        wgsl!("activation.wgsl"),
        wgsl!("outputs.wgsl"),
        wgsl!("rows/four.wgsl"),
        wgsl!("matmul_rows.wgsl"),
    ],
    access: &[Access::Read, Access::Read, Access::ReadWrite],
    needs: Needs::Quads,
    twin: flat_twin,
    cases: || {
        let usual = |device: &Capabilities, x: Shape| {
            (device.few_lanes() && x.capacity > 1).then(|| x.chunks(FEW_ROWS_T, device, 2))
        };
        let elsewhere = few_elsewhere(|x| (x.capacity == 12).then_some(one_block(FEW_ROWS_T)));
        let all = [cases(test_packings(), usual), cases_of_rows(FEW_ROWS_T), elsewhere, glu_cases(usual)];
        all.into_iter().flatten().collect()
    },
};

/// Chunks of all sizes, most of them cut short; so few quads that there are several workgroups. Of three blocks others have some.
fn few_blocks(rows: usize, x: Shape) -> Variant {
    let blocks = match x.capacity {
        1 => 1,
        72 => 2,
        12 => 4,
        64 => 5,
        _ => 6,
    };
    Variant::Rows { rows, blocks, quads: 5 }
}

/// Of these kernels where they are never used: llvmpipe takes a minute and a half to compile six blocks.
fn one_block(rows: usize) -> Variant {
    Variant::Rows { rows, blocks: 1, quads: 5 }
}

/// Columns shared out among lanes: for GPUs and few rows.
pub const SPLIT: Kernel = Kernel {
    name: "matmul_split",
    wgsl: &[
        wgsl!("norm.wgsl"),
        wgsl!("splits.wgsl"),
        wgsl!("in_flight.wgsl"),
        wgsl!("activation.wgsl"),
        wgsl!("outputs.wgsl"),
        wgsl!("put.wgsl"),
        wgsl!("matmul_split.wgsl"),
    ],
    access: &[Access::Read, Access::Read, Access::Read, Access::ReadWrite],
    needs: Needs::Nothing,
    twin: split_twin,
    cases: || {
        let split = |_: &Capabilities, x: Shape| Some(x.split(test_part(x.capacity)));
        let normed = normed_cases(|_, x| (x.capacity == 1).then(|| x.split(test_part(x.capacity))));
        let runs = run_cases(|_, x| Some(x.split(Part { quads: 4, splits: 4 })));
        // Two quads of each lane.
        let two = |x: Shape| {
            let Part { quads, splits } = test_part(x.capacity);
            Variant::Split { rows: x.divisor(2), part: Part { quads, splits: 2 * splits }, each: 2 }
        };
        let unlike = few_packings().into_iter().filter(|packing| packing.group < 128).collect();
        let twos = cases(unlike, move |_, x| Some(two(x)));
        let normed_twos = normed_cases(move |_, x| (x.capacity == 1).then(|| two(x)));
        let glu_twos = glu_cases(move |_, x| (x.capacity == 1).then(|| two(x)));
        let all =
            [cases(test_packings(), split), runs, normed, glu_cases(split), twos, normed_twos, glu_twos];
        all.into_iter().flatten().collect()
    },
};

/// Tiles in workgroup memory: for GPUs and many rows.
pub const TILE: Kernel = Kernel {
    name: "matmul_tile",
    wgsl: &[
        wgsl!("activation.wgsl"),
        wgsl!("outputs.wgsl"),
        wgsl!("tile/floats.wgsl"),
        wgsl!("tile/plain.wgsl"),
        wgsl!("tile/rows.wgsl"),
        wgsl!("matmul_tile.wgsl"),
    ],
    access: &[Access::Read, Access::Read, Access::ReadWrite],
    needs: Needs::Nothing,
    twin,
    cases: || {
        let tile = |_: &Capabilities, _: Shape| Some(Variant::Tile);
        let parts = cases(few_packings(), tile).into_iter().filter(|case| case.name.contains("of 72 rows"));
        let parts = parts.chain(glu_cases(tile).into_iter().filter(|case| case.name.contains("of 65 rows")));
        let parts = parts.filter(|case| case.name.contains("f16")).map(Case::in_parts);
        cases(test_packings(), tile).into_iter().chain(glu_cases(tile)).chain(parts).collect()
    },
};

/// Cases of kernels for devices of few lanes on others, where they are right too but take long to compile.
fn few_elsewhere(variant: fn(Shape) -> Option<Variant>) -> Vec<Case> {
    let one = few_packings().into_iter().filter(|packing| packing.name() == "q4/32").collect();
    cases(one, move |device, x| variant(x).filter(|_| !device.few_lanes() && Needs::Quads.met(device)))
}

/// Cases of `matmul_rows` and that for few rows, in formats of groups that four blocks are of, and in one whose groups are less.
fn cases_of_rows(rows: usize) -> Vec<Case> {
    let small = test_packings().into_iter().find(|packing| packing.group == 16);
    let all = few_packings().into_iter().chain(small).collect();
    cases(all, move |device, x| device.few_lanes().then(|| few_blocks(rows, x)))
}

/// Rows of x that `matmul_tile` takes at a time.
pub(super) const TILE_T: usize = 64;

/// The left side of a product: `capacity` rows of activations.
#[derive(Clone, Copy, Debug)]
pub struct Activations {
    /// The row table that says which rows are in use.
    pub rows: Buffer,
    /// Rows of the table and of `values`.
    pub capacity: usize,
    /// `[capacity, cols]`
    pub values: Buffer,
}

impl Recorder<'_> {
    /// `x · Wᵀ`, or `act(gate) · up` of it where W has both in turns ([`Matrix::glu`]): `[capacity, weight.stride()]`.
    pub fn matmul(&mut self, x: Activations, weight: &Matrix, name: &'static str) -> Buffer {
        let out = self.temporary(x.capacity * weight.stride(), name);
        let variant = self.choose(x, weight);
        self.matmul_as(variant, x, weight, out, false);
        out
    }

    /// `norm(x) · Wᵀ` in one step, where that is as good as two: for one row of x, or as many as lanes take at a time. It costs each
    /// lane that multiplies some work.
    pub fn matmul_normed(
        &mut self,
        x: Activations,
        norm: RmsNorm,
        weight: &Matrix,
        name: &'static str,
    ) -> Option<Buffer> {
        if weight.shards.iter().any(|shard| shard.order.is_some()) {
            return None;
        }
        let variant = self.choose(x, weight);
        match variant {
            Variant::Uniform { rows, .. } if rows == x.capacity => {}
            Variant::Split { .. } if x.capacity == 1 => {}
            _ => return None,
        }
        let out = self.temporary(x.capacity * weight.stride(), name);
        self.product(variant, x, Some(norm), weight, out, false);
        Some(out)
    }

    /// `out += x · Wᵀ`, the residual in the same step.
    pub fn matmul_add(&mut self, x: Activations, weight: &Matrix, out: Buffer) {
        let variant = self.choose(x, weight);
        self.matmul_as(variant, x, weight, out, true);
    }

    /// What was measured to be fastest, or else what is as a rule.
    fn choose(&mut self, x: Activations, weight: &Matrix) -> Variant {
        let shape = Shape::new(x.capacity, weight);
        let dots = self.dots && weight.shards.iter().all(|shard| shard.packing.format.dots.is_some());
        let candidates = || shape.candidates(self.capabilities, dots);
        let usual = shape.usual(self.capabilities, dots);
        let Some(choices) = self.choices else { return usual };
        let name = Product::name(usual.named_capacity(x.capacity), weight, dots);
        let measured = choices.get(&name).and_then(|variant| Variant::named(variant));
        // What a file says need not be possible.
        match measured.map(|measured| measured.sized_as(usual)).filter(|it| candidates().contains(it)) {
            Some(measured) => measured,
            None => {
                let product = Product { name, capacity: x.capacity, weight: weight.clone(), dots };
                self.unmeasured.push(Box::new(product));
                usual
            }
        }
    }

    /// The product by a given kernel.
    pub fn matmul_as(&mut self, variant: Variant, x: Activations, weight: &Matrix, out: Buffer, add: bool) {
        self.product(variant, x, None, weight, out, add);
    }

    /// The same, of normed rows if there is a norm.
    pub(super) fn product(
        &mut self,
        variant: Variant,
        x: Activations,
        norm: Option<RmsNorm>,
        weight: &Matrix,
        out: Buffer,
        add: bool,
    ) {
        let (cols, stride) = (weight.cols, weight.stride());
        let (inputs, mut reordered) = (x, None);
        for shard in &weight.shards {
            let x = match (shard.order, reordered) {
                (None, _) => inputs,
                (Some(order), Some((made, x))) if order == made => x,
                (Some(order), _) => {
                    let x = self.reorder(inputs, order);
                    reordered = Some((order, x));
                    x
                }
            };
            let format = Some(shard.packing.format.name);
            let tiles = shard.rows.div_ceil(TILE_ROWS);
            let planes: Vec<_> = shard.planes.iter().map(|&p| p.into()).collect();
            let consts = shard_consts(weight, shard, add);
            match variant {
                Variant::Uniform { rows: t, quads } => {
                    let shape = Shape::new(x.capacity, weight);
                    let (parts, windows) =
                        (shape.parts(self.capabilities, t), shape.windows(self.capabilities, t));
                    let consts = consts.u32("T", t).u32("WINDOWS", windows).u32("PARTS", parts);
                    let consts = norm_consts(consts, norm).u32("Q", quads).u32("WG", UNIFORM_WG);
                    let grid = [shard.rows.div_ceil(4 * quads * UNIFORM_WG), windows, 1];
                    let rows = t * windows;
                    for first in (0..x.capacity).step_by(rows) {
                        let window = |buffer: Buffer, words: usize, first: usize, rows: usize| {
                            buffer.window((first * words * 4) as u64, (rows * words * 4) as u64)
                        };
                        let part = |i: usize| window(x.values, cols, first + i * rows / parts, rows / parts);
                        let bindings = [
                            window(x.rows, super::twin::ROW_WORDS, first, rows),
                            part(0),
                            part(parts - 1),
                            norm.map_or_else(|| part(0), |norm| norm.weight.into()),
                            window(out, stride, first, rows),
                        ];
                        let consts = consts.clone();
                        self.dispatch_weight(UNIFORM.name, format, consts, bindings, planes.clone(), grid);
                    }
                }
                Variant::Flat { rows: t, quads } => {
                    let consts = consts.u32("T", t).u32("Q", quads).u32("WG", FLAT_WG);
                    let grid = [shard.rows.div_ceil(4 * quads * FLAT_WG), x.capacity.div_ceil(t), 1];
                    self.dispatch_weight(FLAT.name, format, consts, by_rows(x, out), planes, grid);
                }
                Variant::Rows { rows: t, blocks, quads } => {
                    let kernel = if t == FEW_ROWS_T { FEW_ROWS.name } else { ROWS.name };
                    let consts = consts.u32("T", t).u32("Q", quads).u32("BLOCKS", blocks);
                    let grid = [shard.rows.div_ceil(4 * quads), x.capacity.div_ceil(t), 1];
                    self.dispatch_weight(kernel, format, consts, by_rows(x, out), planes, grid);
                }
                Variant::Split { rows: t, part, each } => {
                    let consts = part.consts(each, norm_consts(consts.u32("T", t), norm));
                    let grid = [shard.rows.div_ceil(4 * part.quads), x.capacity.div_ceil(t), 1];
                    let norm = norm.map_or(x.values, |norm| norm.weight);
                    let bindings = [x.rows, x.values, norm, out].map(Into::into);
                    self.dispatch_weight(SPLIT.name, format, consts, bindings, planes, grid);
                }
                Variant::Tile => {
                    let (capacity, each) = (x.capacity, 2 * (shard.rows * cols) as u64);
                    let widths = [super::twin::ROW_WORDS, cols, stride];
                    let part = self.rows_of_a_part(capacity, each, TILE_T, &widths);
                    for first in (0..capacity).step_by(part) {
                        let n = part.min(capacity - first);
                        let cut = |(buffer, words): (Buffer, usize)| buffer.rows(words, first, n, capacity);
                        let bindings =
                            [(x.rows, widths[0]), (x.values, widths[1]), (out, widths[2])].map(cut);
                        let consts = consts.clone().u32("T", TILE_T).u32("ROWS", n);
                        let grid = [tiles, n.div_ceil(TILE_T), 1];
                        self.dispatch_weight(TILE.name, format, consts, bindings, planes.clone(), grid);
                    }
                }
                Variant::TileHalf => {
                    let kernel = (&matmul_tile_half::KERNEL, TILE_T);
                    self.product_of_halves(kernel, x, (format, planes), consts, (out, tiles));
                }
                Variant::Cooperative { rows } => {
                    let kernel = (&matmul_cooperative::KERNEL, rows);
                    self.product_of_halves(kernel, x, (format, planes), consts, (out, tiles));
                }
                Variant::Dot { .. } | Variant::DotTile => {
                    self.dots(variant, x, weight, shard, (out, add));
                }
            }
        }
    }
}

/// Bindings of kernels that ask how many rows there are.
fn by_rows(x: Activations, out: Buffer) -> [Window; 3] {
    [x.rows.window(0, (x.capacity * super::twin::ROW_WORDS * 4) as u64), x.values.into(), out.into()]
}

/// What every kernel that multiplies with a shard is told of it.
pub(super) fn shard_consts(weight: &Matrix, shard: &Shard, add: bool) -> Consts {
    let group = shard.packing.group;
    Consts::new()
        .u32("K", weight.cols)
        .u32("N", shard.rows)
        .u32("FIRST", shard.first / weight.fold())
        .u32("STRIDE", weight.stride())
        .u32("GROUP", group)
        .u32("GROUPS", weight.cols.div_ceil(group))
        .bool("ADD", add)
        .bool("GLU", weight.glu.is_some())
        .u32("ACT", weight.glu.map_or(0, Activation::number))
}

/// What kernels that can norm on the way are told.
fn norm_consts(consts: Consts, norm: Option<RmsNorm>) -> Consts {
    let (eps, one_plus) = norm.map_or((0.0, false), |norm| (norm.eps, norm.one_plus));
    consts.bool("NORM", norm.is_some()).f32("EPS", eps).bool("ONE_PLUS", one_plus)
}

/// The product of the one row of x, normed.
fn multiply_normed(call: &Invocation<'_>, rows: &[u32], x: &[f32], norm: &[f32], out: &mut [f32]) {
    let row = active(rows, 0).map(|_| 0);
    let factors = factors(x, norm, call.consts);
    let x: Vec<f64> = x.iter().zip(factors).map(|(&v, factor)| f64::from(v) * factor).collect();
    multiply(call, row.as_slice(), &x, out, |w| w);
}

fn uniform_twin(mut call: Invocation<'_>) {
    let [rows, x, y, norm, out] = call.take();
    let (rows, x, y, norm, out) = (rows.words(), x.floats(), y.floats(), norm.floats(), out.floats_mut());
    let [k, t, windows, parts] = ["K", "T", "WINDOWS", "PARTS"].map(|c| call.consts.get(c));
    let row = |x: &[f32]| -> Vec<f64> {
        let wide = x.iter().map(|&v| f64::from(v));
        match call.consts.flag("NORM") {
            true => wide.zip(factors(x, norm, call.consts)).map(|(v, factor)| v * factor).collect(),
            false => wide.collect(),
        }
    };
    let x: Vec<f64> = [x, y].iter().take(parts).flat_map(|x| x.chunks_exact(k).flat_map(row)).collect();
    // Each window has as many rows of each part; one of which none is in use is skipped.
    let each = t / parts;
    let window = |r: usize| r / each % windows;
    let used: Vec<usize> = (0..x.len() / k).filter(|&r| active(rows, r).is_some()).map(window).collect();
    let rows: Vec<usize> = (0..x.len() / k).filter(|&r| used.contains(&window(r))).collect();
    multiply(&call, &rows, &x, out, |w| w);
}

fn twin(call: Invocation<'_>) {
    multiply_tiles(call, false);
}

fn split_twin(mut call: Invocation<'_>) {
    let [rows, x, norm, out] = call.take();
    if call.consts.flag("NORM") {
        return multiply_normed(&call, rows.words(), x.floats(), norm.floats(), out.floats_mut());
    }
    call.bindings = vec![rows, x, out];
    multiply_tiles(call, false);
}

fn flat_twin(call: Invocation<'_>) {
    multiply_tiles(call, true);
}

/// A tile of which no row is in use is skipped; within a tile all are computed, or all up to the last one in use.
fn multiply_tiles(mut call: Invocation<'_>, to_last: bool) {
    let [rows, x, out] = call.take();
    let (rows, x, out) = (rows.words(), x.floats(), out.floats_mut());
    let [k, t] = ["K", "T"].map(|c| call.consts.get(c));
    let capacity = x.len() / k;
    let used = |&row: &usize| {
        let first = row / t * t;
        let from = if to_last { row } else { first };
        (from..capacity.min(first + t)).any(|r| active(rows, r).is_some())
    };
    let rows: Vec<usize> = (0..capacity).filter(used).collect();
    let x: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
    multiply(&call, &rows, &x, out, |w| w);
}

/// The product of some rows of `x` `[rows, K]`, with what `round` makes of each weight; activated where its rows are gate and
/// up in turns.
pub(super) fn multiply(
    call: &Invocation<'_>,
    rows: &[usize],
    x: &[f64],
    out: &mut [f32],
    round: impl Fn(f32) -> f32 + Sync,
) {
    let consts = call.consts;
    let [k, n, first, stride] = ["K", "N", "FIRST", "STRIDE"].map(|c| consts.get(c));
    let (add, glu) = (consts.flag("ADD"), consts.flag("GLU"));
    let (activation, fold) = (ACTIVATIONS[consts.get("ACT")], if glu { 2 } else { 1 });
    let columns: Vec<Vec<f32>> = (0..n.div_ceil(TILE_ROWS))
        .into_par_iter()
        .map_init(
            || (vec![0.0; TILE_ROWS * k], vec![0.0; k]),
            |(tile, weight), i| {
                call.unpack_tile(i, k, tile);
                let mut sums = Vec::with_capacity(rows.len() * TILE_ROWS);
                for row in tile.chunks_exact(k) {
                    weight.iter_mut().zip(row).for_each(|(wide, &w)| *wide = f64::from(round(w)));
                    sums.extend(rows.iter().map(|&r| dot(weight, &x[r * k..][..k]) as f32));
                }
                sums
            },
        )
        .collect();
    for (i, sums) in columns.iter().enumerate() {
        let (first, here) = (first + i * TILE_ROWS / fold, (n - i * TILE_ROWS) / fold);
        for (j, sums) in sums.chunks_exact(fold * rows.len().max(1)).take(here).enumerate() {
            let (gates, sums) = sums.split_at(if glu { rows.len() } else { 0 });
            for (i, (&r, &sum)) in rows.iter().zip(sums).enumerate() {
                let sum = match gates.get(i) {
                    Some(&gate) => (activation.of(f64::from(gate)) * f64::from(sum)) as f32,
                    None => sum,
                };
                let out = &mut out[r * stride + first + j];
                *out = if add { *out + sum } else { sum };
            }
        }
    }
}

/// A dot product in eight partial sums, so that it can use vector registers.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum()
}
