//! Which kernel multiplies with a weight: by rule, or by what was measured on the device.

use super::Matrix;
use super::variant::{Part, Variant};
use crate::capabilities::{Capabilities, Matrices};
use crate::format::BLOCK;
use std::any::Any;

/// What a variant is chosen by.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    /// Rows of x.
    pub capacity: usize,
    /// Rows of W.
    pub rows: usize,
    /// Columns of W.
    pub cols: usize,
    /// Floats from one row of outputs to the next.
    pub stride: usize,
}

/// Most rows of x that a lane of `matmul_split` adds up side by side.
const MOST_ROWS: usize = 8;

/// Most rows of x for which a GPU takes `matmul_split` as a rule, though it reads W once for every eight of them: `matmul_tile`
/// computes 64 rows whatever their number, from workgroup memory, which gives two thirds of a GPU's arithmetic at best.
const FEW_ROWS: usize = 32;

/// Most rows of x that a lane of `matmul_uniform` adds up side by side. Half of them are an eighth slower on llvmpipe, and all
/// kernels of a model compile in 11 seconds instead of 14; twice as many are hardly faster, and take twice as long to compile.
const UNIFORM_ROWS: usize = 16;

/// Most rows of x that share what a lane of `matmul_flat` unpacks.
const FLAT_ROWS: usize = 64;

/// Rows of x of a workgroup of `matmul_rows`.
pub(super) const ROWS_T: usize = 32;

/// And where there are few of them; so many and more have that product, and less another.
pub const FEW_ROWS_T: usize = ROWS_T / 2;

/// Most blocks of eight columns that a lane of `matmul_rows` loads at a time as a rule. More are faster by up to a tenth, but take
/// such a device seconds to compile, so they are for those who measure.
const MOST_BLOCKS: usize = 4;
const MOST_BLOCKS_MEASURED: usize = 6;

/// Fewest quads of rows of W of a workgroup of `matmul_rows` that are worth loading x for.
const LEAST_ROWS_QUADS: usize = 4;

/// Most quads of rows of W a lane of `matmul_uniform` and `matmul_flat`. More of them take too long to compile.
const MOST_QUADS: usize = 4;

/// Most of them a lane of `matmul_flat` for one row of x, whose code is short.
const MOST_FLAT_QUADS: usize = 8;

/// Most lanes of a workgroup that has a part of a tile.
const LANES: usize = 256;

/// Workgroups of them that keep a large GPU busy: the largest have some 150 processors, which want several each while loads are
/// under way.
const ENOUGH: usize = 512;

/// Lanes of a workgroup of `matmul_uniform`: few, so that all of a processor's threads have some.
pub(super) const UNIFORM_WG: usize = 8;

/// Lanes of a workgroup of `matmul_flat`, likewise.
pub(super) const FLAT_WG: usize = 4;

impl Shape {
    pub fn new(capacity: usize, weight: &Matrix) -> Self {
        Shape { capacity, rows: weight.rows, cols: weight.cols, stride: weight.stride() }
    }

    /// The variant that serves where nothing was measured; with `dots`, of activations in 8 bits.
    pub fn usual(self, device: &Capabilities, dots: bool) -> Variant {
        if dots {
            let few = self.capacity <= MOST_ROWS || device.software;
            return if few { self.dot(self.part(device)) } else { Variant::DotTile };
        }
        if device.few_lanes() && device.software {
            if self.capacity >= FEW_ROWS_T {
                return self.rows_by_lane(device, processor_threads());
            }
            // Of several rows, more quads are slower: their code leaves the processor's cache.
            let quads = if self.capacity == 1 { self.quads_by_lane(processor_threads()) } else { 3 };
            return self.flat(FLAT_ROWS, quads);
        }
        let uniform = self.uniform_rows(device, UNIFORM_ROWS).filter(|_| device.software);
        match uniform {
            // With one, three or four, products took as long or longer, or at most a tenth less.
            Some(rows) => Variant::Uniform { rows, quads: 2 },
            None if self.capacity <= FEW_ROWS || device.software => self.split(self.part(device)),
            None => Variant::Tile,
        }
    }

    /// Every variant that is right for the shape and may be the fastest, the usual one first.
    pub fn candidates(self, device: &Capabilities, dots: bool) -> Vec<Variant> {
        let usual = self.usual(device, dots);
        let mut all = vec![usual];
        let parts = self.parts_of_tiles(device);
        let many = self.capacity > MOST_ROWS;
        if dots {
            all.extend(parts.map(|part| self.dot(part)).chain(many.then_some(Variant::DotTile)));
            return once(all);
        }
        let all_quads = 1..=MOST_QUADS;
        if device.few_lanes() {
            // `matmul_uniform` takes twice as long there, and seconds to compile in each of its forms.
            let most = if self.capacity == 1 { MOST_FLAT_QUADS } else { MOST_QUADS };
            match usual {
                Variant::Rows { rows, quads, .. } => {
                    all.extend((2..=MOST_BLOCKS_MEASURED).map(|blocks| Variant::Rows {
                        rows,
                        blocks,
                        quads,
                    }));
                }
                _ => all.extend((1..=most).map(|quads| self.flat(FLAT_ROWS, quads))),
            }
        } else {
            let rows = [UNIFORM_ROWS / 2, UNIFORM_ROWS].map(|most| self.uniform_rows(device, most));
            let uniform = |rows| all_quads.clone().map(move |quads| Variant::Uniform { rows, quads });
            all.extend(rows.into_iter().flatten().flat_map(uniform));
        }
        // The fastest of those for GPUs takes a processor four times as long, or more.
        if device.software
            && matches!(usual, Variant::Uniform { .. } | Variant::Flat { .. } | Variant::Rows { .. })
        {
            return once(all);
        }
        all.extend(parts.clone().map(|part| self.split(part)));
        if self.capacity == 1 {
            let of_two = |Part { quads, splits }| Part { quads, splits: 2 * splits };
            all.extend(parts.map(|part| Variant::Split { rows: 1, part: of_two(part), each: 2 }));
        }
        if many {
            all.push(Variant::Tile);
            all.extend(device.f16.then_some(Variant::TileHalf));
            all.extend([64, 128].into_iter().filter_map(|rows| self.cooperative(device, rows)));
        }
        once(all)
    }

    /// The most rows at a time, up to `most`, that divide the capacity, for kernels that have no rows to spare.
    pub(super) fn divisor(self, most: usize) -> usize {
        (1..=most).rev().find(|&rows| self.capacity.is_multiple_of(rows)).unwrap_or(1)
    }

    /// `matmul_flat` with so many rows at a time, however many there are, so that one pipeline serves for all of them: such a
    /// device takes seconds to compile one. For one row the kernel has another loop.
    pub fn flat(self, rows: usize, quads: usize) -> Variant {
        Variant::Flat { rows: if self.capacity == 1 { 1 } else { rows }, quads }
    }

    /// Quads of a lane of `matmul_flat` for one row of x, on so many threads of a processor: such that none has workgroups to do
    /// while others have none. What quads share takes about as long as one of them.
    pub fn quads_by_lane(self, threads: usize) -> usize {
        let all = self.rows.div_ceil(4);
        let rounds = |quads: usize| all.div_ceil(FLAT_WG * quads).div_ceil(threads);
        (1..=MOST_FLAT_QUADS).min_by_key(|&quads| rounds(quads) * (quads + 1)).unwrap_or(MOST_FLAT_QUADS)
    }

    /// `matmul_rows`, on so many threads of a processor.
    pub fn rows_by_lane(self, device: &Capabilities, threads: usize) -> Variant {
        self.chunks(if self.capacity <= FEW_ROWS_T { FEW_ROWS_T } else { ROWS_T }, device, threads)
    }

    /// The same, of so many rows of x a workgroup.
    pub fn chunks(self, rows: usize, device: &Capabilities, threads: usize) -> Variant {
        // What a chunk takes for a row of W: half of what a block does, whatever its size, and that for each block of a lane. Not by
        // the capacity: what adds up in another order makes other sums.
        let cost = |blocks: usize| self.cols.div_ceil(4 * blocks * BLOCK) * (1 + 2 * blocks);
        let blocks = (2..=MOST_BLOCKS).min_by_key(|&blocks| cost(blocks)).unwrap_or(MOST_BLOCKS);
        // The more quads, whose sums a workgroup's memory holds, the fewer load x again; but each thread should have workgroups of
        // its own.
        let most = (device.max_workgroup_memory as usize / (4 * rows * size_of::<f32>())).max(1);
        let all = self.rows.div_ceil(4);
        let wanted = (2 * threads).div_ceil(self.capacity.div_ceil(rows));
        let parts = all.div_ceil(most).max(wanted.min(all.div_ceil(LEAST_ROWS_QUADS)));
        Variant::Rows { rows, blocks, quads: all.div_ceil(parts) }
    }

    /// `matmul_split` with as many rows at a time as can be.
    pub fn split(self, part: Part) -> Variant {
        Variant::Split { rows: self.divisor(MOST_ROWS), part, each: 1 }
    }

    /// `matmul_dot`, likewise.
    pub fn dot(self, part: Part) -> Variant {
        Variant::Dot { rows: self.divisor(MOST_ROWS), part }
    }

    /// The part of W that a workgroup has as a rule: on a GPU a small one where W has few rows, so that there are workgroups
    /// for all of its processors, and so many lanes for each quad that each has two blocks of columns or more. A processor has
    /// no use for more workgroups.
    pub fn part(self, device: &Capabilities) -> Part {
        if device.software {
            return Part { quads: 16, splits: 16 };
        }
        let quads = [16, 8].into_iter().find(|quads| self.rows / (4 * quads) >= ENOUGH).unwrap_or(4);
        let blocks = self.cols / BLOCK;
        let splits =
            [64, 32, 16, 8].into_iter().find(|splits| quads * splits <= LANES && 2 * splits <= blocks);
        Part { quads, splits: splits.unwrap_or(4) }
    }

    /// Every part that is worth measuring.
    fn parts_of_tiles(self, device: &Capabilities) -> impl Iterator<Item = Part> + Clone + use<> {
        let quads: &[usize] = if device.software { &[16] } else { &[16, 8, 4] };
        let most = device.max_invocations as usize;
        let of =
            |quads: usize| [LANES / 4, LANES / 2, LANES].map(|lanes| Part { quads, splits: lanes / quads });
        quads.iter().copied().flat_map(of).filter(move |part| part.lanes(1) <= most)
    }

    /// `matmul_cooperative` with so many rows of x a workgroup, where the device has matrix units that it fits.
    pub fn cooperative(self, device: &Capabilities, rows: usize) -> Option<Variant> {
        let Matrices { size, lanes } = device.matrices?;
        // See matmul_cooperative.wgsl: halves of both sides, and a matrix of each subgroup.
        let bytes = (64 + rows) * 72 * 2 + 4 * (size * size * 4) as usize;
        let fits = bytes <= device.max_workgroup_memory as usize && 4 * lanes <= device.max_invocations;
        (fits && (size == 8 || size == 16)).then_some(Variant::Cooperative { rows })
    }

    /// The most rows, up to `most`, that a kernel which reads its input as uniforms can take at a time: a divisor of the
    /// capacity such that a window of the input fits uniform bindings, and each window of row table, input and output starts
    /// where the device lets one.
    pub fn uniform_rows(self, device: &Capabilities, most: usize) -> Option<usize> {
        let fits = |n: usize| {
            let bytes = [super::twin::ROW_WORDS, self.cols, self.stride].map(|words| (n * words * 4) as u64);
            bytes[1] <= device.max_uniform * self.parts(device, n) as u64
                && (n == self.capacity || bytes.iter().all(|b| b.is_multiple_of(device.window_alignment)))
        };
        (1..=most.min(self.capacity)).rev().find(|&n| self.capacity.is_multiple_of(n) && fits(n))
    }

    /// Into how many uniform bindings so many rows of the input go: two, if each can start where the device lets one.
    pub fn parts(self, device: &Capabilities, rows: usize) -> usize {
        let aligned = ((rows / 2 * self.cols * 4) as u64).is_multiple_of(device.window_alignment);
        if rows.is_multiple_of(2) && aligned { 2 } else { 1 }
    }

    /// How many times so many rows of the input those bindings hold, such that none are left over.
    pub fn windows(self, device: &Capabilities, rows: usize) -> usize {
        let most = device.max_uniform as usize * self.parts(device, rows) / (4 * self.cols * rows);
        let all = self.capacity / rows;
        (1..=most.min(all)).rev().find(|&n| all.is_multiple_of(n)).unwrap_or(1)
    }
}

/// Threads of this machine, which a device that runs on its processor may use.
pub(super) fn processor_threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// Each variant where it is met first.
fn once(all: Vec<Variant>) -> Vec<Variant> {
    let mut once: Vec<Variant> = Vec::new();
    all.into_iter().for_each(|variant| {
        if !once.contains(&variant) {
            once.push(variant);
        }
    });
    once
}

impl Variant {
    /// Of how many rows what is measured is called, where this is the rule for so many: all that `matmul_rows` takes have one
    /// choice, since chunks of other sizes add up in another order.
    pub fn named_capacity(self, capacity: usize) -> usize {
        if let Variant::Rows { .. } = self { FEW_ROWS_T } else { capacity }
    }

    /// The same chunks for the rows of x and quads that the rule has.
    pub fn sized_as(self, usual: Variant) -> Variant {
        match (self, usual) {
            (Variant::Rows { blocks, .. }, Variant::Rows { rows, quads, .. }) => {
                Variant::Rows { rows, blocks, quads }
            }
            _ => self,
        }
    }
}

/// A product for which no variant was measured.
pub struct Product {
    /// What it is called.
    pub name: String,
    /// Rows of x.
    pub capacity: usize,
    /// W.
    pub weight: Matrix,
    /// Whether activations are in 8 bits.
    pub dots: bool,
}

impl Product {
    /// Every variant for it, the usual one first.
    pub fn candidates(&self, device: &Capabilities) -> Vec<Variant> {
        Shape::new(self.capacity, &self.weight).candidates(device, self.dots)
    }

    /// What a product of `capacity` rows with a weight is called.
    pub fn name(capacity: usize, weight: &Matrix, dots: bool) -> String {
        let packing = weight.shards.first().map_or_else(String::new, |shard| shard.packing.name());
        let activations = if dots { " of q8" } else { "" };
        let glu = if weight.glu.is_some() { " glu" } else { "" };
        format!("{packing} {}×{}{glu}, {capacity} rows{activations}", weight.rows, weight.cols)
    }

    /// The products among what a recorder met and nothing was measured of.
    pub fn among(unmeasured: Vec<Box<dyn Any>>) -> Vec<Product> {
        unmeasured.into_iter().filter_map(|one| one.downcast().ok()).map(|product| *product).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Capabilities {
        Capabilities::promised("a device", "none")
    }

    #[test]
    fn variants_are_read_as_they_are_written() {
        let shape = Shape { capacity: 64, rows: 960, cols: 576, stride: 960 };
        let matrices = Some(Matrices { size: 16, lanes: 32 });
        let device = Capabilities { matrices, f16: true, max_workgroup_memory: 32 << 10, ..device() };
        let few_lanes = Capabilities { software: true, subgroups: Some((4, 4)), ..self::device() };
        let all = [
            shape.candidates(&device, false),
            shape.candidates(&device, true),
            shape.candidates(&few_lanes, false),
        ]
        .concat();
        assert!(all.iter().any(|variant| matches!(variant, Variant::Rows { .. })), "{all:?}");
        assert!(all.contains(&Variant::Cooperative { rows: 128 }), "{all:?}");
        assert!(all.contains(&Variant::TileHalf), "{all:?}");
        assert!(all.len() > 8, "{all:?}");
        for variant in all {
            assert_eq!(Variant::named(&variant.to_string()), Some(variant));
        }
        for wrong in [
            "",
            "uniform",
            "uniform 8",
            "uniform x4",
            "tile 1x1",
            "split 8x-4",
            "other 1x1",
            "uniform 8x4x2",
            "split 1x16",
            "split 1x16x16x",
            "split 1x16x16x2x2",
            "cooperative",
            "cooperative 8x4",
            "rows 3",
            "rows 3x48",
        ] {
            assert_eq!(Variant::named(wrong), None, "{wrong}");
        }
    }

    /// On a GPU small matrices are cut into small parts, and columns are shared out among no more lanes than have two blocks each.
    #[test]
    fn parts_of_tiles_keep_a_gpu_busy() {
        let part = |rows: usize, cols: usize, software: bool| {
            let shape = Shape { capacity: 1, rows, cols, stride: rows };
            match shape.usual(&Capabilities { software, max_uniform: 0, ..device() }, false) {
                Variant::Split { part, .. } => (part.quads, part.splits),
                other => panic!("{other}"),
            }
        };
        // The matrices of an 8B model, then of a small one.
        assert_eq!(part(4096, 4096, false), (4, 64));
        assert_eq!(part(28672, 4096, false), (8, 32));
        assert_eq!(part(128_256, 4096, false), (16, 16));
        assert_eq!(part(960, 576, false), (4, 32));
        assert_eq!(part(8, 8, false), (4, 4));
        assert_eq!(part(4096, 4096, true), (16, 16));
        for software in [false, true] {
            let device = Capabilities { software, ..device() };
            for cols in [8, 64, 576, 14336] {
                for variant in
                    (Shape { capacity: 1, rows: 4096, cols, stride: 4096 }).candidates(&device, false)
                {
                    let Variant::Split { part, each, .. } = variant else { continue };
                    let Part { quads, splits } = part;
                    assert!(16 % quads == 0 && splits.is_power_of_two() && splits >= 4, "{variant}");
                    assert!(part.lanes(each) <= 256 && part.quads.is_multiple_of(each), "{variant}");
                }
            }
        }
    }

    #[test]
    fn a_gpu_takes_tiles_for_many_rows() {
        let usual = |capacity, dots| {
            let shape = Shape { capacity, rows: 4096, cols: 4096, stride: 4096 };
            shape.usual(&Capabilities { software: false, ..device() }, dots)
        };
        for capacity in [1, 8, 16, 32] {
            let rows = capacity.min(8);
            assert!(
                matches!(usual(capacity, false), Variant::Split { rows: r, .. } if r == rows),
                "{capacity}"
            );
        }
        assert_eq!([usual(64, false), usual(512, false)], [Variant::Tile; 2]);
        assert_eq!(usual(16, true), Variant::DotTile);
    }

    /// Chunks that columns fill, quads that are all of one number, and workgroups for all threads.
    #[test]
    fn rows_by_lane_are_shared_out() {
        let of = |rows: usize, cols: usize, threads: usize| {
            let shape = Shape { capacity: 64, rows, cols, stride: rows };
            match shape.rows_by_lane(&device(), threads) {
                Variant::Rows { blocks, quads, .. } => (blocks, quads),
                other => panic!("{other}"),
            }
        };
        assert_eq!(of(576, 1536, 2), (4, 29));
        assert_eq!(of(3072, 576, 2), (3, 32));
        assert_eq!(of(960, 2048, 2), (4, 30));
        assert_eq!(of(8, 8, 2), (2, 2));
        // 144 quads in some 32 workgroups for each 32 rows of x, or of four quads where threads are more than there is work for.
        assert_eq!(of(576, 576, 32), (3, 5));
        assert_eq!(of(576, 576, 1000), (3, 4));
        // Whatever the capacity, a row of x is added up the same way, and sums fit a workgroup's memory.
        for (max_workgroup_memory, cols) in [(16 << 10, 576), (32 << 10, 1536)] {
            let device = Capabilities { max_workgroup_memory, ..device() };
            let of = |capacity| Shape { capacity, rows: 3072, cols, stride: 3072 }.rows_by_lane(&device, 2);
            let all = [16, 64].map(|capacity| match of(capacity) {
                Variant::Rows { rows, blocks, quads } => (rows, blocks, quads),
                other => panic!("{other}"),
            });
            assert_eq!([all[0].0, all[1].0], [16, 32]);
            assert_eq!(all[0].1, all[1].1);
            assert!(all.iter().all(|&(rows, _, quads)| quads * 16 * rows <= max_workgroup_memory as usize));
            let measured = Variant::Rows { rows: 32, blocks: 6, quads: 9 };
            assert_eq!(measured.sized_as(of(16)), Variant::Rows { rows: 16, blocks: 6, quads: all[0].2 });
        }
    }

    /// Quads that leave no thread without work while others have some, and few lanes for few rows.
    #[test]
    fn quads_of_a_lane_are_shared_out() {
        let of = |rows: usize, threads: usize| {
            Shape { capacity: 1, rows, cols: 576, stride: rows }.quads_by_lane(threads)
        };
        assert_eq!([of(49152, 2), of(3072, 2), of(576, 2), of(8, 2)], [8, 8, 6, 1]);
        assert_eq!([of(49152, 16), of(576, 16), of(576, 1000)], [8, 3, 1]);
    }

    /// Kernels for GPUs take a processor many times as long, and are not even measured there, where it has its own.
    #[test]
    fn a_processor_chooses_among_its_own_kernels() {
        for subgroups in [Some((4, 4)), Some((8, 8))] {
            let device = Capabilities { software: true, subgroups, ..device() };
            for capacity in [1, 64] {
                let shape = Shape { capacity, rows: 960, cols: 576, stride: 960 };
                let all = shape.candidates(&device, false);
                let own = |variant: &Variant| match device.few_lanes() {
                    true => matches!(variant, Variant::Flat { .. } | Variant::Rows { .. }),
                    false => matches!(variant, Variant::Uniform { .. }),
                };
                assert!(all.len() >= MOST_QUADS && all.iter().all(own), "{all:?}");
            }
            // Columns that fit no uniform binding.
            let shape = Shape { capacity: 1, rows: 960, cols: 1 << 20, stride: 960 };
            let split = shape.candidates(&device, false).iter().any(|v| matches!(v, Variant::Split { .. }));
            assert_eq!(split, !device.few_lanes());
        }
    }

    /// Whatever the shape, rows at a time divide the capacity, where kernels have none to spare.
    #[test]
    fn candidates_leave_no_row_over() {
        let device = device();
        for capacity in [1, 2, 5, 8, 12, 16, 64] {
            for variant in (Shape { capacity, rows: 584, cols: 1536, stride: 584 }).candidates(&device, false)
            {
                if let Variant::Uniform { rows, .. } | Variant::Split { rows, .. } = variant {
                    assert!(capacity % rows == 0 && rows <= capacity, "{capacity} {variant}");
                }
            }
        }
    }
}
