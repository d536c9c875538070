//! Which rows go through each expert, so that they can share its weights.

use super::case::{Builder, Compare};
use super::{Access, Case, Experts, Invocation, Kernel, NONE, Needs, wgsl};
use crate::recording::{Buffer, Consts, Recorder};

pub const KERNEL: Kernel = Kernel {
    name: "sort_experts",
    wgsl: &[wgsl!("sort_experts.wgsl")],
    access: &[Access::Read, Access::ReadWrite],
    needs: Needs::Nothing,
    twin,
    cases,
};

const WG: usize = 64;

/// What rows chose, expert by expert.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// Slots of rows, `[tiles, T]`; `NONE` behind the last one of a tile's expert.
    pub slots: Buffer,
    /// Tiles, of which some are empty.
    pub tiles: usize,
}

impl Recorder<'_> {
    /// What `capacity` rows chose, in tiles of `t` slots that go through one expert.
    pub(super) fn sort_experts(&mut self, capacity: usize, experts: Experts, t: usize) -> Order {
        let chosen = capacity * experts.slots;
        let tiles = chosen / t + experts.count;
        let slots = self.temporary(tiles * t, "order");
        let consts = Consts::new()
            .u32("CHOSEN", chosen)
            .u32("EXPERTS", experts.count)
            .u32("T", t)
            .u32("TILES", tiles)
            .u32("WG", WG);
        self.dispatch(KERNEL.name, consts, [experts.chosen, slots].map(Into::into), [experts.count, 1, 1]);
        Order { slots, tiles }
    }
}

fn twin(mut call: Invocation<'_>) {
    let [chosen, order] = call.take();
    let (chosen, order) = (chosen.words(), order.words_mut());
    let [experts, t] = ["EXPERTS", "T"].map(|c| call.consts.get(c));
    order.fill(NONE);
    let mut before = 0;
    for expert in 0..experts {
        let own = (0..chosen.len() as u32).filter(|&i| chosen[i as usize] == expert as u32);
        let own: Vec<u32> = own.collect();
        order[(before / t + expert) * t..][..own.len()].copy_from_slice(&own);
        before += own.len();
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // (rows, those in use, slots, experts, slots of a tile, whether all rows go through few of the experts)
    for (capacity, used, slots, count, t, few) in [
        (1, 1, 1, 1, 64, false),
        (8, 0, 2, 3, 8, false),
        (70, 67, 2, 5, 16, false),
        (70, 70, 4, 60, 64, true),
        (512, 509, 8, 128, 64, false),
        (512, 512, 8, 128, 64, true),
        (256, 256, 1, 4, 64, true),
    ] {
        let kind = if few { ", all through few" } else { "" };
        let name = format!("{slots} of {count} experts of {used} of {capacity} rows by {t}{kind}");
        let mut b = Builder::new(&name);
        let mut chosen = Vec::new();
        for row in 0..capacity {
            // Different ones, as a router chooses; the last ones where few.
            let first = if few { count - slots } else { b.random() as usize % count };
            let expert = |slot| ((first + slot) % count) as u32;
            chosen.extend((0..slots).map(|slot| if row < used { expert(slot) } else { NONE }));
        }
        let chosen = b.words("chosen", chosen);
        let order = b.output("order", (capacity * slots / t + count) * t, Compare::Exact);
        cases.push(b.case(name, move |r, buffers| {
            r.pin(buffers[order]);
            let experts =
                Experts { chosen: buffers[chosen], weights: buffers[chosen], slots, count, order: None };
            r.sort_experts(capacity, experts, t);
        }));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Slot;

    /// Whatever is chosen, all of it is there once, in tiles of one expert each.
    #[test]
    fn every_slot_has_its_place() {
        let mut b = Builder::new("places");
        for (chosen, experts, t) in
            [(1, 1, 4), (64, 1, 64), (63, 7, 8), (65, 64, 64), (500, 3, 64), (512, 128, 4)]
        {
            let skew = 1 + b.random() % 4;
            let choose = |r: u32| (0..skew).fold(r, |r, _| r.min(r.rotate_left(7))) % (experts as u32 + 1);
            let choice: Vec<u32> = (0..chosen).map(|_| choose(b.random())).collect();
            let choice: Vec<u32> =
                choice.iter().map(|&e| if e == experts as u32 { NONE } else { e }).collect();
            let tiles = chosen / t + experts;
            let consts = Consts::new().u32("EXPERTS", experts).u32("T", t);
            let mut order = vec![7; tiles * t];
            let bindings = vec![Slot::Read(&choice), Slot::Write(&mut order)];
            twin(Invocation { consts: &consts, bindings, planes: Vec::new(), packing: None });
            let mut found: Vec<u32> = order.iter().copied().filter(|&i| i != NONE).collect();
            found.sort_unstable();
            let used: Vec<u32> = (0..chosen as u32).filter(|&i| choice[i as usize] != NONE).collect();
            assert_eq!(found, used);
            for tile in order.chunks_exact(t) {
                let full = tile.iter().take_while(|&&i| i != NONE).count();
                assert!(tile[full..].iter().all(|&i| i == NONE), "{tile:?}");
                assert!(tile[..full].windows(2).all(|w| choice[w[0] as usize] == choice[w[1] as usize]));
            }
        }
    }
}
