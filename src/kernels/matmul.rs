//! Activations times a packed weight: `out[t, n] (+)= Σ_k x[t, k] · W[n, k]`.
//!
//! Four kernels behind one twin: see the head of each WGSL file for what it is good at.

use super::case::{Builder, Compare};
use super::twin::active;
use super::variant::{FLAT_WG, Part, Product, Shape, UNIFORM_WG, Variant, few_lanes};
use super::{Access, Case, Invocation, Kernel, Matrix, NONE, Needs, Shard, wgsl};
use crate::capabilities::Capabilities;
use crate::format::{Affine, FORMATS, Form, Format, Kind, Packing, States, TILE_ROWS, Tile};
use crate::recording::{Buffer, Consts, Recorder};
use half::f16;
use rayon::prelude::*;

/// Activations as uniforms: for devices whose lanes are a processor's.
pub const UNIFORM: Kernel = Kernel {
    name: "matmul_uniform",
    wgsl: &[wgsl!("matmul_uniform.wgsl")],
    access: &[Access::Read, Access::Uniform, Access::Uniform, Access::ReadWrite],
    needs: Needs::Sharing,
    twin: uniform_twin,
    cases: || {
        let few = cases(|device, x| {
            let quads = if x.capacity == 64 { 1 } else { 2 };
            x.uniform_rows(device, 8).map(|rows| Variant::Uniform { rows, quads })
        });
        let many = cases(|device, x| {
            let quads = if x.capacity == 64 { 3 } else { 4 };
            x.uniform_rows(device, 16).map(|rows| Variant::Uniform { rows, quads })
        });
        few.into_iter().chain(many).collect()
    },
};

/// Columns written out: for devices of few lanes, whose compilers unroll no loop.
pub const FLAT: Kernel = Kernel {
    name: "matmul_flat",
    wgsl: &[wgsl!("matmul_flat.wgsl")],
    access: &[Access::Read, Access::Read, Access::ReadWrite],
    needs: Needs::Quads,
    twin: flat_twin,
    cases: || {
        // On devices of many lanes it is right too, but takes long to compile: fewer cases there.
        let few = cases(|device, x| {
            let possible = few_lanes(device) || (Needs::Quads.met(device) && x.capacity <= 8);
            possible.then(|| x.flat(2, if x.capacity == 64 { 3 } else { 1 }))
        });
        let many =
            cases(|device, x| few_lanes(device).then(|| x.flat(64, if x.capacity == 64 { 2 } else { 4 })));
        few.into_iter().chain(many).collect()
    },
};

/// Columns shared out among lanes: for GPUs and few rows.
pub const SPLIT: Kernel = Kernel {
    name: "matmul_split",
    wgsl: &[wgsl!("splits.wgsl"), wgsl!("matmul_split.wgsl")],
    access: &[Access::Read, Access::Read, Access::ReadWrite],
    needs: Needs::Nothing,
    twin,
    cases: || cases(|_, x| Some(x.split(test_part(x.capacity)))),
};

/// Tiles in workgroup memory: for GPUs and many rows.
pub const TILE: Kernel = Kernel {
    name: "matmul_tile",
    wgsl: &[wgsl!("matmul_tile.wgsl")],
    access: &[Access::Read, Access::Read, Access::ReadWrite],
    needs: Needs::Nothing,
    twin,
    cases: || cases(|_, _| Some(Variant::Tile)),
};

/// Rows of x that `matmul_tile` takes at a time.
const TILE_T: usize = 64;

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
    /// `x · Wᵀ`: `[capacity, weight.stride()]`.
    pub fn matmul(&mut self, x: Activations, weight: &Matrix, name: &'static str) -> Buffer {
        let out = self.temporary(x.capacity * weight.stride(), name);
        let variant = self.choose(x, weight);
        self.matmul_as(variant, x, weight, out, false);
        out
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
        let usual = || shape.usual(self.capabilities, dots);
        let Some(choices) = self.choices else { return usual() };
        let name = Product::name(x.capacity, weight, dots);
        let measured = choices.get(&name).and_then(|variant| Variant::named(variant));
        // What a file says need not be possible.
        match measured.filter(|measured| candidates().contains(measured)) {
            Some(measured) => measured,
            None => {
                let product = Product { name, capacity: x.capacity, weight: weight.clone(), dots };
                self.unmeasured.push(Box::new(product));
                usual()
            }
        }
    }

    /// The product by a given kernel.
    pub fn matmul_as(&mut self, variant: Variant, x: Activations, weight: &Matrix, out: Buffer, add: bool) {
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
            let consts = shard_consts(shard, cols, stride, add);
            match variant {
                Variant::Uniform { rows: t, quads } => {
                    let shape = Shape::new(x.capacity, weight);
                    let (parts, windows) =
                        (shape.parts(self.capabilities, t), shape.windows(self.capabilities, t));
                    let consts = consts.u32("T", t).u32("WINDOWS", windows).u32("PARTS", parts);
                    let consts = consts.u32("Q", quads).u32("WG", UNIFORM_WG);
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
                            window(out, stride, first, rows),
                        ];
                        let consts = consts.clone();
                        self.dispatch_weight(UNIFORM.name, format, consts, bindings, planes.clone(), grid);
                    }
                }
                Variant::Flat { rows: t, quads } => {
                    let consts = consts.u32("T", t).u32("Q", quads).u32("WG", FLAT_WG);
                    let grid = [shard.rows.div_ceil(4 * quads * FLAT_WG), x.capacity / t, 1];
                    let bindings = [x.rows.into(), x.values.into(), out.into()];
                    self.dispatch_weight(FLAT.name, format, consts, bindings, planes, grid);
                }
                Variant::Split { rows: t, part } => {
                    let consts = part.consts(consts.u32("T", t));
                    let grid = [shard.rows.div_ceil(4 * part.quads), x.capacity.div_ceil(t), 1];
                    let bindings = [x.rows.into(), x.values.into(), out.into()];
                    self.dispatch_weight(SPLIT.name, format, consts, bindings, planes, grid);
                }
                Variant::Tile => {
                    let consts = consts.u32("T", TILE_T).u32("ROWS", x.capacity);
                    let grid = [tiles, x.capacity.div_ceil(TILE_T), 1];
                    let bindings = [x.rows.into(), x.values.into(), out.into()];
                    self.dispatch_weight(TILE.name, format, consts, bindings, planes, grid);
                }
                Variant::Cooperative { rows } => {
                    let consts = consts.u32("T", rows).u32("ROWS", x.capacity);
                    let grid = [tiles, x.capacity.div_ceil(rows), 1];
                    self.cooperative(x, cols, (format, planes), consts, out, grid);
                }
                Variant::Dot { .. } | Variant::DotTile => {
                    self.dots(variant, x, (cols, stride), shard, (out, add));
                }
            }
        }
    }
}

/// What every kernel that multiplies with a shard is told of it.
pub(super) fn shard_consts(shard: &Shard, cols: usize, stride: usize, add: bool) -> Consts {
    let group = shard.packing.group;
    Consts::new()
        .u32("K", cols)
        .u32("N", shard.rows)
        .u32("FIRST", shard.first)
        .u32("STRIDE", stride)
        .u32("GROUP", group)
        .u32("GROUPS", cols.div_ceil(group))
        .bool("ADD", add)
}

fn uniform_twin(mut call: Invocation<'_>) {
    let [rows, x, y, out] = call.take();
    let (rows, x, y, out) = (rows.words(), x.floats(), y.floats(), out.floats_mut());
    let [k, t, windows, parts] = ["K", "T", "WINDOWS", "PARTS"].map(|c| call.consts.get(c));
    let x: Vec<f64> = [x, y].iter().take(parts).flat_map(|x| x.iter().map(|&v| f64::from(v))).collect();
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

/// The product of some rows of `x` `[rows, K]`, with what `round` makes of each weight.
pub(super) fn multiply(
    call: &Invocation<'_>,
    rows: &[usize],
    x: &[f64],
    out: &mut [f32],
    round: impl Fn(f32) -> f32 + Sync,
) {
    let consts = call.consts;
    let [k, n, first, stride] = ["K", "N", "FIRST", "STRIDE"].map(|c| consts.get(c));
    let add = consts.flag("ADD");
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
        for (j, sums) in sums.chunks_exact(rows.len().max(1)).take(n - i * TILE_ROWS).enumerate() {
            for (&r, &sum) in rows.iter().zip(sums) {
                let out = &mut out[r * stride + first + i * TILE_ROWS + j];
                *out = if add { *out + sum } else { sum };
            }
        }
    }
}

/// A dot product in eight partial sums, so that it can use vector registers.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum()
}

/// Every format, in the group sizes that `--group` takes.
pub(super) fn test_packings() -> Vec<Packing> {
    let groups = |format: &'static Format| match format.kind {
        Kind::Float => vec![64],
        Kind::Affine { form: Form::Zero, .. } => vec![32, 64, 128],
        Kind::States(_) => vec![64],
        Kind::Affine { .. } => vec![32],
        Kind::Blocks { group, .. } => vec![group],
    };
    FORMATS
        .iter()
        .flat_map(|&format| groups(format).into_iter().map(move |group| Packing { format, group }))
        .collect()
}

/// A matrix of a case: shapes, and which inputs its planes are.
pub(super) struct TestMatrix {
    matrix: Matrix,
    planes: Vec<Vec<usize>>,
}

impl TestMatrix {
    /// The matrix over a case's buffers.
    pub(super) fn on(&self, buffers: &[Buffer]) -> Matrix {
        let mut matrix = self.matrix.clone();
        for (shard, planes) in matrix.shards.iter_mut().zip(&self.planes) {
            shard.planes = planes.iter().map(|&i| buffers[i]).collect();
        }
        matrix
    }
}

/// A random matrix in shards of so many tiles.
pub(super) fn test_matrix(
    b: &mut Builder,
    packing: Packing,
    rows: usize,
    cols: usize,
    tiles: usize,
) -> TestMatrix {
    let (mut shards, mut indices) = (Vec::new(), Vec::new());
    for first in (0..rows).step_by(tiles * TILE_ROWS) {
        let shard_rows = (rows - first).min(tiles * TILE_ROWS);
        let mut planes = vec![Vec::new(); packing.format.planes.len()];
        for _ in 0..shard_rows.div_ceil(TILE_ROWS) {
            let mut tile = vec![Vec::new(); planes.len()];
            let shape = (cols, packing.group);
            match packing.format.kind {
                Kind::Float => {
                    let values: Vec<f32> = (0..TILE_ROWS * cols).map(|_| b.normal()).collect();
                    (packing.format.pack)(Tile::Values(&values), shape.0, shape.1, &mut tile);
                }
                Kind::Affine { bits, form } => {
                    let mut affine = Affine::new(cols, packing.group);
                    affine.codes.fill_with(|| (b.random() >> (32 - bits)) as u8);
                    affine.scales.fill_with(|| f16::from_f32(b.normal() * 0.1));
                    let middle = if form == Form::Zero { (1 << (bits - 1)) as f32 } else { 0.0 };
                    affine.zeros.fill_with(|| f16::from_f32(middle + b.normal()));
                    (packing.format.pack)(Tile::Affine(&affine), shape.0, shape.1, &mut tile);
                }
                Kind::States(_) => {
                    let mut states = States::new(cols, packing.group);
                    states.codes.fill_with(|| (b.random() >> 28) as u8);
                    states.scales.fill_with(|| b.normal() * 0.1);
                    (packing.format.pack)(Tile::States(&states), shape.0, shape.1, &mut tile);
                }
                Kind::Blocks { cols: block, bytes, constants, .. } => {
                    let mut blocks: Vec<u8> =
                        (0..TILE_ROWS * cols / block * bytes).map(|_| b.random() as u8).collect();
                    for block in blocks.chunks_exact_mut(bytes) {
                        constants.iter().for_each(|constant| constant.set(block, b.normal() * 0.01));
                    }
                    (packing.format.pack)(Tile::Blocks(&blocks), shape.0, shape.1, &mut tile);
                }
            }
            planes.iter_mut().zip(tile).for_each(|(plane, tile)| plane.extend(tile));
        }
        indices.push(planes.into_iter().map(|p| b.words("plane", p)).collect());
        shards.push(Shard { first, rows: shard_rows, packing, planes: Vec::new(), order: None });
    }
    TestMatrix { matrix: Matrix { rows, cols, shards }, planes: indices }
}

/// Parts of tiles of every size.
pub(super) fn test_part(capacity: usize) -> Part {
    let (quads, splits) = match capacity {
        8 => (16, 4),
        24 => (4, 64),
        72 => (8, 8),
        1 => (4, 32),
        _ => (16, 16),
    };
    Part { quads, splits }
}

pub(super) fn cases(
    variant: impl Fn(&Capabilities, Shape) -> Option<Variant> + Copy + Send + Sync + 'static,
) -> Vec<Case> {
    let mut cases = Vec::new();
    for packing in test_packings() {
        // (rows of W, columns, capacity, rows in use, tiles a shard, add to what is there)
        let all = [
            (70, 192, 64, 41, 9, true),
            (1, 8, 1, 1, 9, false),
            (131, 72, 1, 1, 1, true),
            (65, 64, 12, 11, 2, true),
            (200, 576, 8, 3, 9, false),
            (67, 328, 24, 17, 9, true),
            (130, 136, 72, 70, 2, false),
        ];
        // Every shape for one packing of each way to read codes; for the others what differs: groups cut short, for
        // one row and for many.
        let shapes = match packing.format.kind {
            Kind::Float => 0..,
            Kind::Affine { form: Form::Zero, .. } if packing.group == 32 => 0..,
            Kind::Affine { form: Form::Zero, .. } => 4..,
            _ => 5..,
        };
        for &(n, k, capacity, used, tiles, add) in &all[shapes] {
            let k = packing.fitting(k);
            let name = format!("{} {n}x{k}, {used} of {capacity} rows", packing.name());
            let mut b = Builder::new(&name);
            // The first rows are in use, as in a prompt, or the last ones.
            let rows = match capacity {
                24 => b.rows(capacity, &vec![(0, 0, 0, NONE); used]),
                _ => b.last_rows(capacity, used),
            };
            // Numbers that 16 bits hold, so that all kernels are held to one result; some rows are greater than others.
            let mut value = |i: usize| f16::from_f32(b.normal()).to_f32() * [1.0, 2.0, 0.25][i / k % 3];
            let values: Vec<f32> = (0..capacity * k).map(&mut value).collect();
            let x = b.floats("x", &values);
            let matrix = test_matrix(&mut b, packing, n, k, tiles);
            let out = b.output("out", capacity * n.next_multiple_of(8), Compare::Floats(1e-7));
            cases.push(b.case(name, move |r, buffers| {
                let weight = matrix.on(buffers);
                let x = Activations { rows: buffers[rows], capacity, values: buffers[x] };
                if let Some(variant) = variant(r.capabilities, Shape::new(capacity, &weight)) {
                    r.matmul_as(variant, x, &weight, buffers[out], add);
                }
            }));
        }
    }
    cases
}
