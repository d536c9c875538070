//! How long each kernel takes, for `infer bench --profile`.

use super::{Engine, Head, Timing, Work};
use crate::error::{Error, Result};
use crate::recording::{Dispatch, Prepared};
use std::time::Duration;

/// A dispatch that was timed.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The step that it was part of, from 0.
    pub step: usize,
    /// The part of the model.
    pub part: String,
    /// The kernel.
    pub kernel: &'static str,
    /// Of a product with a weight: the weight's format and shape, and rows of activations, or their slots for experts.
    pub shape: Option<String>,
    /// How long it took.
    pub time: Duration,
    /// Bytes of weights that it read.
    pub weight_bytes: u64,
    /// Multiplications and additions of a product with a weight.
    pub operations: u64,
}

impl Engine {
    /// What [`time_prompt`](Self::time_prompt) (for prompts) or [`time_decode`](Self::time_decode) times, dispatch by dispatch.
    /// Timing them one by one costs time of its own, none of which is in what it tells.
    ///
    /// # Errors
    /// As theirs, and where the device has no timestamps.
    pub async fn profile(&mut self, prompt: bool, work: Work, round: usize) -> Result<Vec<Launch>> {
        self.profile = Some(Vec::new());
        let timed: Result<Timing> = match prompt {
            true => self.time_prompt(work, round).await,
            false => self.time_decode(work, round).await,
        };
        let steps = self.profile.take().unwrap_or_default();
        timed?;
        // The prompts of one token that decoding begins with are no part of it.
        let decodes: Vec<Prepared> = self
            .ready
            .iter()
            .filter(|(key, _)| key.2 == Head::Decode)
            .map(|(_, ready)| ready.prepared)
            .collect();
        let kept = steps.iter().filter(|(prepared, _)| prompt || decodes.contains(prepared));
        let mut launches = Vec::new();
        for (step, (prepared, times)) in kept.enumerate() {
            let recording = self.executor.recording(*prepared);
            for (dispatch, &time) in recording.dispatches.iter().zip(times) {
                launches.push(launch(step, recording.labels[dispatch.label].clone(), dispatch, time));
            }
        }
        Ok(launches)
    }

    /// Runs a step, by the clock where one is wanted.
    pub(super) async fn step(&mut self, prepared: Prepared) -> Result<()> {
        let Some(profile) = &mut self.profile else { return self.executor.run(prepared) };
        let Some(times) = self.executor.time(prepared).await? else {
            let device = self.executor.capabilities().device.clone();
            let problem = "does not tell how long a kernel takes (it has no timestamps): leave out --profile";
            return Err(Error::Device { device, problem: problem.to_owned() });
        };
        profile.push((prepared, times));
        Ok(())
    }
}

fn launch(step: usize, part: String, dispatch: &Dispatch, time: Duration) -> Launch {
    let mut launch =
        Launch { step, part, kernel: dispatch.kernel, shape: None, time, weight_bytes: 0, operations: 0 };
    if let (Some(format), Some([n, k, rows])) = (dispatch.format, dispatch.product()) {
        launch.shape = Some(format!("{format} {n}×{k}, {rows} rows"));
        launch.weight_bytes = dispatch.planes.iter().map(|plane| plane.len).sum();
        launch.operations = dispatch.operations();
    } else if let (Some(format), Some([n, k, slots])) = (dispatch.format, dispatch.product_of_experts()) {
        launch.shape = Some(format!("{format} {n}×{k} experts, {slots} slots"));
        // If no two go through the same expert, as far as there are any.
        let experts = (dispatch.consts.get("COUNT") / n.max(1)).max(1);
        let planes: u64 = dispatch.planes.iter().map(|plane| plane.len).sum();
        launch.weight_bytes = planes * slots.min(experts) as u64 / experts as u64;
        launch.operations = 2 * [n, k, slots].map(|n| n as u64).iter().product::<u64>();
    }
    launch
}
