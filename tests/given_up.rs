//! A device that gives a step up and does not say so: what it made before is not taken for what it makes now.

mod common;

use common::{ids, json, open, open_as, packing};
use pollster::block_on;
use sixteen_states::capabilities::Capabilities;
use sixteen_states::cpu::Cpu;
use sixteen_states::engine::{Engine, Request, Sampling};
use sixteen_states::error::Result;
use sixteen_states::model::{PackedOn, Weights};
use sixteen_states::recording::{Buffer, Executor, Pending, Prepared, Recording, Ticket, Window};
use std::ops::{ControlFlow, RangeInclusive};
use std::time::Duration;

/// The CPU, for so many steps.
struct GivesUp {
    cpu: Cpu,
    left: usize,
}

impl Executor for GivesUp {
    fn run(&mut self, prepared: Prepared) -> Result<()> {
        match self.left.checked_sub(1) {
            None => return Ok(()),
            Some(left) => self.left = left,
        }
        self.cpu.run(prepared)
    }

    fn capabilities(&self) -> &Capabilities {
        self.cpu.capabilities()
    }

    fn create(&mut self, len: u64, name: &'static str) -> Result<Buffer> {
        self.cpu.create(len, name)
    }

    fn upload(&mut self, buffer: Buffer, offset: u64, bytes: &[u8]) -> Result<()> {
        self.cpu.upload(buffer, offset, bytes)
    }

    fn prepare(&mut self, recording: Recording) -> Result<Prepared> {
        self.cpu.prepare(recording)
    }

    fn release(&mut self, recordings: &[Prepared], buffers: &[Buffer]) {
        self.cpu.release(recordings, buffers);
    }

    fn probe(
        &mut self,
        prepared: Prepared,
        dispatches: RangeInclusive<usize>,
    ) -> Pending<'_, Result<Vec<u8>>> {
        self.cpu.probe(prepared, dispatches)
    }

    fn recording(&self, prepared: Prepared) -> &Recording {
        self.cpu.recording(prepared)
    }

    fn read(&mut self, window: Window) -> Result<Ticket> {
        self.cpu.read(window)
    }

    fn finish(&mut self, ticket: Ticket) -> Pending<'_, Result<Vec<u8>>> {
        self.cpu.finish(ticket)
    }

    fn busy(&mut self) -> Pending<'_, Result<Option<Duration>>> {
        self.cpu.busy()
    }

    fn time(&mut self, prepared: Prepared) -> Pending<'_, Result<Option<Vec<Duration>>>> {
        self.cpu.time(prepared)
    }

    fn memory(&self) -> (u64, u64) {
        self.cpu.memory()
    }
}

fn after(steps: usize) -> Engine {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny/llama");
    open(Box::new(GivesUp { cpu: Cpu::new(), left: steps }), model, packing(16, 64), 1)
}

#[test]
fn a_step_that_was_given_up_is_an_error() {
    let tokens = ids(&json("tiny/llama/reference.json")["ids"]);
    let request =
        || Request { prompt: tokens.clone(), max_tokens: 8, sampling: Sampling::GREEDY, end: vec![] };
    // The prompt is one step, and each token after its first.
    let mut made = Vec::new();
    for steps in [0, 1, 3, 8] {
        let mut count = 0;
        let done = block_on(after(steps).generate(&[request()], &mut |_, _| {
            count += 1;
            ControlFlow::Continue(())
        }));
        made.push((count, done.err().map(|e| e.to_string().contains("did not run a step"))));
    }
    assert_eq!(made, [(0, Some(true)), (1, Some(true)), (3, Some(true)), (8, None)]);
    let mut engine = after(1);
    assert!(block_on(engine.score(&tokens)).is_ok());
    let error = block_on(engine.score(&tokens)).unwrap_err().to_string();
    assert!(error.contains("did not run a step"), "{error}");
}

#[test]
fn weights_that_were_given_up_are_packed_on_the_processor() {
    let model = format!("{}/tests/data/tiny/llama", env!("CARGO_MANIFEST_DIR"));
    let linear = packing(4, 32);
    let packed = |steps| {
        let device = Box::new(GivesUp { cpu: Cpu::new(), left: steps });
        let weights = Weights { linear, embedding: linear, packed_on: PackedOn::Device, ..Weights::F16 };
        open_as(device, &model, weights, 1).arms()[0].packed_on_device
    };
    let (none, some, all) = (packed(0), packed(2), packed(usize::MAX));
    assert!(none == 0 && some > 0 && some < all, "{none} {some} {all}");
}
