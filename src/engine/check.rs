//! Runs every kernel's cases on a device and compares with the twins.

use crate::cpu::Cpu;
use crate::error::Result;
use crate::format::unpair;
use crate::kernels::{Case, Compare, Kernel};
use crate::recording::{Executor, Recorder};

/// How one case came out.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The kernel.
    pub kernel: &'static str,
    /// The case.
    pub case: String,
    /// The worst normalized mean squared error over its outputs; for outputs that must be equal, the share of
    /// words that are not.
    pub error: f64,
    /// What is wrong, if anything.
    pub problem: Option<String>,
}

/// Runs a kernel's cases, or some of them, on `executor`.
///
/// # Errors
/// When the device fails; a kernel that does not compile or match is an [`Outcome`] with a problem.
pub async fn check(executor: &mut dyn Executor, kernel: &Kernel, cases: Vec<Case>) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    compile(executor, &cases);
    for case in cases {
        // The twin runs the very recording that the device does.
        let Some(twin) = run(&mut Cpu::new(), &case, Some(executor)).await? else { continue };
        let (error, problem) = match run(executor, &case, None).await {
            Ok(found) => compare(&case, &twin, &found.unwrap_or_default()),
            Err(e) => (f64::INFINITY, Some(e.to_string())),
        };
        outcomes.push(Outcome { kernel: kernel.name, case: case.name, error, problem });
    }
    Ok(outcomes)
}

/// Compiles all that the cases run, in parallel: compilers take longer than kernels. What is refused is told of by its case.
fn compile(executor: &mut dyn Executor, cases: &[Case]) {
    let device = executor.capabilities().clone();
    let mut all = Recorder::new(&device).finish();
    all.dispatches = cases.iter().flat_map(|case| case.recording(&device).dispatches).collect();
    let _ = executor.compile(&all);
}

/// Runs a case, recorded for `device` where it is not the executor itself; the words of its outputs. None where
/// the device has no way to run it: a variant that its limits rule out.
async fn run(
    executor: &mut dyn Executor,
    case: &Case,
    device: Option<&mut dyn Executor>,
) -> Result<Option<Vec<Vec<u32>>>> {
    let mut buffers = Vec::new();
    for input in &case.inputs {
        let buffer = executor.create(input.words.len() as u64 * 4, input.name)?;
        executor.upload(buffer, 0, bytemuck::cast_slice(&input.words))?;
        buffers.push(buffer);
    }
    let capabilities = match device {
        Some(device) => device.capabilities().clone(),
        None => executor.capabilities().clone(),
    };
    let mut recorder = Recorder::new(&capabilities);
    (case.record)(&mut recorder, &buffers);
    let recording = recorder.finish();
    if recording.dispatches.is_empty() {
        return Ok(None);
    }
    let prepared = executor.prepare(recording)?;
    executor.run(prepared)?;
    let mut outputs = Vec::new();
    for &(i, _) in &case.outputs {
        let ticket = executor.read(buffers[i].whole())?;
        outputs.push(bytemuck::pod_collect_to_vec(&executor.finish(ticket).await?));
    }
    Ok(Some(outputs))
}

fn compare(case: &Case, twin: &[Vec<u32>], found: &[Vec<u32>]) -> (f64, Option<String>) {
    let mut worst = (0.0, None);
    for ((&(i, compare), twin), found) in case.outputs.iter().zip(twin).zip(found) {
        let before = &case.inputs[i].words;
        let halves = |words: &[u32]| -> Vec<f32> { words.iter().flat_map(|&w| unpair(w)).collect() };
        let bytes = |words: &[u32]| -> Vec<f32> {
            words.iter().flat_map(|word| word.to_le_bytes()).map(|byte| f32::from(byte as i8)).collect()
        };
        let floats = |words: &[u32]| -> Vec<f32> { bytemuck::cast_slice(words).to_vec() };
        let error =
            |numbers: &dyn Fn(&[u32]) -> Vec<f32>| nmse(numbers(before), numbers(twin), numbers(found));
        let (error, tolerance) = match compare {
            Compare::Floats(t) => (error(&floats), t),
            Compare::Bytes(t) => (error(&bytes), t),
            Compare::Halves(t) => (error(&halves), t),
            Compare::Exact => {
                let differ = twin.iter().zip(found).filter(|(a, b)| a != b).count();
                (differ as f64 / twin.len() as f64, 0.0)
            }
        };
        let name = case.inputs[i].name;
        // A NaN is not within any tolerance.
        let problem = (error.is_nan() || error > tolerance)
            .then(|| format!("{name} is off by {error:.1e}, allowed {tolerance:.0e}"));
        if problem.is_some() || error > worst.0 {
            worst = (error, problem.or(worst.1));
        }
    }
    worst
}

/// `Σ (found − twin)² / Σ twin²`, the second sum over what the twin wrote: what it left as it was would make light of the rest.
fn nmse(before: Vec<f32>, twin: Vec<f32>, found: Vec<f32>) -> f64 {
    let square = |x: f64| x * x;
    let off: f64 = twin.iter().zip(&found).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    let written = twin.iter().zip(&before).filter(|(a, b)| a.to_bits() != b.to_bits());
    // Not by `sum`, which makes -0 of nothing.
    let all = written.fold(0.0, |all, (&a, _)| all + square(f64::from(a)));
    if off == 0.0 { 0.0 } else { off / all }
}

#[cfg(test)]
mod tests {
    use super::nmse;

    #[test]
    fn what_nobody_wrote_is_no_excuse() {
        let error = |found: [f32; 3]| nmse(vec![-7.5, 0.0, 0.0], vec![-7.5, 3.0, 4.0], found.to_vec());
        assert_eq!(error([-7.5, 3.0, 4.0]), 0.0);
        assert_eq!(error([-7.5, 3.0, 4.5]), 0.25 / 25.0);
        assert_eq!(error([-6.5, 3.0, 4.0]), 1.0 / 25.0);
        assert!(error([-7.5, f32::NAN, 4.0]).is_nan());
        assert_eq!(nmse(vec![1.0], vec![1.0], vec![2.0]), f64::INFINITY);
    }
}
