//! Packing on the device, where that is faster than on the processor. Both make the same codes to the bit, which is checked where it is
//! measured: on the first of a model's matrices of each kind that has enough to measure.

use super::stack::Stack;
use crate::capabilities::Capabilities;
use crate::checkpoint::Dtype;
use crate::error::Result;
use crate::format::{Packing, TILE_ROWS};
use crate::kernels::{Batch, Pack};
use crate::quantize::{QUANTIZERS, Quantizer};
use crate::recording::{Buffer, Executor, Recorder, Window};
use pollster::block_on;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Numbers that a device packs at a time.
const BATCH: usize = 16 << 20;

/// Numbers by which the two can be compared.
const ENOUGH: usize = 1 << 20;

/// What packing a whole model on the processor must take, by the first measurement, for the device to be tried: its compiler takes
/// a part of that.
const WORTH_IT: Duration = Duration::from_secs(2);

/// Where weights are rounded to codes, if the default quantizer does it. The codes are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PackedOn {
    /// Where it takes less time, which is measured if it takes long. Devices that run on the processor are not tried.
    #[default]
    Fastest,
    /// The processor.
    Host,
    /// The device.
    Device,
}

/// What a loader knows of packing on its device.
pub struct Packer {
    /// Whether the device packs; none where that is to be measured.
    wanted: Option<bool>,
    /// What was measured. A device may fail at one and not at another: each is a program of its own.
    measured: Vec<(Kind, bool)>,
    /// Numbers that there are to pack, nearly.
    numbers: u64,
    /// Numbers that the device has packed.
    packed: u64,
    scratch: Option<Scratch>,
    words: Vec<u32>,
    /// Whether the device was asked to do anything.
    ran: bool,
}

/// What matrices have in common that one program packs: columns, packing, encoding.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Kind(usize, Packing, Dtype);

#[derive(Clone, Copy)]
struct Scratch {
    batch: Buffer,
    told: Buffer,
    weights: Buffer,
}

/// Part of a shard: the tiles of the matrix that it holds, and the planes that they go to.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub planes: &'a [Buffer],
    /// The tile of the matrix that is the first of the planes.
    pub first: usize,
}

/// How packing on the device came out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Outcome {
    /// As wanted.
    Packed,
    /// There are weights that it does not pack.
    TooLarge,
    /// Without success.
    Failed,
}

impl Packer {
    /// For a model of so many numbers.
    pub fn new(on: PackedOn, device: &Capabilities, numbers: u64) -> Self {
        let wanted = match on {
            PackedOn::Host => Some(false),
            PackedOn::Device => Some(true),
            PackedOn::Fastest => (device.software || device.backend == "cpu").then_some(false),
        };
        Packer {
            wanted,
            measured: Vec::new(),
            numbers,
            packed: 0,
            scratch: None,
            words: Vec::new(),
            ran: false,
        }
    }

    /// Whether the device packs such a matrix, if that is known. It does if what it is asked for is what it can.
    pub(super) fn takes(&self, stack: &Stack<'_>, quantizer: &Quantizer) -> Option<bool> {
        let can =
            !stack.parts[0].own && quantizer == QUANTIZERS[0] && Recorder::packs(stack.cols, stack.packing());
        let measured = || self.measured.iter().find(|(kind, _)| *kind == kind_of(stack)).map(|m| m.1);
        if can { self.wanted.or_else(measured) } else { Some(false) }
    }

    /// Has the file's bytes in memory, so that whoever packs first is not the one who waits for them.
    pub(super) fn touch(&mut self, stack: &Stack<'_>, tiles: Range<usize>) {
        stack.read(tiles, stack.encoding(), &mut self.words);
    }

    /// Decides by tiles that the processor has packed, if they are enough: the device packs them again, to the same place.
    ///
    /// # Errors
    /// When the device was lost.
    pub(super) fn measure(
        &mut self,
        executor: &mut dyn Executor,
        stack: &Stack<'_>,
        place: Place<'_>,
        tiles: Range<usize>,
        (packed, took): (&[Vec<u32>], Duration),
    ) -> Result<()> {
        let numbers = tiles.len() * TILE_ROWS * stack.cols;
        if numbers < ENOUGH {
            return Ok(());
        }
        if self.measured.is_empty() && took.mul_f64(self.numbers as f64 / numbers as f64) < WORTH_IT {
            self.wanted = Some(false);
            return Ok(());
        }
        let windows: Vec<Window> = (place.planes.iter().zip(packed))
            .map(|(plane, words)| {
                let tile = words.len() as u64 * 4 / tiles.len() as u64;
                plane.window((tiles.start - place.first) as u64 * tile, words.len() as u64 * 4)
            })
            .collect();
        // What the processor made must not be taken for what the device makes.
        for (window, words) in windows.iter().zip(packed) {
            let other: Vec<u32> = words.iter().map(|word| !word).collect();
            executor.upload(window.buffer, window.offset, bytemuck::cast_slice(&other))?;
        }
        // Once to compile, and to have memory in place.
        let before = self.packed;
        let (mut best, mut outcome) = (Duration::MAX, Outcome::Packed);
        for _ in 0..2 {
            let started = Instant::now();
            outcome = self.pack(executor, stack, place, tiles.clone())?;
            if outcome != Outcome::Packed {
                break;
            }
            best = best.min(started.elapsed());
        }
        let mut good = outcome == Outcome::Packed && best < took;
        for (window, words) in windows.iter().zip(packed) {
            good = good
                && read(executor, *window).is_ok_and(|made| made == bytemuck::cast_slice::<_, u8>(words));
        }
        self.packed = before + if good { numbers as u64 } else { 0 };
        if !good {
            for (window, words) in windows.iter().zip(packed) {
                executor.upload(window.buffer, window.offset, bytemuck::cast_slice(words))?;
            }
        }
        // Of such weights the next matrix of the kind may have none.
        if outcome != Outcome::TooLarge {
            self.measured.push((kind_of(stack), good));
        }
        Ok(())
    }

    /// Packs tiles of a matrix on the device, if it can. Where it did not, what is there may have changed.
    ///
    /// # Errors
    /// When the device was lost.
    pub(super) fn pack(
        &mut self,
        executor: &mut dyn Executor,
        stack: &Stack<'_>,
        Place { planes, first }: Place<'_>,
        tiles: Range<usize>,
    ) -> Result<Outcome> {
        let &[codes, constants] = planes else { return Ok(Outcome::Failed) };
        let device = executor.capabilities().clone();
        let encoding = stack.encoding();
        let tile_bytes = (TILE_ROWS * stack.cols * encoding.bitsize() / 8) as u64;
        let room = (device.max_binding.min(device.max_buffer) / tile_bytes) as usize;
        let most = (BATCH / (TILE_ROWS * stack.cols)).clamp(1, 65_535).min(room).min(tiles.len());
        // What there is no memory for, or what a driver refuses, the processor packs.
        let scratch = if most > 0 { self.scratch(executor, tile_bytes * most as u64).ok() } else { None };
        let Some(Scratch { batch, told, weights }) = scratch else { return Ok(Outcome::Failed) };
        let (cols, packing, planes) = (stack.cols, stack.packing(), [codes, constants]);
        let pack = Pack { batch, weights, planes, told, cols, packing, encoding, tiles: most };
        let mut r = Recorder::new(&device);
        r.pack(pack);
        let Ok(prepared) = executor.prepare(r.finish()) else { return Ok(Outcome::Failed) };
        self.ran = true;
        executor.upload(told, 0, &[0; 8])?;
        for start in tiles.clone().step_by(most) {
            let end = (start + most).min(tiles.end);
            stack.read(start..end, encoding, &mut self.words);
            executor.upload(weights, 0, bytemuck::cast_slice(&self.words))?;
            let words = Batch { first: (start - first) as u32, tiles: (end - start) as u32 }.words();
            executor.upload(batch, 0, bytemuck::cast_slice(&words))?;
            executor.run(prepared)?;
        }
        let told: Vec<u32> = bytemuck::pod_collect_to_vec(&read(executor, told.whole())?);
        executor.release(&[prepared], &[]);
        // A device may give work up and not say so.
        let all = pack.workgroups().wrapping_mul(tiles.len()) as u32;
        Ok(match told[..] {
            [done, 0] if done == all => {
                self.packed += (tiles.len() * TILE_ROWS * cols) as u64;
                Outcome::Packed
            }
            [done, _] if done == all => Outcome::TooLarge,
            _ => Outcome::Failed,
        })
    }

    /// Memory for a batch of so many bytes.
    fn scratch(&mut self, executor: &mut dyn Executor, bytes: u64) -> Result<Scratch> {
        if let Some(scratch) = self.scratch.filter(|scratch| scratch.weights.len >= bytes) {
            return Ok(scratch);
        }
        self.free(executor);
        // The largest first: where there is no room for it, nothing is left behind.
        let weights = executor.create(bytes, "weights to pack")?;
        let (batch, told) = (executor.create(Batch::BYTES, "batch")?, executor.create(8, "told of packing")?);
        let scratch = Scratch { batch, told, weights };
        self.scratch = Some(scratch);
        Ok(scratch)
    }

    /// Gives memory back; how many numbers the device has packed. The time that it took counts as none of a model's.
    ///
    /// # Errors
    /// When the device was lost.
    pub fn close(mut self, executor: &mut dyn Executor) -> Result<u64> {
        self.free(executor);
        if self.ran {
            block_on(executor.busy())?;
        }
        Ok(self.packed)
    }

    fn free(&mut self, executor: &mut dyn Executor) {
        if let Some(Scratch { batch, told, weights }) = self.scratch.take() {
            executor.release(&[], &[batch, told, weights]);
        }
    }
}

fn kind_of(stack: &Stack<'_>) -> Kind {
    Kind(stack.cols, stack.packing(), stack.encoding())
}

fn read(executor: &mut dyn Executor, window: Window) -> Result<Vec<u8>> {
    let ticket = executor.read(window)?;
    block_on(executor.finish(ticket))
}

#[cfg(test)]
mod tests {
    use super::super::stack::Part;
    use super::*;
    use crate::checkpoint::shapes::SHAPES;
    use crate::cpu::Cpu;
    use crate::format::{Packing, q4};

    /// The verdict on a device that packs a million numbers, if the processor took so long for them and made `packed` of them, of
    /// `numbers` in all; whether the planes are as the processor made them, and how many numbers the device packed.
    fn verdict(
        numbers: u64,
        took: Duration,
        large: bool,
        change: impl Fn(&mut [Vec<u32>]),
    ) -> (Option<bool>, bool, u64) {
        let checkpoint = SHAPES[0].checkpoint();
        let (rows, cols) = (2048, 576);
        let tensor = checkpoint.tensor("model.embed_tokens.weight", &[49_152, cols]).unwrap();
        let packing = Packing { format: &q4::FORMAT, group: 32 };
        let treated = large.then(|| {
            let mut values = vec![0.5; rows * cols];
            values[10 * TILE_ROWS * cols] = 40_000.0;
            values
        });
        let part = Part { first: 0, rows, packing, own: false, tensor, order: None, treated };
        let stack = Stack { parts: &[part], rows, cols, in_turns: false };
        let tiles = 3..32;
        let mut packed = stack.pack(tiles.clone(), QUANTIZERS[0]).unwrap();
        change(&mut packed);
        let mut cpu = Cpu::new();
        let planes =
            packed.iter().map(|words| cpu.create(words.len() as u64 * 4 / 29 * 31, "plane").unwrap());
        let planes: Vec<Buffer> = planes.collect();
        let place = Place { planes: &planes, first: 1 };
        let mut packer = Packer::new(PackedOn::Fastest, &Capabilities::promised("a GPU", "vulkan"), numbers);
        assert_eq!(packer.takes(&stack, QUANTIZERS[0]), None);
        packer.measure(&mut cpu, &stack, place, tiles, (&packed, took)).unwrap();
        let same = planes.iter().zip(&packed).all(|(plane, words)| {
            let len = words.len() as u64 * 4;
            let ticket = cpu.read(plane.window(len / 29 * 2, len)).unwrap();
            block_on(cpu.finish(ticket)).unwrap() == bytemuck::cast_slice::<_, u8>(words)
        });
        let verdict = packer.takes(&stack, QUANTIZERS[0]);
        (verdict, same, packer.close(&mut cpu).unwrap())
    }

    #[test]
    fn a_device_packs_if_it_is_faster_and_makes_the_same() {
        let (all, slow, numbers) = (1 << 50, Duration::from_secs(3600), 29 * 64 * 576);
        assert_eq!(verdict(all, slow, false, |_| {}), (Some(true), true, numbers));
        assert_eq!(verdict(all, Duration::from_micros(10), false, |_| {}), (Some(false), true, 0));
        // One bit of the last word, or of a constant. What the processor made is put back.
        let last = |packed: &mut [Vec<u32>]| *packed[0].last_mut().unwrap() ^= 1 << 28;
        assert_eq!(verdict(all, slow, false, last), (Some(false), true, 0));
        assert_eq!(verdict(all, slow, false, |packed| packed[1][70] ^= 1), (Some(false), true, 0));
        // A weight that the device does not pack tells nothing of the device.
        assert_eq!(verdict(all, slow, true, |_| {}), (None, true, 0));
        // What does not take long is not tried: nothing was written.
        assert_eq!(verdict(2_000_000, Duration::from_secs(1), false, |_| {}), (Some(false), false, 0));
    }

    #[test]
    fn devices_that_run_on_the_processor_are_not_tried() {
        let mut device = Capabilities::promised("llvmpipe", "vulkan");
        device.software = true;
        assert_eq!(Packer::new(PackedOn::Fastest, &device, 1 << 40).wanted, Some(false));
        assert_eq!(Packer::new(PackedOn::Fastest, Cpu::new().capabilities(), 1 << 40).wanted, Some(false));
    }
}
