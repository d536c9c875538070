//! Replays recordings on the twins: the oracle of the tests, and what runs where no GPU is found.
//! It is for truth; parallel over rows is fast enough.

use crate::capabilities::Capabilities;
use crate::error::{Error, Result};
use crate::format::{Format, Packing};
use crate::kernels::{Invocation, Kernel, Slot};
use crate::recording::{Buffer, Dispatch, Executor, Pending, Prepared, Recording, Ticket, Window};
use std::collections::HashMap;
use std::ops::{Range, RangeInclusive};
use std::time::{Duration, Instant};

/// The executor that needs no device.
pub struct Cpu {
    capabilities: Capabilities,
    buffers: Vec<Vec<u32>>,
    recordings: Vec<Recording>,
    /// First buffer of each recording's temporaries.
    temporaries: Vec<usize>,
    reads: HashMap<u64, Vec<u8>>,
    next_ticket: u64,
    held: u64,
}

impl Default for Cpu {
    fn default() -> Self {
        Cpu::new()
    }
}

impl Cpu {
    /// An executor with nothing on it.
    pub fn new() -> Self {
        let capabilities = Capabilities {
            driver: format!("{} threads", rayon::current_num_threads()),
            max_binding: 1 << 31,
            max_buffer: 1 << 31,
            window_alignment: 4,
            free_memory: crate::memory::available(),
            ..Capabilities::promised("cpu", "cpu")
        };
        Cpu {
            capabilities,
            buffers: Vec::new(),
            recordings: Vec::new(),
            temporaries: Vec::new(),
            reads: HashMap::new(),
            next_ticket: 0,
            held: 0,
        }
    }

    /// The same, with what it can do changed: smaller bindings, less memory.
    pub fn limited(change: impl FnOnce(&mut Capabilities)) -> Self {
        let mut cpu = Cpu::new();
        change(&mut cpu.capabilities);
        cpu
    }

    fn allocate(&mut self, len: u64, name: &str) -> Result<usize> {
        let words = usize::try_from(len.div_ceil(4)).ok();
        let mut memory = Vec::new();
        if words.is_none_or(|words| memory.try_reserve_exact(words).is_err()) {
            return Err(Error::Device {
                device: "cpu".to_owned(),
                problem: format!(
                    "out of memory: {len} bytes for {name}; try a shorter --ctx or fewer --bits"
                ),
            });
        }
        memory.resize(words.unwrap_or(0), 0);
        self.held += len;
        self.buffers.push(memory);
        Ok(self.buffers.len() - 1)
    }

    fn index(&self, recording: usize, window: &Window) -> usize {
        match window.buffer.slot() {
            Some(slot) => self.temporaries[recording] + slot,
            None => window.buffer.id as usize,
        }
    }

    fn dispatch(&mut self, recording: usize, dispatch: &Dispatch) {
        let Some(kernel) = Kernel::named(dispatch.kernel) else { panic!("no kernel {}", dispatch.kernel) };
        let places: Vec<usize> = dispatch.bindings.iter().map(|w| self.index(recording, w)).collect();
        // What is written leaves the table for the while; no kernel binds a buffer twice where it writes.
        let mut written: Vec<Option<Vec<u32>>> = (places.iter().zip(kernel.access))
            .map(|(&i, &access)| access.writes().then(|| std::mem::take(&mut self.buffers[i])))
            .collect();
        let part = |w: &Window| w.offset as usize / 4..(w.offset + w.len) as usize / 4;
        let mut bindings = Vec::with_capacity(places.len());
        for ((window, &place), written) in dispatch.bindings.iter().zip(&places).zip(&mut written) {
            bindings.push(match written {
                Some(words) => Slot::Write(&mut words[part(window)]),
                None => Slot::Read(&self.buffers[place][part(window)]),
            });
        }
        let packing = dispatch
            .format
            .and_then(Format::named)
            .map(|format| Packing { format, group: dispatch.consts.get("GROUP") });
        let planes =
            dispatch.planes.iter().map(|w| &self.buffers[self.index(recording, w)][part(w)]).collect();
        (kernel.twin)(Invocation { consts: &dispatch.consts, bindings, planes, packing });
        for (place, words) in places.into_iter().zip(written) {
            if let Some(words) = words {
                self.buffers[place] = words;
            }
        }
    }

    fn replay(&mut self, prepared: Prepared, dispatches: Range<usize>) {
        // Taken out for the while, so that the buffers can be borrowed.
        let run = std::mem::take(&mut self.recordings[prepared.0].dispatches);
        for dispatch in &run[dispatches] {
            self.dispatch(prepared.0, dispatch);
        }
        self.recordings[prepared.0].dispatches = run;
    }

    fn bytes(&self, place: usize, window: &Window) -> Vec<u8> {
        bytemuck::cast_slice(&self.buffers[place])
            [window.offset as usize..(window.offset + window.len) as usize]
            .to_vec()
    }
}

impl Executor for Cpu {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn create(&mut self, len: u64, name: &'static str) -> Result<Buffer> {
        let len = len.next_multiple_of(4).max(4);
        let id = self.allocate(len, name)? as u32;
        Ok(Buffer { id, len, name })
    }

    fn upload(&mut self, buffer: Buffer, offset: u64, bytes: &[u8]) -> Result<()> {
        let memory: &mut [u8] = bytemuck::cast_slice_mut(&mut self.buffers[buffer.id as usize]);
        memory[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn prepare(&mut self, recording: Recording) -> Result<Prepared> {
        self.temporaries.push(self.buffers.len());
        for &len in &recording.temporaries {
            self.allocate(len, "temporaries")?;
        }
        self.recordings.push(recording);
        Ok(Prepared(self.recordings.len() - 1))
    }

    fn release(&mut self, recordings: &[Prepared], buffers: &[Buffer]) {
        let temporaries = recordings.iter().flat_map(|prepared| {
            let first = self.temporaries[prepared.0];
            first..first + self.recordings[prepared.0].temporaries.len()
        });
        let places: Vec<usize> = temporaries.chain(buffers.iter().map(|buffer| buffer.id as usize)).collect();
        for place in places {
            self.held -= std::mem::take(&mut self.buffers[place]).len() as u64 * 4;
        }
    }

    fn run(&mut self, prepared: Prepared) -> Result<()> {
        self.replay(prepared, 0..self.recordings[prepared.0].dispatches.len());
        Ok(())
    }

    fn probe(
        &mut self,
        prepared: Prepared,
        dispatches: RangeInclusive<usize>,
    ) -> Pending<'_, Result<Vec<u8>>> {
        let (first, last) = dispatches.into_inner();
        self.replay(prepared, first..last + 1);
        let window = self.recordings[prepared.0].dispatches[last].bindings.last().map(|w| w.buffer.whole());
        let bytes = window.map(|w| self.bytes(self.index(prepared.0, &w), &w)).unwrap_or_default();
        Box::pin(std::future::ready(Ok(bytes)))
    }

    fn recording(&self, prepared: Prepared) -> &Recording {
        &self.recordings[prepared.0]
    }

    fn read(&mut self, window: Window) -> Result<Ticket> {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let bytes = self.bytes(window.buffer.id as usize, &window);
        self.reads.insert(ticket.0, bytes);
        Ok(ticket)
    }

    fn finish(&mut self, ticket: Ticket) -> Pending<'_, Result<Vec<u8>>> {
        let bytes = self.reads.remove(&ticket.0).ok_or_else(|| Error::Device {
            device: "cpu".to_owned(),
            problem: format!("nothing was asked for under {ticket:?}"),
        });
        Box::pin(std::future::ready(bytes))
    }

    fn busy(&mut self) -> Pending<'_, Result<Option<Duration>>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn time(&mut self, prepared: Prepared) -> Pending<'_, Result<Option<Vec<Duration>>>> {
        let each = (0..self.recordings[prepared.0].dispatches.len()).map(|i| {
            let started = Instant::now();
            self.replay(prepared, i..i + 1);
            started.elapsed()
        });
        let times = each.collect();
        Box::pin(std::future::ready(Ok(Some(times))))
    }

    fn memory(&self) -> (u64, u64) {
        (self.held, self.held)
    }
}
