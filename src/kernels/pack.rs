//! Weights as codes on grids: what loading does on the processor, on the device.

use super::case::{Builder, Compare};
use super::{Access, Case, Invocation, Kernel, Needs, wgsl};
use crate::checkpoint::Dtype;
use crate::format::{Affine, Format, Packing, TILE_ROWS, Tile, q4, q8};
use crate::quantize::{LONGEST_GROUP, QUANTIZERS};
use crate::recording::{Buffer, Consts, Recorder};
use half::{bf16, f16};

pub const KERNEL: Kernel = Kernel {
    name: "pack",
    wgsl: &[wgsl!("pack.wgsl")],
    access: &[Access::Read, Access::Read, Access::ReadWrite, Access::ReadWrite, Access::ReadWrite],
    needs: Needs::Nothing,
    twin,
    cases,
};

/// Weights of this size and greater are left to the processor.
const TOO_LARGE: f32 = 32_768.0;

/// Bytes of workgroup memory that it takes at most, which every device has.
const MOST_SHARED: usize = 16_384;

/// Which tiles of a matrix a dispatch packs, as its first binding has them.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// The tile of the planes that comes first.
    pub first: u32,
    /// How many there are.
    pub tiles: u32,
}

impl Batch {
    /// Bytes of the binding.
    pub const BYTES: u64 = 16;

    /// The words of the binding.
    pub fn words(self) -> [u32; 4] {
        [self.first, self.tiles, 0, 0]
    }
}

/// What a dispatch packs, into what.
#[derive(Clone, Copy, Debug)]
pub struct Pack {
    /// A [`Batch`].
    pub batch: Buffer,
    /// `[tiles, TILE_ROWS, cols]`, as `encoding` says.
    pub weights: Buffer,
    /// The planes of the matrix: codes, and constants.
    pub planes: [Buffer; 2],
    /// Two words: workgroups that are done are counted, [`Pack::workgroups`] for each tile; and 1 where a group holds a weight that
    /// is not finite, or 2^15 or more. Such groups are packed as zeros.
    pub told: Buffer,
    /// Columns, a multiple of 8.
    pub cols: usize,
    /// One that [`Recorder::packs`].
    pub packing: Packing,
    /// `F32`, `F16` or `BF16`.
    pub encoding: Dtype,
    /// Tiles of the batch at most.
    pub tiles: usize,
}

impl Pack {
    /// How many workgroups pack a tile.
    pub fn workgroups(&self) -> usize {
        workgroups(self.cols, self.packing.group)
    }
}

impl Recorder<'_> {
    /// Whether [`pack`](Self::pack) can pack so.
    pub fn packs(cols: usize, packing: Packing) -> bool {
        [&q4::FORMAT, &q8::FORMAT].contains(&packing.format)
            && packing.group <= LONGEST_GROUP
            && workgroups(cols, packing.group) <= 65_535
    }

    /// Packs tiles of a matrix as the first of the [`QUANTIZERS`] does.
    pub fn pack(&mut self, pack: Pack) {
        let Pack { batch, weights, planes: [codes, constants], told, cols, packing, encoding, tiles } = pack;
        let Packing { format, group } = packing;
        let encoding = match encoding {
            Dtype::F16 => 1,
            Dtype::BF16 => 2,
            _ => 0,
        };
        let consts = Consts::new().u32("K", cols).u32("GROUP", group).u32("BITS", format.bits as usize);
        let consts = consts.u32("ENCODING", encoding).u32("WG", lanes(group));
        let grid = [pack.workgroups(), tiles, 1];
        let bindings = [batch, weights, codes, constants, told].map(Into::into);
        self.dispatch(KERNEL.name, consts, bindings, grid);
    }
}

/// Lanes of a workgroup, each with a group in workgroup memory.
fn lanes(group: usize) -> usize {
    if group * 4 * TILE_ROWS <= MOST_SHARED { TILE_ROWS } else { TILE_ROWS / 2 }
}

/// How many of them pack a tile.
fn workgroups(cols: usize, group: usize) -> usize {
    cols.div_ceil(group) * TILE_ROWS / lanes(group)
}

fn twin(mut call: Invocation<'_>) {
    let [k, group, bits, encoding] = ["K", "GROUP", "BITS", "ENCODING"].map(|name| call.consts.get(name));
    let [batch, weights, codes, constants, told] = call.take();
    let (batch, weights) = (batch.words(), weights.words());
    let (codes, constants, told) = (codes.words_mut(), constants.words_mut(), told.words_mut());
    let bits = bits as u32;
    let format: &Format = if bits == 4 { &q4::FORMAT } else { &q8::FORMAT };
    let values: Vec<f32> = match encoding {
        0 => bytemuck::cast_slice(weights).to_vec(),
        1 => bytemuck::cast_slice::<u32, f16>(weights).iter().map(|w| w.to_f32()).collect(),
        _ => bytemuck::cast_slice::<u32, bf16>(weights).iter().map(|w| w.to_f32()).collect(),
    };
    let words = (format.tile_words)(k, group);
    let (first, tiles) = (batch[0] as usize, batch[1] as usize);
    for (tile, values) in values.chunks_exact(TILE_ROWS * k).take(tiles).enumerate() {
        let mut values = values.to_vec();
        for group in values.chunks_mut(k).flat_map(|row| row.chunks_mut(group)) {
            if group.iter().any(|w| w.is_nan() || w.abs() >= TOO_LARGE) {
                group.fill(0.0);
                told[1] = 1;
            }
        }
        let mut packed = Affine::new(k, group);
        let quantized = QUANTIZERS[0].quantize(&values, bits, &mut packed);
        assert!(quantized.is_ok(), "weights below 2^15 have grids");
        let mut planes = vec![Vec::new(); words.len()];
        (format.pack)(Tile::Affine(&packed), k, group, &mut planes);
        for ((to, from), &words) in [&mut *codes, &mut *constants].into_iter().zip(planes).zip(&words) {
            to[(first + tile) * words..][..words].copy_from_slice(&from);
        }
        told[0] += workgroups(k, group) as u32;
    }
}

fn cases() -> Vec<Case> {
    let case = |(cols, format, group, encoding): (usize, &'static Format, usize, Dtype)| {
        let packing = Packing { format, group };
        let name = format!("{cols} columns in {encoding} to {}", packing.name());
        let mut b = Builder::new(&name);
        let (tiles, first) = (2, 1);
        let values = weights(&mut b, [tiles * TILE_ROWS, cols], group);
        let words: Vec<u32> = match encoding {
            Dtype::F16 => words_of(values.iter().map(|&w| f16::from_f32(w).to_bits())),
            Dtype::BF16 => words_of(values.iter().map(|&w| bf16::from_f32(w).to_bits())),
            _ => values.iter().map(|w| w.to_bits()).collect(),
        };
        let weights = b.words("weights", words);
        let batch = b.words("batch", Batch { first, tiles: tiles as u32 }.words().to_vec());
        // The tiles before and behind stay as they are.
        let planes = (format.tile_words)(cols, group);
        let plane = |b: &mut Builder, name, words: usize| b.output(name, words * (tiles + 2), Compare::Exact);
        let (codes, constants) = (plane(&mut b, "codes", planes[0]), plane(&mut b, "constants", planes[1]));
        let told = b.words("told", vec![0; 2]);
        b.compare(told, Compare::Exact);
        b.case(name, move |r, buffers| {
            let [batch, weights, codes, constants, told] =
                [batch, weights, codes, constants, told].map(|i| buffers[i]);
            let planes = [codes, constants];
            // One more than there are.
            r.pack(Pack { batch, weights, planes, told, cols, packing, encoding, tiles: tiles + 1 });
        })
    };
    vec![
        case((96, &q4::FORMAT, 32, Dtype::BF16)),
        case((200, &q4::FORMAT, 64, Dtype::F16)),
        case((136, &q4::FORMAT, 128, Dtype::F32)),
        case((72, &q8::FORMAT, 32, Dtype::F32)),
        case((128, &q8::FORMAT, 128, Dtype::BF16)),
    ]
}

/// 16 bits each, two in a word.
fn words_of(halves: impl Iterator<Item = u16>) -> Vec<u32> {
    bytemuck::pod_collect_to_vec(&halves.collect::<Vec<_>>())
}

/// Groups of all kinds: bell-shaped ones of many sizes, about many means; of one value; with outliers; of a few values, so that many
/// are alike; on a grid already; with signed zeros; and some that cannot be packed.
fn weights(b: &mut Builder, [rows, cols]: [usize; 2], group: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(rows * cols);
    for row in 0..rows {
        for (at, n) in (0..cols).step_by(group).map(|at| (at, group.min(cols - at))) {
            let size = 10f32.powi((b.random() % 9) as i32 - 7);
            let kind = (row + at / group) % 16;
            let mean = size * [0.0, 0.0, 0.0, 0.5, -4.0, 3000.0][b.random() as usize % 6];
            let one = b.normal() * size;
            for i in 0..n {
                values.push(match kind {
                    0 => one,
                    1 => 0.0,
                    2 if i == n / 2 => one * 300.0,
                    3 => (b.random() % 3) as f32 * size,
                    4 => size * ((b.random() % 16) as f32 - 7.0),
                    5 => [0.0, -0.0][b.random() as usize % 2],
                    // A zero that is not 0, and too small for any float.
                    6 if row % 2 == 1 => [1.2e-38, one.abs()][b.random() as usize % 2],
                    6 => [0.0, -0.0, one.abs()][b.random() as usize % 3],
                    7 => b.normal() * 1e-30 * size,
                    8 if row % 32 == 8 && i == 5 => {
                        [f32::NAN, f32::INFINITY, -4e4, 1e30][b.random() as usize % 4]
                    }
                    9 => (mean + b.normal() * size).abs(),
                    10 => mean + b.normal().powi(5) * size,
                    _ => (mean + b.normal() * size).clamp(-3e4, 3e4),
                });
            }
        }
    }
    values
}
