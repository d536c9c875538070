//! How long prompts and tokens take, for `infer bench`.

use super::{Engine, Head, Request, Sampling};
use crate::error::{Error, Result};
use crate::kernels::Cache;
use crate::kernels::attention::PAGE;
use serde::Serialize;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// What is timed: so many tokens after so many that are in the cache already, for so many sequences at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Work {
    /// Tokens of each sequence.
    pub tokens: usize,
    /// Tokens that each sequence has before, a multiple of [`DEPTH_STEP`].
    pub depth: usize,
    /// Sequences.
    pub sequences: usize,
}

/// Depths are whole pages of the cache.
pub const DEPTH_STEP: usize = PAGE;

/// What a piece of work took.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Tokens, over all sequences.
    pub tokens: usize,
    /// By the clock, from the first thing that the host does to the last token's arrival.
    pub wall: Duration,
    /// The device was busy for so long, where it tells.
    pub busy: Option<Duration>,
    /// The host was busy for so long with preparing and submitting steps.
    pub encode: Duration,
}

impl Engine {
    /// Reads prompts, and makes one token of each. `round` makes a prompt unlike those of other rounds.
    ///
    /// # Errors
    /// When it does not fit the context, or the device fails.
    pub async fn time_prompt(&mut self, work: Work, round: usize) -> Result<Timing> {
        let requests = self.fill(work, round, work.tokens, 1).await?;
        self.restart().await?;
        let started = Instant::now();
        let done = self.generate(&requests, &mut |_, _| ControlFlow::Continue(())).await?;
        let wall = started.elapsed();
        if let Some(other) = done.iter().map(|g| g.cached_tokens).find(|&cached| cached != work.depth) {
            let Work { tokens, depth, .. } = work;
            let problem = format!("{tokens} tokens after {depth}: the cache had {other} of them");
            return Err(Error::Model(problem));
        }
        let (busy, encode) = (self.busy().await?, self.encode);
        Ok(Timing { tokens: work.tokens * work.sequences, wall, busy, encode })
    }

    /// Makes tokens one after the other. The first one of each sequence, which comes with its prompt of one token, is
    /// not timed.
    ///
    /// # Errors
    /// As [`time_prompt`](Self::time_prompt).
    pub async fn time_decode(&mut self, work: Work, round: usize) -> Result<Timing> {
        let requests = self.fill(work, round, 1, work.tokens + 1).await?;
        // What the first ones take of device and host is measured apart.
        let firsts: Vec<Request> = requests.iter().map(|r| Request { max_tokens: 1, ..r.clone() }).collect();
        self.restart().await?;
        self.generate(&firsts, &mut |_, _| ControlFlow::Continue(())).await?;
        let (busy_before, encode_before) = (self.busy().await?, self.encode);
        self.restart().await?;
        let (mut waiting, mut first) = (work.sequences, None);
        let mut started = vec![false; work.sequences];
        let done = self
            .generate(&requests, &mut |request, _| {
                if !std::mem::replace(&mut started[request], true) {
                    waiting -= 1;
                    if waiting == 0 {
                        first = Some(Instant::now());
                    }
                }
                ControlFlow::Continue(())
            })
            .await?;
        let wall = first.map_or(Duration::ZERO, |first| first.elapsed());
        if let Some(made) = done.iter().map(|g| g.tokens.len()).find(|&made| made != work.tokens + 1) {
            let Work { tokens, depth, .. } = work;
            let problem = format!("{tokens} tokens after {depth}, and one before them: {made} were made");
            return Err(Error::Model(problem));
        }
        let without = |all: Duration, before| all.saturating_sub(before);
        let busy = self.busy().await?.zip(busy_before).map(|(all, before)| without(all, before));
        let encode = without(self.encode, encode_before);
        Ok(Timing { tokens: work.tokens * work.sequences, wall, busy, encode })
    }

    /// What was measured until now does not count.
    async fn restart(&mut self) -> Result<()> {
        let _ = self.busy().await?;
        self.encode = Duration::ZERO;
        self.profile.iter_mut().for_each(Vec::clear);
        Ok(())
    }

    /// Dispatches of a step that makes a token for each of so many sequences.
    ///
    /// # Errors
    /// When the step cannot be prepared.
    pub fn decode_dispatches(&mut self, sequences: usize) -> Result<usize> {
        let capacity = sequences.next_power_of_two().min(self.sequences());
        let ready = self.ready(capacity, Head::Decode)?;
        Ok(self.executor.recording(ready.prepared).dispatches.len())
    }

    /// Bytes of keys and values that a token adds, over all layers.
    pub fn cache_bytes_per_token(&self) -> u64 {
        let page = |shape: &crate::model::CacheShape| 2 * Cache::bytes(shape.kv_heads, shape.head_dim, PAGE);
        self.shapes.iter().map(page).sum::<u64>() / PAGE as u64
    }

    /// Requests of so many new tokens after what comes before, which is in the cache when this returns.
    async fn fill(
        &mut self,
        work: Work,
        round: usize,
        new: usize,
        max_tokens: usize,
    ) -> Result<Vec<Request>> {
        let vocab = self.config.vocab_size as u64;
        let token = |i: usize, seed: usize| {
            // Knuth's multiplicative hash: nothing depends on which tokens they are.
            let mixed = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
                ^ (seed as u64).wrapping_mul(0x5851_f42d_4c95_7f2d);
            ((mixed >> 17) % vocab) as u32
        };
        let sampling = Sampling::GREEDY;
        let request = |prompt, max_tokens| Request { prompt, max_tokens, sampling, end: Vec::new() };
        // The same in every round, another one for each sequence.
        let before = |s: usize| (0..work.depth).map(move |i| token(i, s));
        if work.depth > 0 {
            // One token more: the last one of a prompt is always computed.
            let requests: Vec<Request> =
                (0..work.sequences).map(|s| request(before(s).chain([0]).collect(), 1)).collect();
            self.generate(&requests, &mut |_, _| ControlFlow::Continue(())).await?;
        }
        let after = |s: usize| (0..new).map(move |i| token(i, round * 65_537 + s));
        Ok((0..work.sequences).map(|s| request(before(s).chain(after(s)).collect(), max_tokens)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Checkpoint, locate};
    use crate::cpu::Cpu;
    use crate::engine::OpenOptions;
    use crate::model::Weights;
    use pollster::block_on;

    /// Tokens that there is no room for would count as made, and speed would be overstated.
    #[test]
    fn tokens_that_were_not_made_do_not_count() {
        let source = locate(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny/llama")).unwrap();
        let checkpoint = Checkpoint::open(&source.weights).unwrap();
        let options =
            OpenOptions { weights: Weights::F16, context: Some(8), sequences: 1, progress: &mut |_| {} };
        let mut engine = Engine::open(&source, &checkpoint, Box::new(Cpu::new()), options).unwrap();
        let mut time = |tokens| block_on(engine.time_decode(Work { tokens, depth: 0, sequences: 1 }, tokens));
        assert_eq!(time(6).unwrap().tokens, 6);
        let error = time(7).unwrap_err().to_string();
        assert!(error.ends_with("7 were made"), "{error}");
    }
}
