//! Continues prompts, as many at once as there are sequences.
//!
//! The device feeds itself: sampling leaves the next row where the next step reads it. So steps are queued
//! ahead, and tokens are read some steps behind. What was made past the end of a sequence is dropped.

use super::diagnose::Suspect;
use super::pages::Claim;
use super::{AHEAD, Engine, Head, PREFILL, Ready, Row, Sampling};
use crate::error::{Error, Result};
use crate::kernels::{FEW_ROWS_T, NONE};
use crate::recording::Ticket;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// Rows of a prompt's step when there are few.
const SMALL: usize = 8;

/// A prompt to continue.
#[derive(Clone, Debug)]
pub struct Request {
    /// The prompt, at least one token.
    pub prompt: Vec<u32>,
    /// Most tokens to make.
    pub max_tokens: usize,
    /// How they are chosen.
    pub sampling: Sampling,
    /// Tokens that end the text.
    pub end: Vec<u32>,
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stop {
    /// At a token that ends texts.
    Eos,
    /// Because the caller said so.
    Stop,
    /// At the most tokens asked for, or at the end of the context.
    Length,
}

/// A continued prompt.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The tokens made; the one that ended the text is not among them.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub stop: Stop,
    /// Tokens of the prompt whose keys and values were in the cache already.
    pub cached_tokens: usize,
    /// From the start of the prompt to its first token.
    pub prompt_time: Duration,
    /// From the first token to the last.
    pub decode_time: Duration,
}

/// A request on its way.
struct Active {
    request: usize,
    /// Prompt tokens already queued, or in the cache before.
    queued: usize,
    cached: usize,
    /// Tokens made, but not past the one that ends it.
    tokens: Vec<u32>,
    limit: usize,
    started: Instant,
    first: Option<Instant>,
    /// Steps whose tokens are still to come when it ends belong to an earlier tenant of the slot.
    serial: usize,
}

/// A queued step: which slots it makes a token for, each with the serial of its tenant.
struct Queued {
    ticket: Ticket,
    makes: Vec<(usize, usize)>,
    ready: Ready,
    /// The rows of a prompt's step; none for a decode step.
    rows: Vec<Row>,
}

impl Engine {
    /// Continues every prompt. `on_token` is told of each token of each request as it comes and may end it.
    ///
    /// # Errors
    /// When a prompt is empty or does not fit the context, a setting is out of range, the device fails, or a
    /// step makes numbers that are not finite.
    pub async fn generate(
        &mut self,
        requests: &[Request],
        on_token: &mut dyn FnMut(usize, u32) -> ControlFlow<()>,
    ) -> Result<Vec<Generation>> {
        requests.iter().try_for_each(|r| self.check_request(r))?;
        let slots = self.sequences();
        if self.measures() {
            // Before the first token, which else would be shown in the midst of what is told of it.
            self.ready(requests.len().next_power_of_two().min(slots), Head::Decode)?;
        }
        let mut run = Run {
            active: (0..slots).map(|_| None).collect(),
            done: requests.iter().map(|_| None).collect(),
            queue: VecDeque::new(),
            next: 0,
            serial: 0,
        };
        let result = self.run_all(requests, &mut run, on_token).await;
        // Whatever happened, nothing is left behind that a later call could trip over.
        for queued in run.queue {
            let _ = self.executor.finish(queued.ticket).await;
        }
        (0..slots).for_each(|slot| self.pages.release(slot));
        if result.is_err() {
            self.pages.forget();
        }
        let table = vec![Row::NONE; slots];
        let cleared = self.executor.upload(self.decode_rows, 0, bytemuck::cast_slice(&table));
        result?;
        cleared?;
        let lost =
            || Error::Model("a prompt was lost on its way: this is a fault of this program".to_owned());
        run.done.into_iter().map(|done| done.ok_or_else(lost)).collect()
    }

    async fn run_all(
        &mut self,
        requests: &[Request],
        run: &mut Run,
        on_token: &mut dyn FnMut(usize, u32) -> ControlFlow<()>,
    ) -> Result<()> {
        loop {
            self.admit(requests, run)?;
            let queuing = Instant::now();
            let queued = match self.queue_prompt(requests, run).await? {
                Some(queued) => Some(queued),
                None => self.queue_decode(run).await?,
            };
            self.encode += queuing.elapsed();
            let idle = queued.is_none();
            run.queue.extend(queued);
            if idle && run.queue.is_empty() {
                // Those that want no token at all come and go without a step.
                if run.next == requests.len() {
                    return Ok(());
                }
                continue;
            }
            // A prompt's first token is awaited at once: it decides whether there is anything to decode.
            let first = run.queue.back().is_some_and(|q| !q.rows.is_empty() && !q.makes.is_empty());
            while run.queue.len() > if idle || first { 0 } else { AHEAD } {
                let Some(queued) = run.queue.pop_front() else { break };
                self.take(requests, run, queued, on_token).await?;
            }
        }
    }

    fn check_request(&self, request: &Request) -> Result<()> {
        let (len, context) = (request.prompt.len(), self.context());
        if len == 0 {
            return Err(Error::Usage("the prompt is empty, expected at least one token".to_owned()));
        }
        if len >= context {
            return Err(Error::Usage(format!(
                "the prompt has {len} tokens, the context {context}: shorten it or raise --ctx (the model allows {})",
                self.config.max_position_embeddings
            )));
        }
        if let Some(problem) = request.sampling.problem() {
            return Err(Error::Usage(problem));
        }
        self.check_tokens(&request.prompt)
    }

    /// Puts waiting requests into free slots, as far as pages last.
    fn admit(&mut self, requests: &[Request], run: &mut Run) -> Result<()> {
        for slot in 0..run.active.len() {
            let Some(request) = requests.get(run.next).filter(|_| run.active[slot].is_none()) else {
                continue;
            };
            let len = request.prompt.len();
            let limit = request.max_tokens.min(self.context() - len);
            if limit == 0 {
                let (tokens, stop) = (Vec::new(), Stop::Length);
                let none = Duration::ZERO;
                run.done[run.next] =
                    Some(Generation { tokens, stop, cached_tokens: 0, prompt_time: none, decode_time: none });
                run.next += 1;
                continue;
            }
            // The last token's row is what the first new token is made from.
            let claim =
                Claim { writer: self.selected, text: &request.prompt, given: len - 1, tokens: len + limit };
            let Some(there) = self.claim_pages(slot, &claim)? else { break };
            let settings = request.sampling.settings();
            let offset = (slot * size_of_val(&settings)) as u64;
            self.executor.upload(self.settings, offset, bytemuck::bytes_of(&settings))?;
            let offset = (slot * self.plan.history * 4) as u64;
            self.executor.upload(self.history, offset, bytemuck::cast_slice(&request.prompt))?;
            run.serial += 1;
            run.active[slot] = Some(Active {
                request: run.next,
                queued: there,
                cached: there,
                tokens: Vec::new(),
                limit,
                started: Instant::now(),
                first: None,
                serial: run.serial,
            });
            run.next += 1;
        }
        Ok(())
    }

    /// Queues a step of prompt rows, from as many sequences as fit.
    async fn queue_prompt(&mut self, requests: &[Request], run: &mut Run) -> Result<Option<Queued>> {
        let (mut rows, mut outputs, mut makes) = (Vec::new(), Vec::new(), Vec::new());
        let most = self.plan.prompt_rows;
        let most_outputs = run.active.len().min(most);
        // In the order of admission: a prompt may begin with pages that one before it is about to fill.
        let mut waiting: Vec<(usize, &mut Active)> =
            run.active.iter_mut().enumerate().filter_map(|(slot, a)| Some((slot, a.as_mut()?))).collect();
        waiting.sort_by_key(|(_, active)| active.serial);
        for (slot, active) in waiting {
            let prompt = &requests[active.request].prompt;
            let count = (prompt.len() - active.queued).min(most - rows.len());
            for &token in &prompt[active.queued..active.queued + count] {
                rows.push(Row::new(token, active.queued, slot));
                active.queued += 1;
            }
            if count > 0 && active.queued == prompt.len() {
                outputs.push(rows.len() as u32 - 1);
                makes.push((slot, active.serial));
            }
        }
        if rows.is_empty() {
            return Ok(None);
        }
        // Steps come in a few sizes; a prompt of a few rows should not pay for many.
        // Where lanes are few, sixteen rows and more have a product that makes the same whatever their number, and less have
        // another. Prompts take that one, so that texts which share keys and values do not differ by it from each alone.
        let device = self.executor.capabilities();
        let small = if device.software && device.few_lanes() { FEW_ROWS_T } else { SMALL };
        let capacity = [small, PREFILL].into_iter().find(|&capacity| rows.len() <= capacity).unwrap_or(most);
        let head = Head::Sample(most_outputs.min(capacity));
        let ready = self.ready(capacity, head)?;
        self.set_rows(ready, &rows)?;
        outputs.resize((ready.outputs.len / 4) as usize, NONE);
        self.executor.upload(ready.outputs, 0, bytemuck::cast_slice(&outputs))?;
        for &(slot, _) in &makes {
            // Sampling fills in token and position.
            let offset = (slot * size_of::<Row>()) as u64;
            self.executor.upload(self.decode_rows, offset, bytemuck::bytes_of(&Row::new(0, 0, slot)))?;
        }
        self.step(ready.prepared).await?;
        let ticket = self.executor.read(self.decode_rows.whole())?;
        Ok(Some(Queued { ticket, makes, ready, rows }))
    }

    /// Queues a step that makes a token for every sequence whose prompt is done.
    async fn queue_decode(&mut self, run: &mut Run) -> Result<Option<Queued>> {
        let pending = |slot: usize, serial: usize| {
            run.queue.iter().filter(|q| q.makes.contains(&(slot, serial))).count()
        };
        let makes: Vec<(usize, usize)> = run
            .active
            .iter()
            .enumerate()
            .filter_map(|(slot, a)| a.as_ref().map(|a| (slot, a)))
            // Not beyond what was asked for.
            .filter(|(slot, a)| a.tokens.len() + pending(*slot, a.serial) < a.limit)
            .map(|(slot, a)| (slot, a.serial))
            .collect();
        let Some(&(last, _)) = makes.last() else { return Ok(None) };
        // Few sequences should not pay for many: the table is used up to the last slot in use.
        let capacity = (last + 1).next_power_of_two().min(run.active.len());
        let ready = self.ready(capacity, Head::Decode)?;
        self.step(ready.prepared).await?;
        let ticket = self.executor.read(self.decode_rows.whole())?;
        Ok(Some(Queued { ticket, makes, ready, rows: Vec::new() }))
    }

    /// Waits for a step and hands out its tokens.
    async fn take(
        &mut self,
        requests: &[Request],
        run: &mut Run,
        queued: Queued,
        on_token: &mut dyn FnMut(usize, u32) -> ControlFlow<()>,
    ) -> Result<()> {
        let bytes = self.executor.finish(queued.ticket).await?;
        let table: Vec<Row> = bytemuck::pod_collect_to_vec(&bytes);
        for &(slot, serial) in &queued.makes {
            let Some(active) = run.active[slot].as_mut().filter(|a| a.serial == serial) else { continue };
            let (token, request) = (table[slot].token, &requests[active.request]);
            // Some drivers give a step up and tell nobody; what the table had before would pass for the next token.
            if table[slot].position as usize != request.prompt.len() + active.tokens.len() {
                return Err(self.gave_up());
            }
            if token == NONE {
                let ready = queued.ready;
                let suspect = match queued.rows.is_empty() {
                    false => {
                        let (used, outputs) = (0..queued.rows.len(), 0..queued.makes.len());
                        Suspect { ready, rows: queued.rows, used, outputs }
                    }
                    // The row that this step began with: the last token, at its position.
                    true => {
                        let last = active.tokens.last().or(request.prompt.last()).copied().unwrap_or(0);
                        let position = request.prompt.len() + active.tokens.len() - 1;
                        let mut rows = vec![Row::NONE; slot + 1];
                        rows[slot] = Row::new(last, position, slot);
                        Suspect { ready, rows, used: slot..slot + 1, outputs: slot..slot + 1 }
                    }
                };
                return Err(self.diagnose(suspect).await?);
            }
            let now = Instant::now();
            active.first.get_or_insert(now);
            let mut stop = request.end.contains(&token).then_some(Stop::Eos);
            if stop.is_none() {
                active.tokens.push(token);
                if on_token(active.request, token).is_break() {
                    stop = Some(Stop::Stop);
                } else if active.tokens.len() == active.limit {
                    stop = Some(Stop::Length);
                }
            }
            let Some((stop, active)) = stop.and_then(|stop| Some((stop, run.active[slot].take()?))) else {
                continue;
            };
            // Keys and values of the last token may not have been made.
            let mut text = request.prompt.clone();
            text.extend(&active.tokens);
            text.pop();
            self.pages.learn(slot, self.selected, &text);
            let first = active.first.unwrap_or(now);
            run.done[active.request] = Some(Generation {
                tokens: active.tokens,
                stop,
                cached_tokens: active.cached,
                prompt_time: first - active.started,
                decode_time: now - first,
            });
            self.pages.release(slot);
            // From the next queued step on, the slot is out of use. Steps that are already queued still write
            // to its old pages, but they run before any step of the pages' next owner.
            let offset = (slot * size_of::<Row>()) as u64;
            self.executor.upload(self.decode_rows, offset, bytemuck::bytes_of(&Row::NONE))?;
        }
        Ok(())
    }
}

/// The state of a call of [`Engine::generate`].
struct Run {
    active: Vec<Option<Active>>,
    done: Vec<Option<Generation>>,
    queue: VecDeque<Queued>,
    /// The first request that has not been admitted.
    next: usize,
    serial: usize,
}
