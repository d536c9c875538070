//! What a device can do at most, measured: how many bytes a second it copies, and how many multiplications and
//! additions it makes. Every speed is a share of one of the two.

use crate::error::Result;
use crate::recording::{Executor, Prepared, Recorder};
use pollster::block_on;
use serde::Serialize;
use std::time::{Duration, Instant};

/// A measurement goes on for at least this long.
const LONG_ENOUGH: Duration = Duration::from_millis(250);

/// Measurements, of which the best counts: whatever disturbs one makes it slower.
const TRIES: usize = 3;

/// Most bytes that are copied at a time: more than any cache holds.
const COPIED: u64 = 256 << 20;

/// Limits of a device.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// Bytes read, from where weights lie, and bytes written a second by a copy within device memory.
    pub copy_bytes_per_s: f64,
    /// 32-bit multiplications and additions a second.
    pub f32_flops: f64,
    /// The same in 16 bits, where the device has such numbers.
    pub f16_flops: Option<f64>,
    /// The same by matrix units: products in 16 bits, sums in 32.
    pub matrix_flops: Option<f64>,
    /// Whether they are the twins' of kernels, which are no measure of the machine that runs them.
    #[serde(skip)]
    pub of_twins: bool,
}

impl Limits {
    /// Which share of a limit, of these, so much a second is; none of one that can be passed.
    pub fn share(self, amount: f64, limit: f64) -> Option<f64> {
        (!self.of_twins).then(|| amount / limit)
    }

    /// The most multiplications and additions a second, of whatever kind.
    pub fn flops(self) -> f64 {
        [self.f16_flops, self.matrix_flops].into_iter().flatten().fold(self.f32_flops, f64::max)
    }
}

/// Measures a device.
///
/// # Errors
/// When it fails.
pub fn limits(executor: &mut dyn Executor) -> Result<Limits> {
    let capabilities = executor.capabilities().clone();
    let of_twins = capabilities.backend == "cpu";
    let most = if capabilities.software || of_twins { COPIED / 4 } else { COPIED };
    let bytes = most.min(capabilities.max_binding).min(capabilities.max_buffer) & !15;
    let [from, to] = ["copied from", "copied to"].map(|name| executor.create(bytes, name));
    let (from, to) = (from?, to?);
    let mut r = Recorder::new(&capabilities);
    r.pin(to);
    r.copy(from, to, (bytes / 4) as usize);
    let prepared = executor.prepare(r.finish())?;
    let copy_bytes_per_s = 2.0 * bytes as f64 / seconds(executor, prepared, LONG_ENOUGH)?;

    // Little memory, much to do. Where lanes are a processor's, they load it one by one, which must not count.
    let (floats, steps) = match (of_twins, capabilities.software) {
        (true, _) => (1 << 14, 256),
        (false, true) => (1 << 13, 4096),
        (false, false) => (1 << 20, 4096),
    };
    let floats = floats.min((bytes / 4) as usize);
    let numbers = executor.create(floats as u64 * 4, "numbers")?;
    let mut rate = |record: &dyn Fn(&mut Recorder<'_>) -> Option<u64>| -> Result<Option<f64>> {
        let mut r = Recorder::new(&capabilities);
        r.pin(to);
        let Some(operations) = record(&mut r) else { return Ok(None) };
        let prepared = executor.prepare(r.finish())?;
        Ok(Some(operations as f64 / seconds(executor, prepared, LONG_ENOUGH)?))
    };
    let f32_flops = rate(&|r| Some(r.multiply_add(numbers, to, floats, steps)))?.unwrap_or_default();
    // A driver that refuses what it claims to have has it not.
    let f16_flops = rate(&|r| r.multiply_add_half(numbers, to, floats, steps)).unwrap_or(None);
    let (groups, steps) = if capabilities.software { (64, 16) } else { (4096, 1024) };
    let matrix_flops = rate(&|r| r.multiply_matrices(numbers, to, groups, steps)).unwrap_or(None);
    Ok(Limits { copy_bytes_per_s, f32_flops, f16_flops, matrix_flops, of_twins })
}

/// How long a replay takes, of many in a row, which go on for at least that long.
fn seconds(executor: &mut dyn Executor, prepared: Prepared, long_enough: Duration) -> Result<f64> {
    let all = seconds_of_each(executor, &[prepared], long_enough)?;
    Ok(all.into_iter().fold(f64::INFINITY, f64::min))
}

/// The same of several recordings. They take turns, so that what disturbs the machine for a while does not disturb one of
/// them alone.
pub(super) fn seconds_of_each(
    executor: &mut dyn Executor,
    recordings: &[Prepared],
    long_enough: Duration,
) -> Result<Vec<f64>> {
    let probe = executor.create(4, "awaited")?;
    let mut replay = |prepared: Prepared, times: u32| -> Result<Duration> {
        let started = Instant::now();
        for _ in 0..times {
            executor.run(prepared)?;
        }
        // Done when what is read after them is here.
        let ticket = executor.read(probe.whole())?;
        block_on(executor.finish(ticket))?;
        Ok(started.elapsed())
    };
    // The first one compiles, and touches memory that was never touched.
    recordings.iter().try_for_each(|&prepared| replay(prepared, 1).map(|_| ()))?;
    // How many times, and the best of it.
    let mut each = vec![(1u32, f64::INFINITY); recordings.len()];
    for _ in 0..TRIES {
        for (&prepared, (times, best)) in recordings.iter().zip(&mut each) {
            let mut took = replay(prepared, *times)?;
            while took < long_enough {
                let more = long_enough.as_secs_f64() / took.as_secs_f64().max(1e-6);
                *times = ((f64::from(*times) * more * 1.2).ceil() as u32).clamp(*times + 1, 100_000);
                took = replay(prepared, *times)?;
            }
            *best = best.min(took.as_secs_f64() / f64::from(*times));
        }
    }
    Ok(each.into_iter().map(|(_, best)| best).collect())
}
