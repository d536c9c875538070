//! Where a number that is not finite comes from.

use super::{Engine, Head, PREFILL, Ready, Row};
use crate::error::{Error, Result};
use std::ops::Range;

/// Kernels whose results cannot be looked at: pairs of halves, rows, experts' slots, the last step's tokens, and codes or halves
/// that stand for floats. Nor can slices of attention, of which some may hold what was there before.
const OPAQUE: [&str; 6] = ["rope_store", "gather", "sort_experts", "sample", "quantize", "halve"];

/// A step that made such a number.
pub(super) struct Suspect {
    pub ready: Ready,
    /// What its row table held.
    pub rows: Vec<Row>,
    /// The rows in use.
    pub used: Range<usize>,
    /// The outputs in use.
    pub outputs: Range<usize>,
}

impl Engine {
    /// Where a step left what was there before it, and the device said nothing.
    pub(super) fn gave_up(&self) -> Error {
        let device = self.executor.capabilities().device.clone();
        let problem = "did not run a step, and did not say why: it may have run out of memory or time";
        Error::Device { device, problem: problem.to_owned() }
    }

    /// Names the first dispatch of a step that makes something which is not finite, by replaying it.
    pub(super) async fn diagnose(&mut self, suspect: Suspect) -> Result<Error> {
        self.set_rows(suspect.ready, &suspect.rows)?;
        let recording = self.executor.recording(suspect.ready.prepared);
        // (kernel, part of the model) of each dispatch
        let steps: Vec<(&str, String)> =
            recording.dispatches.iter().map(|d| (d.kernel, recording.labels[d.label].clone())).collect();
        // From gather on, a row is an output.
        let outputs_from = steps.iter().position(|s| s.0 == "gather").unwrap_or(steps.len());
        let opaque = |i: usize| {
            let slices = steps[i].0.starts_with("attention")
                && steps[i].0 != "attention_merge"
                && recording.dispatches[i].consts.number("SPLITS").is_some_and(|slices| slices > 1);
            slices || OPAQUE.iter().any(|name| steps[i].0.starts_with(name))
        };
        // Of a kernel that takes its rows in several windows, only the last dispatch has filled the buffer.
        let written =
            |i: usize| recording.dispatches.get(i).map(|d| (d.kernel, d.bindings.last().map(|w| w.buffer)));
        let sound: Vec<usize> =
            (0..steps.len()).filter(|&i| !opaque(i) && written(i) != written(i + 1)).collect();
        // Once there, such a number stays in the residual stream, which is what each part of the model
        // leaves behind: so the first bad part can be found by halving.
        let parts: Vec<&[usize]> = sound.chunk_by(|&a, &b| steps[a].1 == steps[b].1).collect();
        let (mut low, mut high) = (0, parts.len().saturating_sub(1));
        while low < high {
            let middle = (low + high) / 2;
            match self.finite_after(&suspect, parts[middle][parts[middle].len() - 1], outputs_from).await? {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        for &i in parts.get(low).copied().unwrap_or_default() {
            if !self.finite_after(&suspect, i, outputs_from).await? {
                return Ok(Error::NonFinite { place: format!("{} ({})", steps[i].1, steps[i].0) });
            }
        }
        Ok(Error::NonFinite { place: "the forward pass".to_owned() })
    }

    /// The same for a step of a comparison, which holds a forward pass of each arm: that of one arm is replayed alone, whose keys
    /// and values are where the step left them. `outputs` are the rows of each output.
    pub(super) async fn diagnose_arm(
        &mut self,
        arm: usize,
        suspect: Suspect,
        outputs: &[u32],
    ) -> Result<Error> {
        let selected = std::mem::replace(&mut self.selected, arm);
        let ready = self.ready(PREFILL, Head::Score);
        self.selected = selected;
        let ready = ready?;
        self.executor.upload(ready.outputs, 0, bytemuck::cast_slice(outputs))?;
        Ok(match self.diagnose(Suspect { ready, ..suspect }).await? {
            Error::NonFinite { place } => {
                Error::NonFinite { place: format!("arm {} of {}: {place}", arm + 1, self.arms.len()) }
            }
            other => other,
        })
    }

    /// Whether what dispatch `last` leaves, in the rows in use, is finite.
    async fn finite_after(&mut self, suspect: &Suspect, last: usize, outputs_from: usize) -> Result<bool> {
        let bytes = self.executor.probe(suspect.ready.prepared, 0..=last).await?;
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
        let (used, capacity) = match last < outputs_from {
            true => (&suspect.used, suspect.ready.capacity),
            false => (&suspect.outputs, (suspect.ready.outputs.len / 4) as usize),
        };
        let width = values.len() / capacity;
        Ok(values[used.start * width..used.end * width].iter().all(|v| v.is_finite()))
    }
}
