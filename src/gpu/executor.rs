//! Replays recordings on a GPU.

use super::device::{Device, describe};
use super::timing::{Laps, Timing};
use super::{Adapter, Options, textures};
use crate::capabilities::Capabilities;
use crate::error::{Error, Result};
use crate::kernels::{Access, Kernel};
use crate::recording::{
    Buffer, Dispatch, Executor, OPERATIONS, Pending, Prepared, Recording, Ticket, Window,
};
use std::collections::HashMap;
use std::ops::{Range, RangeInclusive};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Bytes of uploads that may wait in staging memory before they are flushed.
const STAGED: u64 = 32 << 20;

/// What to do where memory is short.
const ADVICE: &str = "try a shorter --ctx or fewer --bits";

/// Dispatches of one submission.
const SUBMITTED: usize = 128;

/// How long it may take to be told that a copy is there, once it is: another thread that waits for the device may be the one
/// that learns of it.
const TOLD: Duration = Duration::from_secs(60);

/// Any buffer may hold activations, which some kernels read as uniforms.
const USAGE: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE
    .union(wgpu::BufferUsages::UNIFORM)
    .union(wgpu::BufferUsages::COPY_DST)
    .union(wgpu::BufferUsages::COPY_SRC);

/// Runs recordings on an open device, in memory of its own.
pub struct Gpu {
    device: Device,
    buffers: Vec<Memory>,
    recordings: Vec<Replay>,
    reads: HashMap<u64, Read>,
    spare: Vec<wgpu::Buffer>,
    next_ticket: u64,
    staged: u64,
    timing: Option<Timing>,
    held: u64,
    peak: u64,
}

/// What is behind a buffer's number.
#[derive(Clone)]
enum Memory {
    Buffer(wgpu::Buffer),
    /// What kernels of a recording bind as a texture.
    Texture(wgpu::Texture, wgpu::TextureView),
}

/// A recording with all that replaying needs, made once.
struct Replay {
    recording: Recording,
    temporaries: Vec<wgpu::Buffer>,
    steps: Vec<Step>,
}

struct Step {
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
    planes: Option<wgpu::BindGroup>,
    workgroups: [u32; 3],
    /// Multiplications and additions.
    operations: u64,
}

/// Steps by submissions, by the operations that each has.
fn submissions<T>(steps: &[T], operations: fn(&T) -> u64) -> impl Iterator<Item = &[T]> {
    let (mut count, mut sum) = (1, steps.first().map_or(0, operations));
    steps.chunk_by(move |_, next| {
        (count, sum) = (count + 1, sum.saturating_add(operations(next)));
        let fits = count <= SUBMITTED && sum <= OPERATIONS;
        if !fits {
            (count, sum) = (1, operations(next));
        }
        fits
    })
}

impl Step {
    fn encode(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bindings, &[]);
        if let Some(planes) = &self.planes {
            pass.set_bind_group(1, planes, &[]);
        }
        let [x, y, z] = self.workgroups;
        pass.dispatch_workgroups(x, y, z);
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A copy that is on its way to the CPU.
struct Read {
    staging: wgpu::Buffer,
    len: u64,
    submission: wgpu::SubmissionIndex,
    mapped: Receiver<Result<(), wgpu::BufferAsyncError>>,
}

impl Gpu {
    /// Opens an adapter.
    ///
    /// # Errors
    /// When the driver refuses.
    pub async fn open(adapter: Adapter, options: Options) -> Result<Self> {
        Ok(Gpu::on(&Device::open(adapter, options).await?))
    }

    /// On a device that may have others on it, which share what was compiled.
    pub fn on(device: &Device) -> Self {
        let timing = device
            .capabilities()
            .timestamps
            .then(|| Timing::new(device.wgpu(), device.queue().get_timestamp_period()));
        Gpu {
            device: device.clone(),
            buffers: Vec::new(),
            recordings: Vec::new(),
            reads: HashMap::new(),
            spare: Vec::new(),
            next_ticket: 0,
            staged: 0,
            timing,
            held: 0,
            peak: 0,
        }
    }

    fn error(&self, problem: impl Into<String>) -> Error {
        self.device.error(problem)
    }

    fn allocate(&mut self, len: u64, name: &str, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
        if len > self.device.capabilities().max_buffer {
            let limit = mib(self.device.capabilities().max_buffer);
            return Err(self.error(format!(
                "{name} needs one buffer of {:.0} MiB, the device allows {limit:.0} MiB; {ADVICE}",
                mib(len)
            )));
        }
        self.reserve(len, name, |device| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(name),
                size: len,
                usage,
                mapped_at_creation: false,
            })
        })
    }

    /// What `make` makes, of `len` bytes.
    fn reserve<T>(&mut self, len: u64, name: &str, make: impl FnOnce(&wgpu::Device) -> T) -> Result<T> {
        if let Some(free) = self.device.capabilities().free_memory.filter(|&free| self.held + len > free) {
            return Err(self.error(format!(
                "out of memory: {name} needs {:.0} MiB on top of {:.0} MiB, and {:.0} MiB are free; {ADVICE}",
                mib(len),
                mib(self.held),
                mib(free)
            )));
        }
        let memory = self.device.wgpu().push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = self.device.wgpu().push_error_scope(wgpu::ErrorFilter::Validation);
        let made = make(self.device.wgpu());
        let refused = pollster::block_on(validation.pop());
        if pollster::block_on(memory.pop()).or(refused).is_some() {
            let held = mib(self.held);
            return Err(self.error(format!(
                "out of memory: {name} needs {:.0} MiB on top of the {held:.0} MiB in use; {ADVICE}",
                mib(len)
            )));
        }
        self.held += len;
        self.peak = self.peak.max(self.held);
        Ok(made)
    }

    /// Moves what a recording's kernels bind as textures into such, one by one, so that no more than one is there twice.
    fn move_to_textures(&mut self, recording: &Recording) -> Result<()> {
        let bound = |dispatch: &Dispatch| -> Vec<Buffer> {
            let access = Kernel::named(dispatch.kernel).map_or(&[][..], |kernel| kernel.access);
            let own = dispatch.bindings.iter().zip(access).filter(|(_, access)| access.texture());
            own.map(|(window, _)| window.buffer).chain(dispatch.planes.iter().map(|p| p.buffer)).collect()
        };
        for moved in recording.dispatches.iter().flat_map(bound) {
            let Memory::Buffer(buffer) = &self.buffers[moved.id as usize] else { continue };
            let (buffer, len, name) = (buffer.clone(), moved.len, moved.name);
            let texture =
                self.reserve(textures::bytes(len), name, |device| textures::create(device, len, name))?;
            let mut encoder =
                self.device.wgpu().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            textures::copy(&mut encoder, &buffer, len, &texture);
            self.device.queue().submit([encoder.finish()]);
            self.idle()?;
            buffer.destroy();
            self.held -= len;
            let view = texture.create_view(&wgpu::TextureViewDescriptor::default());
            self.buffers[moved.id as usize] = Memory::Texture(texture, view);
        }
        self.device.check()
    }

    /// Waits until the device has nothing left to do.
    fn idle(&self) -> Result<()> {
        let wait = self.device.wgpu().poll(wgpu::PollType::wait_indefinitely());
        wait.map(drop).map_err(|e| self.error(format!("stopped answering: {e}")))
    }

    fn bind(
        &self,
        layout: &wgpu::BindGroupLayout,
        replay: &[wgpu::Buffer],
        windows: &[Window],
    ) -> wgpu::BindGroup {
        let entries: Vec<_> = windows
            .iter()
            .enumerate()
            .map(|(i, window)| wgpu::BindGroupEntry {
                binding: i as u32,
                resource: {
                    let part = |buffer| {
                        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                            buffer,
                            offset: window.offset,
                            size: wgpu::BufferSize::new(window.len),
                        })
                    };
                    match window.buffer.slot() {
                        Some(slot) => part(&replay[slot]),
                        None => match &self.buffers[window.buffer.id as usize] {
                            Memory::Buffer(buffer) => part(buffer),
                            Memory::Texture(_, view) => wgpu::BindingResource::TextureView(view),
                        },
                    }
                },
            })
            .collect();
        self.device.wgpu().create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout,
            entries: &entries,
        })
    }

    fn submit(&mut self, prepared: Prepared, dispatches: Range<usize>) -> Result<()> {
        let steps = &self.recordings[prepared.0].steps[dispatches];
        let mut submissions = submissions(steps, |step| step.operations).peekable();
        let mut first = true;
        while let Some(steps) = submissions.next() {
            let last = submissions.peek().is_none();
            let mut encoder =
                self.device.wgpu().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                    label: None,
                    timestamp_writes: self.timing.as_ref().and_then(|t| t.writes(first, last)),
                });
                steps.iter().for_each(|step| step.encode(&mut pass));
            }
            if let Some(timing) = self.timing.as_mut().filter(|_| last) {
                timing.resolve(&mut encoder);
            }
            self.device.queue().submit([encoder.finish()]);
            first = false;
        }
        self.device.check()
    }

    fn copy_out(&mut self, source: &Memory, offset: u64, len: u64) -> Result<Ticket> {
        let spare = self.spare.iter().position(|s| s.size() == len);
        let staging = match spare {
            Some(i) => self.spare.swap_remove(i),
            None => {
                let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
                self.allocate(len, "a read-back", usage)?
            }
        };
        let mut encoder =
            self.device.wgpu().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        match source {
            Memory::Buffer(source) => encoder.copy_buffer_to_buffer(source, offset, &staging, 0, len),
            Memory::Texture(source, _) => textures::copy_out(&mut encoder, source, (offset, len), &staging),
        }
        let submission = self.device.queue().submit([encoder.finish()]);
        let (done, mapped) = channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            let _ = done.send(result);
        });
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.reads.insert(ticket.0, Read { staging, len, submission, mapped });
        Ok(ticket)
    }

    async fn wait(&mut self, ticket: Ticket) -> Result<Vec<u8>> {
        let read = self
            .reads
            .remove(&ticket.0)
            .ok_or_else(|| self.error(format!("nothing was asked for under {ticket:?}")))?;
        let wait = wgpu::PollType::Wait { submission_index: Some(read.submission), timeout: None };
        self.device.wgpu().poll(wait).map_err(|e| self.error(format!("stopped answering: {e}")))?;
        self.device.check()?;
        match read.mapped.recv_timeout(TOLD) {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return Err(self.error(format!("a read-back failed: {e}"))),
            Err(_) => return Err(self.error("a read-back was not finished when the device said so")),
        }
        let bytes = match read.staging.get_mapped_range(..read.len) {
            Ok(view) => view.to_vec(),
            Err(e) => return Err(self.error(format!("a read-back failed: {e}"))),
        };
        read.staging.unmap();
        // Small ones come again with every token.
        if read.len <= 4096 {
            self.spare.push(read.staging);
        } else {
            self.held -= read.len;
        }
        Ok(bytes)
    }
}

impl Executor for Gpu {
    fn capabilities(&self) -> &Capabilities {
        self.device.capabilities()
    }

    fn create(&mut self, len: u64, name: &'static str) -> Result<Buffer> {
        let len = len.next_multiple_of(4).max(4);
        let buffer = self.allocate(len, name, USAGE)?;
        self.buffers.push(Memory::Buffer(buffer));
        Ok(Buffer { id: self.buffers.len() as u32 - 1, len, name })
    }

    fn upload(&mut self, buffer: Buffer, offset: u64, bytes: &[u8]) -> Result<()> {
        let queue = self.device.queue();
        match &self.buffers[buffer.id as usize] {
            Memory::Buffer(memory) => queue.write_buffer(memory, offset, bytes),
            Memory::Texture(texture, _) => textures::write(queue, texture, offset, bytes),
        }
        self.staged += bytes.len() as u64;
        if self.staged >= STAGED {
            // Flushes, and waits, so that staging memory is free before more is asked for.
            self.device.queue().submit([]);
            self.idle()?;
            self.staged = 0;
        }
        self.device.check()
    }

    fn compile(&mut self, recording: &Recording) -> Result<()> {
        self.device.compile(recording).map(|_| ())
    }

    fn prepare(&mut self, recording: Recording) -> Result<Prepared> {
        let pipelines = self.device.compile(&recording)?;
        if self.device.capabilities().textures {
            self.move_to_textures(&recording)?;
        }
        let mut temporaries = Vec::with_capacity(recording.temporaries.len());
        for &len in &recording.temporaries {
            temporaries.push(self.allocate(len, "temporaries", USAGE)?);
        }
        let mut groups: HashMap<(&[Window], Access), wgpu::BindGroup> = HashMap::new();
        let scope = self.device.wgpu().push_error_scope(wgpu::ErrorFilter::Validation);
        let steps = recording
            .dispatches
            .iter()
            .zip(pipelines)
            .map(|(dispatch, pipeline)| Step {
                bindings: self.bind(&pipeline.bindings, &temporaries, &dispatch.bindings),
                planes: pipeline.planes.as_ref().map(|(access, layout)| {
                    let make = || self.bind(layout, &temporaries, &dispatch.planes);
                    groups.entry((&dispatch.planes, *access)).or_insert_with(make).clone()
                }),
                pipeline: pipeline.pipeline,
                workgroups: dispatch.workgroups,
                operations: dispatch.operations(),
            })
            .collect();
        if let Some(e) = pollster::block_on(scope.pop()) {
            return Err(self.error(describe(&e)));
        }
        self.recordings.push(Replay { recording, temporaries, steps });
        self.device.check()?;
        Ok(Prepared(self.recordings.len() - 1))
    }

    fn release(&mut self, recordings: &[Prepared], buffers: &[Buffer]) {
        for prepared in recordings {
            let Replay { temporaries, steps, .. } = &mut self.recordings[prepared.0];
            steps.clear();
            self.held -= temporaries.drain(..).map(|buffer| buffer.size()).sum::<u64>();
        }
        for buffer in buffers {
            self.held -= match &self.buffers[buffer.id as usize] {
                Memory::Buffer(memory) => {
                    memory.destroy();
                    memory.size()
                }
                Memory::Texture(texture, _) => {
                    texture.destroy();
                    textures::bytes(buffer.len)
                }
            };
        }
    }

    fn run(&mut self, prepared: Prepared) -> Result<()> {
        self.submit(prepared, 0..self.recordings[prepared.0].steps.len())
    }

    fn probe(
        &mut self,
        prepared: Prepared,
        dispatches: RangeInclusive<usize>,
    ) -> Pending<'_, Result<Vec<u8>>> {
        let (first, last) = dispatches.into_inner();
        Box::pin(async move {
            self.submit(prepared, first..last + 1)?;
            let replay = &self.recordings[prepared.0];
            let Some(&window) = replay.recording.dispatches[last].bindings.last() else {
                return Ok(Vec::new());
            };
            let source = match window.buffer.slot() {
                Some(slot) => Memory::Buffer(replay.temporaries[slot].clone()),
                None => self.buffers[window.buffer.id as usize].clone(),
            };
            let ticket = self.copy_out(&source, 0, window.buffer.len)?;
            self.wait(ticket).await
        })
    }

    fn recording(&self, prepared: Prepared) -> &Recording {
        &self.recordings[prepared.0].recording
    }

    fn read(&mut self, window: Window) -> Result<Ticket> {
        let source = self.buffers[window.buffer.id as usize].clone();
        self.copy_out(&source, window.offset, window.len)
    }

    fn finish(&mut self, ticket: Ticket) -> Pending<'_, Result<Vec<u8>>> {
        Box::pin(self.wait(ticket))
    }

    fn busy(&mut self) -> Pending<'_, Result<Option<Duration>>> {
        Box::pin(async move {
            let Some((bytes, source)) =
                self.timing.as_ref().and_then(|t| Some((t.bytes()?, Memory::Buffer(t.resolved.clone()))))
            else {
                self.timing.iter_mut().for_each(Timing::restart);
                return Ok(None);
            };
            let ticket = self.copy_out(&source, 0, bytes)?;
            let bytes = self.wait(ticket).await?;
            Ok(self.timing.as_mut().map(|timing| {
                timing.restart();
                timing.busy(&bytes)
            }))
        })
    }

    fn time(&mut self, prepared: Prepared) -> Pending<'_, Result<Option<Vec<Duration>>>> {
        Box::pin(async move {
            if self.timing.is_none() {
                return Ok(None);
            }
            let steps = &self.recordings[prepared.0].steps;
            let mut times = Vec::with_capacity(steps.len());
            let counts: Vec<usize> = submissions(steps, |step| step.operations).map(<[Step]>::len).collect();
            let mut first = 0;
            for count in counts {
                let steps = &self.recordings[prepared.0].steps[first..first + count];
                first += count;
                let laps = Laps::new(self.device.wgpu(), steps.len());
                let mut encoder =
                    self.device.wgpu().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                for (i, step) in steps.iter().enumerate() {
                    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                        label: None,
                        timestamp_writes: Some(laps.writes(i)),
                    });
                    step.encode(&mut pass);
                }
                laps.resolve(&mut encoder);
                let len = laps.resolved.size();
                self.device.queue().submit([encoder.finish()]);
                let ticket = self.copy_out(&Memory::Buffer(laps.resolved.clone()), 0, len)?;
                let bytes = self.wait(ticket).await?;
                times.extend(laps.times(&bytes, self.device.queue().get_timestamp_period()));
            }
            Ok(Some(times))
        })
    }

    fn memory(&self) -> (u64, u64) {
        (self.held, self.peak)
    }
}

#[cfg(test)]
mod tests {
    use super::{SUBMITTED, submissions};
    use crate::recording::OPERATIONS;

    #[test]
    fn a_submission_is_bounded_by_steps_and_by_work() {
        let counts = |steps: &[u64]| submissions(steps, |n| *n).map(<[u64]>::len).collect::<Vec<_>>();
        assert_eq!(counts(&[]), [0; 0]);
        assert_eq!(counts(&[1; 2 * SUBMITTED + 3]), [SUBMITTED, SUBMITTED, 3]);
        // What is more than all by itself is alone.
        let half = OPERATIONS / 2;
        assert_eq!(counts(&[half, half, 1, 2 * OPERATIONS, 0, half, half, half]), [2, 1, 1, 3, 1]);
        assert_eq!(counts(&[u64::MAX, u64::MAX]), [1, 1]);
    }
}
