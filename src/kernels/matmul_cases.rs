//! What kernels that multiply are checked on.

use super::activate::ACTIVATIONS;
use super::case::{Builder, F32};
use super::matmul::Activations;
use super::rms_norm::RmsNorm;
use super::shape::Shape;
use super::variant::{Part, Variant};
use super::{Activation, Case, Matrix, NONE, Shard};
use crate::capabilities::Capabilities;
use crate::format::{Affine, FORMATS, Form, Format, Kind, Packing, States, TILE_ROWS, Tile};
use crate::recording::Buffer;
use half::f16;

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

/// One of each kind that has loops of its own.
pub(super) fn few_packings() -> Vec<Packing> {
    let chosen = |packing: &Packing| matches!(packing.name().as_str(), "f16" | "q4/32" | "q4/128");
    test_packings().into_iter().filter(chosen).collect()
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

    /// The same with rows of a gate and of what it lets through in turns.
    pub(super) fn with(mut self, glu: Option<Activation>) -> Self {
        self.matrix.glu = glu;
        self
    }

    /// As of the matrix.
    pub(super) fn stride(&self) -> usize {
        self.matrix.stride()
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
    TestMatrix { matrix: Matrix { rows, cols, shards, glu: None }, planes: indices }
}

/// A matrix of 16-bit floats, `[64, cols]`, of these values.
pub(super) fn matrix_of_halves(b: &mut Builder, values: &[f32]) -> TestMatrix {
    let packing = test_packings().into_iter().find(|packing| packing.format.kind == Kind::Float).unwrap();
    let cols = values.len() / TILE_ROWS;
    let mut planes = vec![Vec::new()];
    (packing.format.pack)(Tile::Values(values), cols, packing.group, &mut planes);
    let indices = planes.into_iter().map(|plane| b.words("plane", plane)).collect();
    let shard = Shard { first: 0, rows: TILE_ROWS, packing, planes: Vec::new(), order: None };
    let matrix = Matrix { rows: TILE_ROWS, cols, shards: vec![shard], glu: None };
    TestMatrix { matrix, planes: vec![indices] }
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

/// Quads of every number that is not usual.
pub(super) fn test_quads(capacity: usize) -> usize {
    match capacity {
        1 | 12 => 1,
        8 | 64 => 3,
        _ => 4,
    }
}

/// Products in formats, on sizes that do not divide evenly.
pub(super) fn cases(
    packings: Vec<Packing>,
    variant: impl Fn(&Capabilities, Shape) -> Option<Variant> + Copy + Send + Sync + 'static,
) -> Vec<Case> {
    let mut cases = Vec::new();
    for packing in packings {
        // (rows of W, columns, capacity, rows in use, tiles a shard, add to what is there)
        let all = [
            (70, 192, 64, 20, 9, true),
            (1, 8, 1, 1, 9, false),
            (131, 72, 1, 1, 1, true),
            (65, 64, 12, 11, 2, true),
            (200, 576, 8, 3, 9, false),
            (67, 328, 24, 17, 1, true),
            (130, 136, 72, 70, 2, false),
        ];
        // Every shape for one packing of each way to read codes; for the others what differs: groups cut short, in parts and
        // on from what is there.
        let shapes = match packing.format.kind {
            Kind::Float => 0..7,
            Kind::Affine { form: Form::Zero, .. } if packing.group == 32 => 0..7,
            Kind::Affine { form: Form::Zero, .. } => 4..7,
            _ => 5..6,
        };
        cases.extend(all[shapes].iter().map(|&shape| case(packing, shape, variant)));
    }
    cases
}

/// Products of one row in every format, on rows of W that leave most of the last tile over.
pub(super) fn row_cases(
    variant: impl Fn(&Capabilities, Shape) -> Option<Variant> + Copy + Send + Sync + 'static,
) -> Vec<Case> {
    test_packings().into_iter().map(|packing| case(packing, (70, 576, 1, 1, 9, true), variant)).collect()
}

/// Products whose columns lanes share out evenly by four blocks at a time, by two, and by one.
pub(super) fn run_cases(
    variant: impl Fn(&Capabilities, Shape) -> Option<Variant> + Copy + Send + Sync + 'static,
) -> Vec<Case> {
    let one = (70, 384, 1, 1, 9, true);
    let rest = [(70, 192, 1, 1, 1, false), (70, 288, 1, 1, 9, true), (70, 192, 2, 1, 9, true)];
    let all = test_packings().into_iter().map(|packing| case(packing, one, variant));
    let few = few_packings().into_iter().flat_map(|packing| rest.map(|shape| case(packing, shape, variant)));
    all.chain(few).collect()
}

fn case(
    packing: Packing,
    (n, k, capacity, used, tiles, add): (usize, usize, usize, usize, usize, bool),
    variant: impl Fn(&Capabilities, Shape) -> Option<Variant> + Copy + Send + Sync + 'static,
) -> Case {
    let k = packing.fitting(k);
    let name = format!("{} {n}x{k}, {used} of {capacity} rows", packing.name());
    let mut b = Builder::new(&name);
    // The first rows are in use, as in a prompt, or the last ones.
    let rows = match capacity {
        24 | 64 => b.rows(capacity, &vec![(0, 0, 0, NONE); used]),
        _ => b.last_rows(capacity, used),
    };
    // Numbers that 16 bits hold, so that all kernels are held to one result; some rows are greater than others.
    let mut value = |i: usize| f16::from_f32(b.normal()).to_f32() * [1.0, 2.0, 0.25][i / k % 3];
    let values: Vec<f32> = (0..capacity * k).map(&mut value).collect();
    let x = b.floats("x", &values);
    let matrix = test_matrix(&mut b, packing, n, k, tiles);
    let out = b.output("out", capacity * n.next_multiple_of(8), F32);
    b.case(name, move |r, buffers| {
        let weight = matrix.on(buffers);
        let x = Activations { rows: buffers[rows], capacity, values: buffers[x] };
        if let Some(variant) = variant(r.capabilities, Shape::new(capacity, &weight)) {
            r.matmul_as(variant, x, &weight, buffers[out], add);
        }
    })
}

/// Products of normed rows, in one format of each kind that has loops of its own.
pub(super) fn normed_cases(
    variant: impl Fn(&Capabilities, Shape) -> Option<Variant> + Copy + Send + Sync + 'static,
) -> Vec<Case> {
    let mut cases = Vec::new();
    for packing in few_packings() {
        // (rows of W, columns, capacity, rows in use, whether the norm's weight is what it differs from 1, eps)
        let shapes = [
            (131, 72, 1, 1, false, 1e-5),
            (200, 576, 1, 1, true, 0.5),
            (70, 8, 1, 0, false, 1e-5),
            (70, 1024, 1, 1, false, 1e-5),
            (70, 72, 3, 2, false, 0.5),
            (131, 64, 8, 8, true, 1e-5),
            (200, 576, 16, 11, false, 1e-5),
        ];
        for (n, k, capacity, used, one_plus, eps) in shapes {
            let name = format!(
                "{} {n}x{k}, {used} of {capacity} normed rows, one plus the weight {one_plus}, eps {eps}",
                packing.name()
            );
            let mut b = Builder::new(&name);
            let rows = b.used_rows(capacity, used);
            let x = b.normals("x", capacity * k);
            let weight = b.normals("norm", k);
            let matrix = test_matrix(&mut b, packing, n, k, 2);
            let out = b.output("out", capacity * n.next_multiple_of(8), F32);
            cases.push(b.case(name, move |r, buffers| {
                let w = matrix.on(buffers);
                let x = Activations { rows: buffers[rows], capacity, values: buffers[x] };
                let norm = RmsNorm { weight: buffers[weight], one_plus, eps };
                if let Some(variant) = variant(r.capabilities, Shape::new(capacity, &w)) {
                    r.product(variant, x, Some(norm), &w, buffers[out], false);
                }
            }));
        }
    }
    cases
}

/// Products with rows of a gate and of what it lets through in turns, by every activation.
pub(super) fn glu_cases(
    variant: impl Fn(&Capabilities, Shape) -> Option<Variant> + Copy + Send + Sync + 'static,
) -> Vec<Case> {
    let mut cases = Vec::new();
    for packing in few_packings() {
        // (rows of W, columns, capacity, rows in use, tiles a shard, what the greatest numbers are)
        let shapes = [(134, 72, 1, 1, 1, 1.0), (200, 64, 16, 11, 9, 100.0), (70, 136, 65, 65, 9, 1.0)];
        for ((n, k, capacity, used, tiles, spread), activation) in shapes.into_iter().zip(ACTIVATIONS) {
            let name = format!("{activation:?} glu {} {n}x{k}, {used} of {capacity} rows", packing.name());
            let mut b = Builder::new(&name);
            let rows = b.last_rows(capacity, used);
            let x: Vec<f32> =
                (0..capacity * k).map(|_| f16::from_f32(b.normal() * spread).to_f32()).collect();
            let x = b.floats("x", &x);
            let matrix = test_matrix(&mut b, packing, n, k, tiles).with(Some(activation));
            let out = b.output("out", capacity * matrix.stride(), F32);
            cases.push(b.case(name, move |r, buffers| {
                let weight = matrix.on(buffers);
                let x = Activations { rows: buffers[rows], capacity, values: buffers[x] };
                if let Some(variant) = variant(r.capabilities, Shape::new(capacity, &weight)) {
                    r.matmul_as(variant, x, &weight, buffers[out], false);
                }
            }));
        }
    }
    cases
}
