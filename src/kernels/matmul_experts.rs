//! Products with the matrices of the experts that a row was routed to.

use super::case::{Builder, F32};
use super::matmul::Activations;
use super::matmul_cases::{test_matrix, test_packings};
use super::shape::Shape;
use super::sort_experts::Order;
use super::variant::Part;
use super::{Access, Case, Invocation, Kernel, Matrix, NONE, Needs, Shard, wgsl};
use crate::format::TILE_ROWS;
use crate::recording::{Buffer, Consts, Recorder};

pub const KERNEL: Kernel = Kernel {
    name: "matmul_experts",
    wgsl: &[wgsl!("splits.wgsl"), wgsl!("in_flight.wgsl"), wgsl!("matmul_experts.wgsl")],
    // No more than four: a format may have four planes, and eight is what every device can bind.
    access: &[Access::Read, Access::Read, Access::Read, Access::ReadWrite],
    needs: Needs::Nothing,
    twin,
    cases,
};

/// Which experts each row goes through; see [`Recorder::route`].
#[derive(Clone, Copy, Debug)]
pub struct Experts {
    /// Their numbers, `[capacity, slots]`; `NONE` in rows that are not in use.
    pub chosen: Buffer,
    /// Their weights, `[capacity, slots]`.
    pub weights: Buffer,
    /// Experts of a row.
    pub slots: usize,
    /// All experts.
    pub count: usize,
    /// What they chose, expert by expert, where that pays: see [`Recorder::sorted`].
    pub order: Option<Order>,
}

impl Recorder<'_> {
    /// Gate and up of each expert that a row goes through: of all slots gate, then of all slots up,
    /// `[capacity, 2 · slots · intermediate]`. `weight` has 2 · intermediate rows an expert.
    pub fn experts_up(&mut self, x: Activations, weight: &Matrix, experts: Experts) -> Buffer {
        let out = self.temporary(x.capacity * experts.slots * (weight.rows / experts.count), "up");
        if let Some(order) = experts.order {
            self.experts_tiles(x.values, weight, (experts, order), out, true);
            return out;
        }
        let part = self.part_of_expert(x, weight, experts, experts.slots);
        self.experts_product(part, x, weight, experts, out, true);
        out
    }

    /// `to += Σ_s weight(s) · x_s · W_sᵀ` over the slots of a row, with `x` `[capacity, slots · cols]`.
    pub fn experts_down(&mut self, x: Activations, weight: &Matrix, experts: Experts, to: Buffer) {
        if let Some(order) = experts.order {
            let n = weight.rows / experts.count;
            let made = self.temporary(x.capacity * experts.slots * n, "made"); // [rows, slots, n]
            self.experts_tiles(x.values, weight, (experts, order), made, false);
            return self.add_experts(x.capacity, experts, made, n, to);
        }
        let part = self.part_of_expert(x, weight, experts, 1);
        self.experts_product(part, x, weight, experts, to, false);
    }

    /// What a workgroup has of an expert's matrix, where `slots` of them are at work side by side, which is as good as more rows.
    fn part_of_expert(&self, x: Activations, weight: &Matrix, experts: Experts, slots: usize) -> Part {
        let rows = slots * (weight.rows / experts.count);
        Shape { capacity: x.capacity, rows, cols: weight.cols, stride: rows }.part(self.capabilities)
    }

    fn experts_product(
        &mut self,
        part: Part,
        x: Activations,
        weight: &Matrix,
        experts: Experts,
        out: Buffer,
        spread: bool,
    ) {
        let (rows, cols) = (weight.rows / experts.count, weight.cols);
        for shard in &weight.shards {
            let consts = part.consts(1, consts(rows, cols, shard, experts, spread));
            let grid = [rows.div_ceil(4 * part.quads), x.capacity, if spread { experts.slots } else { 1 }];
            let bindings = [experts.chosen, experts.weights, x.values, out].map(Into::into);
            let planes = shard.planes.iter().map(|&p| p.into()).collect();
            let format = Some(shard.packing.format.name);
            self.dispatch_weight(KERNEL.name, format, consts, bindings, planes, grid);
        }
    }
}

/// What kernels are told of a shard of all experts' matrices, of which each has so many rows.
pub(super) fn consts(rows: usize, cols: usize, shard: &Shard, experts: Experts, spread: bool) -> Consts {
    let group = shard.packing.group;
    Consts::new()
        .u32("K", cols)
        .u32("N", rows)
        .u32("COUNT", shard.rows)
        .u32("FIRST", shard.first)
        .u32("SLOTS", experts.slots)
        .bool("SPREAD", spread)
        .u32("GROUP", group)
        .u32("GROUPS", cols.div_ceil(group))
}

fn twin(mut call: Invocation<'_>) {
    let [chosen, weights, x, out] = call.take();
    let (chosen, weights) = (chosen.words(), weights.floats());
    let (x, out) = (x.floats(), out.floats_mut());
    let [k, n, count, first, slots] = ["K", "N", "COUNT", "FIRST", "SLOTS"].map(|c| call.consts.get(c));
    let spread = call.consts.flag("SPREAD");
    let capacity = chosen.len() / slots;
    let mut tile = vec![0.0; TILE_ROWS * k];
    for r in (0..capacity).filter(|&r| chosen[r * slots] != NONE) {
        let mut sums = vec![0.0; n];
        for slot in 0..slots {
            let expert = chosen[r * slots + slot] as usize;
            let weight = f64::from(weights[r * slots + slot]);
            let x = &x[if spread { r } else { r * slots + slot } * k..][..k];
            let mut unpacked = None;
            for row in 0..n {
                let Some(at) = (expert * n + row).checked_sub(first).filter(|&at| at < count) else {
                    continue;
                };
                if unpacked != Some(at / TILE_ROWS) {
                    call.unpack_tile(at / TILE_ROWS, k, &mut tile);
                    unpacked = Some(at / TILE_ROWS);
                }
                let w = &tile[at % TILE_ROWS * k..][..k];
                let dot: f64 = w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
                if spread {
                    let h = n / 2;
                    out[r * slots * n + row / h * slots * h + slot * h + row % h] = dot as f32;
                } else {
                    sums[row] += weight * dot;
                }
            }
        }
        if !spread {
            out[r * n..][..n].iter_mut().zip(sums).for_each(|(o, sum)| *o = (f64::from(*o) + sum) as f32);
        }
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for packing in test_packings() {
        // (rows of an expert, columns, experts, slots, tiles a shard, slots' outputs apart, quads and splits of a workgroup)
        for (n, k, count, slots, tiles, spread, (quads, splits)) in [
            (16, 8, 3, 1, 9, true, (16, 4)),
            (136, 72, 4, 2, 2, true, (4, 64)),
            (72, 328, 5, 3, 1, false, (8, 8)),
            (128, 64, 4, 2, 9, false, (16, 16)),
        ] {
            let part = Part { quads, splits };
            let k = packing.fitting(k);
            let kind = if spread { "up" } else { "down" };
            let name = format!("{kind}, {} {slots} of {count} experts of {n}x{k}", packing.name());
            let mut b = Builder::new(&name);
            let rows = b.used_rows(6, 5); // not looked at
            let mut chosen: Vec<u32> = (0..6 * slots).map(|_| b.random() % count as u32).collect();
            chosen[5 * slots..].fill(NONE);
            let chosen = b.words("chosen", chosen);
            let weights = b.normals("weights", 6 * slots);
            let x = b.normals("x", 6 * k * if spread { 1 } else { slots });
            let matrix = test_matrix(&mut b, packing, count * n, k, tiles);
            let out = b.output("out", 6 * n * if spread { slots } else { 1 }, F32);
            cases.push(b.case(name, move |r, buffers| {
                let x = Activations { rows: buffers[rows], capacity: 6, values: buffers[x] };
                let (chosen, weights) = (buffers[chosen], buffers[weights]);
                let experts = Experts { chosen, weights, slots, count, order: None };
                r.experts_product(part, x, &matrix.on(buffers), experts, buffers[out], spread);
            }));
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capabilities::Capabilities;

    /// Submissions are bounded by work, and experts' products are most of it: each row's with the matrices of all its slots.
    #[test]
    fn work_is_counted() {
        let device = Capabilities::promised("a GPU", "vulkan");
        for (name, each) in [
            ("up, f16 1 of 3 experts of 16x8", 2 * 16 * 8),
            ("down, f16 2 of 4 experts of 128x64", 2 * 128 * 64 * 2),
        ] {
            let case = cases().into_iter().find(|case| case.name == name).unwrap();
            let recording = case.recording(&device);
            let work: Vec<u64> = recording.dispatches.iter().map(|d| d.operations()).collect();
            // Of six rows.
            assert!(!work.is_empty() && work.iter().all(|n| *n == 6 * each), "{name}: {work:?}");
        }
    }
}
