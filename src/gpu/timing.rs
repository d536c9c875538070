//! How long the device itself was busy, by timestamps: at the ends of each replay, or of each dispatch of one.

use std::time::Duration;

/// Replays that are remembered: a query set holds 4096 timestamps.
const REPLAYS: u32 = 2048;

/// Where a resolved pair of timestamps may begin.
const PAIR: u64 = wgpu::QUERY_RESOLVE_BUFFER_ALIGNMENT;

/// Timestamps of the replays since they were last asked for.
pub struct Timing {
    queries: wgpu::QuerySet,
    pub resolved: wgpu::Buffer,
    /// Nanoseconds of a tick.
    tick: f32,
    replays: u32,
}

impl Timing {
    /// For a device that has timestamps.
    pub fn new(device: &wgpu::Device, tick: f32) -> Self {
        Timing {
            queries: device.create_query_set(&wgpu::QuerySetDescriptor {
                label: None,
                ty: wgpu::QueryType::Timestamp,
                count: 2 * REPLAYS,
            }),
            resolved: device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("timestamps"),
                size: u64::from(REPLAYS) * PAIR,
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            }),
            tick,
            replays: 0,
        }
    }

    fn place(&self) -> Option<u32> {
        (self.replays < REPLAYS).then_some(self.replays)
    }

    /// What a pass of the present replay writes: its first one when that began, its last one when that ended.
    pub fn writes(&self, first: bool, last: bool) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        let place = self.place().filter(|_| first || last)?;
        Some(wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: first.then_some(2 * place),
            end_of_pass_write_index: last.then_some(2 * place + 1),
        })
    }

    /// Ends the present replay.
    pub fn resolve(&mut self, encoder: &mut wgpu::CommandEncoder) {
        if let Some(place) = self.place() {
            let pair = 2 * place..2 * place + 2;
            encoder.resolve_query_set(&self.queries, pair, &self.resolved, u64::from(place) * PAIR);
        }
        self.replays = self.replays.saturating_add(1);
    }

    /// Bytes of [`resolved`](Self::resolved) that count, from its start; none where there were no replays,
    /// or more than are remembered.
    pub fn bytes(&self) -> Option<u64> {
        (1..=REPLAYS).contains(&self.replays).then(|| u64::from(self.replays) * PAIR)
    }

    /// The time in those bytes.
    pub fn busy(&self, bytes: &[u8]) -> Duration {
        let ticks: u64 = bytes
            .chunks_exact(PAIR as usize)
            .map(|pair| {
                let pair: Vec<u64> = bytemuck::pod_collect_to_vec(&pair[..16]);
                pair[1].saturating_sub(pair[0])
            })
            .sum();
        Duration::from_nanos((ticks as f64 * f64::from(self.tick)) as u64)
    }

    /// Counts from now on.
    pub fn restart(&mut self) {
        self.replays = 0;
    }
}

/// Timestamps at both ends of a few passes.
pub struct Laps {
    queries: wgpu::QuerySet,
    pub resolved: wgpu::Buffer,
    count: u32,
}

impl Laps {
    /// For so many passes.
    pub fn new(device: &wgpu::Device, passes: usize) -> Self {
        let count = 2 * passes as u32;
        Laps {
            queries: device.create_query_set(&wgpu::QuerySetDescriptor {
                label: None,
                ty: wgpu::QueryType::Timestamp,
                count,
            }),
            resolved: device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("timestamps"),
                size: u64::from(count) * 8,
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            }),
            count,
        }
    }

    /// What a pass writes.
    pub fn writes(&self, pass: usize) -> wgpu::ComputePassTimestampWrites<'_> {
        let first = 2 * pass as u32;
        wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(first),
            end_of_pass_write_index: Some(first + 1),
        }
    }

    /// Follows the last pass.
    pub fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.resolve_query_set(&self.queries, 0..self.count, &self.resolved, 0);
    }

    /// How long each pass took, from the bytes of [`resolved`](Self::resolved) and the nanoseconds of a tick.
    pub fn times(&self, bytes: &[u8], tick: f32) -> Vec<Duration> {
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(bytes);
        let pass = |t: &[u64]| t[1].saturating_sub(t[0]) as f64 * f64::from(tick);
        ticks.chunks_exact(2).map(|t| Duration::from_nanos(pass(t) as u64)).collect()
    }
}
