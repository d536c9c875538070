//! Products with experts' matrices for many rows: those that go through an expert share what is loaded of its weights.

use super::case::{Builder, F32};
use super::matmul::{TILE_T, dot};
use super::matmul_cases::{few_packings, test_matrix, test_packings};
use super::sort_experts::Order;
use super::{Access, Case, Experts, Invocation, Kernel, Matrix, NONE, Needs, wgsl};
use crate::format::TILE_ROWS;
use crate::recording::{Buffer, Recorder};

pub const KERNEL: Kernel = Kernel {
    name: "matmul_experts_tile",
    wgsl: &[wgsl!("tile/floats.wgsl"), wgsl!("tile/experts.wgsl"), wgsl!("matmul_tile.wgsl")],
    access: &[Access::Read, Access::Read, Access::Read, Access::ReadWrite],
    needs: Needs::Nothing,
    twin,
    cases,
};

/// Slots of an expert, on average, from which on it is better to share its weights, where half of the rows are in use. A tile costs what
/// multiplying 16 rows does or, where subgroups are of 64 lanes, 32, however few it has; without tiles each slot costs what loading a
/// matrix does, where a GPU makes 10 to 100 operations a byte.
const WORTH_IT: usize = 8;

impl Recorder<'_> {
    /// `experts`, with what rows chose sorted where many of them go through each.
    pub fn sorted(&mut self, capacity: usize, experts: Experts) -> Experts {
        let many = capacity * experts.slots >= WORTH_IT * experts.count;
        let order =
            (many && !self.capabilities.software).then(|| self.sort_experts(capacity, experts, TILE_T));
        Experts { order, ..experts }
    }

    /// Of each slot in `order`, its product with its expert's matrix: see `tile/experts.wgsl`.
    pub(super) fn experts_tiles(
        &mut self,
        x: Buffer,
        weight: &Matrix,
        (experts, order): (Experts, Order),
        out: Buffer,
        spread: bool,
    ) {
        let (rows, cols) = (weight.rows / experts.count, weight.cols);
        let slots = order.tiles * TILE_T;
        let part = self.rows_of_a_part(slots, 2 * (rows * cols) as u64, TILE_T, &[1]);
        for shard in &weight.shards {
            let consts = super::matmul_experts::consts(rows, cols, shard, experts, spread).u32("T", TILE_T);
            let planes: Vec<_> = shard.planes.iter().map(|&p| p.into()).collect();
            for first in (0..slots).step_by(part) {
                let n = part.min(slots - first);
                let order = order.slots.rows(1, first, n, slots);
                let bindings = [experts.chosen.into(), order, x.into(), out.into()];
                let grid = [rows.div_ceil(TILE_ROWS), n / TILE_T, 1];
                let format = Some(shard.packing.format.name);
                self.dispatch_weight(KERNEL.name, format, consts.clone(), bindings, planes.clone(), grid);
            }
        }
    }
}

fn twin(mut call: Invocation<'_>) {
    let [chosen, order, x, out] = call.take();
    let (chosen, order) = (chosen.words(), order.words());
    let (x, out) = (x.floats(), out.floats_mut());
    let [k, n, count, first, slots] = ["K", "N", "COUNT", "FIRST", "SLOTS"].map(|c| call.consts.get(c));
    let (spread, h) = (call.consts.flag("SPREAD"), n / 2);
    let used = || order.iter().filter(|&&slot| slot != NONE).map(|&slot| slot as usize);
    let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|&x| f64::from(x)).collect() };
    let mut tile = vec![0.0; TILE_ROWS * k];
    for at in (0..count).step_by(TILE_ROWS) {
        call.unpack_tile(at / TILE_ROWS, k, &mut tile);
        for (i, w) in tile.chunks_exact(k).enumerate().take(count - at) {
            let (expert, row) = ((first + at + i) / n, (first + at + i) % n);
            let w = wide(w);
            for slot in used().filter(|&slot| chosen[slot] as usize == expert) {
                let x = &x[if spread { slot / slots } else { slot } * k..][..k];
                let (r, s) = (slot / slots, slot % slots);
                let to = match spread {
                    true => r * slots * n + row / h * slots * h + s * h + row % h,
                    false => slot * n + row,
                };
                out[to] = dot(&w, &wide(x)) as f32;
            }
        }
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // (rows of an expert, columns, experts, slots, rows, those in use, tiles a shard, slots' outputs apart)
    let shapes = [
        (16, 8, 3, 1, 1, 1, 9, true),
        (136, 72, 4, 2, 70, 67, 2, true),
        (128, 64, 4, 2, 24, 24, 9, true),
        (72, 328, 5, 3, 40, 38, 1, false),
        (128, 64, 1, 1, 200, 200, 9, false),
    ];
    // Formats unpack as for `matmul_tile`: a processor, which takes a second or two to compile each case, has two.
    let few = few_packings();
    for packing in test_packings() {
        let few = few.contains(&packing);
        let own = matches!(packing.name().as_str(), "f16" | "q4/32");
        let shapes = if few { &shapes[..] } else { &shapes[1..2] };
        for &(n, k, count, slots, capacity, used, tiles, spread) in shapes {
            let k = packing.fitting(k);
            let kind = if spread { "up" } else { "down" };
            let packed = packing.name();
            let name =
                format!("{kind}, {packed} {slots} of {count} experts of {n}x{k}, {used} of {capacity} rows");
            let mut b = Builder::new(&name);
            // Half of them through one expert, whatever the others do.
            let mut chosen = Vec::new();
            for row in 0..capacity {
                let first = if row % 2 == 0 { 0 } else { b.random() as usize % count };
                let expert = |slot| ((first + slot) % count) as u32;
                chosen.extend((0..slots).map(|slot| if row < used { expert(slot) } else { NONE }));
            }
            let chosen = b.words("chosen", chosen);
            let x = b.normals("x", capacity * k * if spread { 1 } else { slots });
            let matrix = test_matrix(&mut b, packing, count * n, k, tiles);
            let out = b.output("out", capacity * slots * n, F32);
            let case = b.case(name, move |r, buffers| {
                if r.capabilities.software && !own {
                    return;
                }
                let experts =
                    Experts { chosen: buffers[chosen], weights: buffers[x], slots, count, order: None };
                let order = r.sort_experts(capacity, experts, TILE_T);
                r.experts_tiles(buffers[x], &matrix.on(buffers), (experts, order), buffers[out], spread);
            });
            let cut = capacity == 200 && packing.group == 32;
            cases.push(if cut { case.in_parts() } else { case });
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capabilities::Capabilities;
    use crate::cpu::Cpu;
    use crate::kernels::matmul::Activations;
    use crate::kernels::{Input, Shard};
    use crate::recording::Executor;
    use pollster::block_on;

    /// Sorted or not, in parts or whole, over shards that begin anywhere and are packed in two ways.
    #[test]
    fn sorting_changes_nothing() {
        let (n, k, count, slots, capacity) = (72, 64, 5, 3, 90);
        let mut b = Builder::new("sorting");
        let few = few_packings();
        let parts = [(88, few[0], 1), (272, few[1], 2)];
        let parts = parts.map(|(rows, packing, tiles)| (rows, test_matrix(&mut b, packing, rows, k, tiles)));
        let choice = |i| if i < 80 * slots { ((i * i + i / 7) % count) as u32 } else { NONE };
        let chosen = b.words("chosen", (0..capacity * slots).map(choice).collect());
        let weights = b.normals("weights", capacity * slots);
        let x = b.normals("x", capacity * slots * k);
        // Of all slots gate and up, or a row that is added to.
        let outs = [b.normals("up", capacity * slots * n), b.normals("out", capacity * n)];
        let inputs = b.case("sorting", |_, _| {}).inputs;
        let run = |sorted: bool, operations: u64| -> [Vec<f32>; 2] {
            let mut cpu = Cpu::new();
            let mut buffer = |input: &Input| {
                let buffer = cpu.create(input.words.len() as u64 * 4, input.name).unwrap();
                cpu.upload(buffer, 0, bytemuck::cast_slice(&input.words)).unwrap();
                buffer
            };
            let buffers: Vec<Buffer> = inputs.iter().map(&mut buffer).collect();
            let mut weight = Matrix { rows: count * n, cols: k, shards: Vec::new(), glu: None };
            let mut first = 0;
            for (rows, part) in &parts {
                let shards = part.on(&buffers).shards.into_iter();
                weight.shards.extend(shards.map(|shard| Shard { first: first + shard.first, ..shard }));
                first += rows;
            }
            let device = cpu.capabilities().clone();
            let mut r = Recorder::new(&device);
            r.operations = operations;
            let (chosen, weights) = (buffers[chosen], buffers[weights]);
            let mut experts = Experts { chosen, weights, slots, count, order: None };
            experts.order = sorted.then(|| r.sort_experts(capacity, experts, TILE_T));
            r.pin(buffers[outs[0]]);
            let x = Activations { rows: chosen, capacity, values: buffers[x] };
            r.experts_up(x, &weight, experts);
            r.experts_down(x, &weight, experts, buffers[outs[1]]);
            let prepared = cpu.prepare(r.finish()).unwrap();
            cpu.run(prepared).unwrap();
            outs.map(|out| {
                let ticket = cpu.read(buffers[out].whole()).unwrap();
                bytemuck::pod_collect_to_vec(&block_on(cpu.finish(ticket)).unwrap())
            })
        };
        let expected = run(false, u64::MAX);
        for operations in [1, 5 * 2 * (n * k) as u64 * TILE_T as u64 / 2, u64::MAX] {
            for (found, expected) in run(true, operations).iter().zip(&expected) {
                let off = |(a, b): (&f32, &f32)| (a - b).abs();
                let worst = found.iter().zip(expected).map(off).fold(0.0, f32::max);
                assert!(
                    worst < 1e-5 && expected.iter().all(|v| v.is_finite()),
                    "off by {worst}, {operations}"
                );
            }
        }
    }

    /// A GPU sorts where experts have many rows each, a device on the processor never.
    #[test]
    fn rows_are_sorted_where_they_share_experts() {
        let sorted = |software, capacity, slots, count| {
            let device = Capabilities { software, ..Capabilities::promised("a device", "vulkan") };
            let mut r = Recorder::new(&device);
            let [rows, likes] = [8, count].map(|n| r.temporary(capacity * n, "an input"));
            let experts = r.route(rows, capacity, likes, count, (slots, true));
            r.sorted(capacity, experts).order.is_some()
        };
        assert!(sorted(false, 512, 8, 128) && sorted(false, 64, 2, 8));
        assert!(!sorted(false, 64, 8, 128) && !sorted(false, 1, 2, 8));
        assert!(!sorted(true, 512, 8, 128));
    }

    /// As much work as slots were chosen, with a part of each tile for nothing, or as a part has room for.
    #[test]
    fn work_is_counted() {
        let device = Capabilities::promised("a GPU", "vulkan");
        let work = |name: &str| -> Vec<u64> {
            let case = cases().into_iter().find(|case| case.name == name).unwrap();
            let recording = case.recording(&device);
            recording.dispatches.iter().filter(|d| d.kernel == KERNEL.name).map(|d| d.operations()).collect()
        };
        let each = 2 * 128 * 64;
        assert_eq!(work("up, f16 2 of 4 experts of 128x64, 24 of 24 rows"), [each * (48 + 4 * 31)]);
        assert_eq!(work("down, q4/32 1 of 1 experts of 128x64, 200 of 200 rows, in parts"), [each * 64; 4]);
    }
}
