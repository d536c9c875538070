//! The engine: sequences in, tokens out.
//!
//! [`Engine::open`] loads a model onto a device. [`Engine::generate`] continues prompts, many at once;
//! [`Engine::score`] tells how likely a text is. A step of either is any mix of rows from any sequences.

mod arms;
mod attention;
mod calibrate;
pub mod check;
mod device;
mod diagnose;
mod generate;
mod limits;
mod pages;
mod plan;
mod profile;
mod score;
mod timing;
mod tune;

pub use arms::Arm;
pub use calibrate::Seen;
pub use device::{DeviceChoice, Opened, open_device};
pub use generate::{Generation, Request, Stop};
pub use limits::{Limits, limits};
pub use plan::{Memory, Plan};
pub use profile::Launch;
pub use score::{Perplexity, Text, windows};
pub use timing::{DEPTH_STEP, Timing, Work};
pub use tune::Tuner;

pub use crate::kernels::Divergence;
pub use crate::kernels::sample::Sampling;

use crate::checkpoint::{Checkpoint, Config, Source};
use crate::error::{Error, Result};
use crate::kernels::sample::{SampleState, Settings};
use crate::kernels::{NONE, Product};
use crate::model::{self, CacheShape, Step, Weights};
use crate::recording::{Buffer, Executor, Prepared, Recorder, Recording};
use bytemuck::{Pod, Zeroable};
use pages::{Claim, Pages};
use std::collections::HashMap;
use std::time::Duration;

/// Steps that are encoded ahead of the one whose result is awaited.
const AHEAD: usize = 2;

/// Rows of a text that are scored in one step: each has logits of its own.
const PREFILL: usize = 64;

/// Rows of a prompt that are taken in one step, at most: as many as serve to keep a GPU busy.
const LONG_PREFILL: usize = 512;

/// A row of a step, as the device reads it; see `shaders/common.wgsl`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Row {
    /// The token.
    pub token: u32,
    /// Where it stands in its sequence.
    pub position: u32,
    /// The sequence, or `NONE` for a row that is not in use.
    pub sequence: u32,
    /// The token that should come next, or `NONE`.
    pub expected: u32,
    slot: u32,
    unused: [u32; 3],
}

impl Row {
    const NONE: Row = Row { token: 0, position: 0, sequence: NONE, expected: NONE, slot: 0, unused: [0; 3] };

    /// Row `position` of a sequence; what is sampled from it continues in the sequence's own decode row.
    fn new(token: u32, position: usize, sequence: usize) -> Self {
        let sequence = sequence as u32;
        Row { token, position: position as u32, sequence, slot: sequence, ..Row::NONE }
    }
}

/// What is recorded beyond the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Head {
    /// A token for every sequence, from the rows that sampling left.
    Decode,
    /// A token for each of so many rows.
    Sample(usize),
    /// The log probability of every row's expected token.
    Score,
    /// Every row's logits.
    Logits,
    /// How every arm's prediction differs from the first arm's.
    Compare,
}

/// One recording with the tables that it reads.
#[derive(Clone, Copy)]
struct Ready {
    prepared: Prepared,
    /// Rows that it has room for.
    capacity: usize,
    rows: Buffer,
    outputs: Buffer,
}

/// A model on a device: one or more times, with its weights stored in one or more ways ([`Arm`]).
pub struct Engine {
    executor: Box<dyn Executor>,
    arms: Vec<Arm>,
    /// The arm that generates and scores.
    selected: usize,
    config: Config,
    shapes: Vec<CacheShape>,
    plan: Plan,
    pages: Pages,
    page_table: Buffer,
    settings: Buffer,
    history: Buffer,
    /// The row of each sequence's next token: sampling keeps it up to date.
    decode_rows: Buffer,
    /// By arm, rows and head.
    ready: HashMap<(usize, usize, Head), Ready>,
    /// What a head leaves to be read, by its arm, rows and head; a comparison leaves a buffer an arm.
    results: HashMap<(usize, usize, Head), Vec<Buffer>>,
    unread: Vec<String>,
    /// How long the host was busy with steps of [`Engine::generate`].
    encode: Duration,
    /// The steps of a call that is profiled, and how long their dispatches took.
    profile: Option<Vec<(Prepared, Vec<Duration>)>>,
    /// What chooses kernels, where they are chosen by measurement.
    tuner: Option<Tuner>,
    /// Whether activations are rounded to 8 bits where weights are integer codes.
    dots: bool,
}

/// How a model is opened.
pub struct OpenOptions<'a> {
    /// How weights are stored.
    pub weights: Weights,
    /// Longest sequence, prompt and answer together; none for the model's own limit, but at most 4096.
    pub context: Option<usize>,
    /// Sequences that are in flight at once.
    pub sequences: usize,
    /// Is told of bytes of the checkpoint as they are read.
    pub progress: &'a mut dyn FnMut(u64),
}

impl Engine {
    /// Loads a model.
    ///
    /// # Errors
    /// When a file is not what it should be, the architecture is not known, or memory is short.
    pub fn open(
        source: &Source,
        checkpoint: &Checkpoint,
        mut executor: Box<dyn Executor>,
        options: OpenOptions<'_>,
    ) -> Result<Self> {
        let config = Config::open(&source.directory)?;
        let architecture = model::architecture(&config)?;
        let shapes = (architecture.caches)(&config);
        let plan = Plan::new(&config, &shapes, checkpoint, &options, executor.capabilities())?;
        let sequences = options.sequences;
        let page_table = executor.create((sequences * plan.max_pages * 4) as u64, "page table")?;
        let settings = executor.create((sequences * size_of::<Settings>()) as u64, "settings")?;
        let history = executor.create((sequences * plan.history * 4) as u64, "history")?;
        let decode_rows = executor.create((sequences * size_of::<Row>()) as u64, "rows")?;
        executor.upload(decode_rows, 0, bytemuck::cast_slice(&vec![Row::NONE; sequences]))?;
        let mut engine = Engine {
            executor,
            arms: Vec::new(),
            selected: 0,
            config,
            shapes,
            pages: Pages::new(plan.cached_tokens, sequences),
            page_table,
            settings,
            history,
            decode_rows,
            ready: HashMap::new(),
            results: HashMap::new(),
            unread: Vec::new(),
            encode: Duration::ZERO,
            profile: None,
            tuner: None,
            dots: false,
            plan,
        };
        engine.add_arm(checkpoint, &options.weights, options.progress)?;
        // What is not read says that the model is not quite what its configuration says.
        engine.unread = checkpoint.unread();
        Ok(engine)
    }

    /// The model's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Tokens that a sequence may have, prompt and answer together.
    pub fn context(&self) -> usize {
        self.plan.context
    }

    /// Sequences that can be in flight at once.
    pub fn sequences(&self) -> usize {
        (self.decode_rows.len / size_of::<Row>() as u64) as usize
    }

    /// Tensors of the checkpoint that the model has no use for.
    pub fn unread(&self) -> &[String] {
        &self.unread
    }

    /// What the weights, the cache and everything at its peak take on the device.
    pub fn memory(&self) -> Memory {
        Memory { peak_bytes: self.executor.memory().1, ..self.plan.memory }
    }

    /// How long the device was busy since this was last asked, where it tells.
    ///
    /// # Errors
    /// When the device fails.
    pub async fn busy(&mut self) -> Result<Option<Duration>> {
        self.executor.busy().await
    }

    /// The device.
    pub fn executor(&self) -> &dyn Executor {
        &*self.executor
    }

    /// From now on, products with weights of integer codes round activations to 8 bits, a scale for each 32 of a row, and
    /// multiply integers. It rounds more than the weights, so comparisons of arms do not use it.
    pub fn round_activations(&mut self) {
        self.dots = true;
        // What was recorded was recorded without.
        self.ready.clear();
        self.results.clear();
    }

    /// A recording for so many rows, made on first use.
    fn ready(&mut self, capacity: usize, head: Head) -> Result<Ready> {
        let key = (self.selected, capacity, head);
        if let Some(&ready) = self.ready.get(&key) {
            return Ok(ready);
        }
        let outputs_len = match head {
            Head::Sample(n) => n,
            _ => capacity,
        };
        let rows = match head {
            Head::Decode => self.decode_rows,
            _ => self.executor.create((capacity * size_of::<Row>()) as u64, "rows")?,
        };
        let outputs = self.executor.create(outputs_len as u64 * 4, "outputs")?;
        let identity: Vec<u32> = (0..outputs_len as u32).collect();
        self.executor.upload(outputs, 0, bytemuck::cast_slice(&identity))?;
        let arm = &self.arms[self.selected];
        let stride = arm.model.logits_stride();
        let (name, bytes, count) = match head {
            Head::Decode | Head::Sample(_) => ("", 0, 0),
            Head::Score => ("log_prob", capacity * 4, 1),
            Head::Logits => ("logits", capacity * stride * 4, 1),
            Head::Compare => ("divergence", capacity * size_of::<Divergence>(), self.arms.len()),
        };
        let results: Vec<Buffer> =
            (0..count).map(|_| self.executor.create(bytes as u64, name)).collect::<Result<_>>()?;

        let (mut recording, unmeasured) = self.record(key, (rows, outputs), outputs_len, &results);
        if self.measure(unmeasured)? {
            recording = self.record(key, (rows, outputs), outputs_len, &results).0;
        }
        let prepared = self.executor.prepare(recording)?;
        let ready = Ready { prepared, capacity, rows, outputs };
        self.ready.insert(key, ready);
        self.results.insert(key, results);
        Ok(ready)
    }

    /// Records a step; and names the products in it for which no kernel was measured.
    fn record(
        &self,
        (_, capacity, head): (usize, usize, Head),
        (rows, outputs): (Buffer, Buffer),
        outputs_len: usize,
        results: &[Buffer],
    ) -> (Recording, Vec<Product>) {
        let arm = &self.arms[self.selected];
        let (vocab, stride) = (self.config.vocab_size, arm.model.logits_stride());
        let mut r = Recorder::new(self.executor.capabilities());
        r.choices = self.choices();
        r.dots = self.dots;
        if head == Head::Logits {
            results.iter().for_each(|&buffer| r.pin(buffer));
        }
        let forward = |r: &mut Recorder<'_>, arm: &Arm| {
            let step = Step { rows, capacity, prompt: head != Head::Decode, caches: &arm.caches, outputs };
            let (x, rows_out) = arm.model.forward(r, step);
            (arm.model.logits(r, rows_out, outputs_len, x), rows_out)
        };
        let (logits, rows_out) = forward(&mut r, arm);
        match head {
            Head::Score => {
                r.label("scoring");
                r.log_prob(rows_out, logits, vocab, stride, results[0]);
            }
            Head::Decode | Head::Sample(_) => {
                r.label("sampling");
                let state =
                    SampleState { settings: self.settings, history: self.history, rows: self.decode_rows };
                r.sample(rows_out, logits, (vocab, stride), outputs_len, self.plan.history, state);
            }
            Head::Logits => {}
            Head::Compare => {
                // The reference is compared with itself too: that is where the figures of it alone come from.
                for (i, arm) in self.arms.iter().enumerate() {
                    let other = if i == self.selected { logits } else { forward(&mut r, arm).0 };
                    r.label("comparing");
                    r.divergence(rows_out, [logits, other], (vocab, stride), results[i]);
                }
            }
        }
        let unmeasured = Product::among(std::mem::take(&mut r.unmeasured));
        (r.finish(), unmeasured)
    }

    /// Puts rows into a recording's table, the rest of it out of use.
    fn set_rows(&mut self, ready: Ready, rows: &[Row]) -> Result<()> {
        let mut table = vec![Row::NONE; (ready.rows.len / size_of::<Row>() as u64) as usize];
        table[..rows.len()].copy_from_slice(rows);
        self.executor.upload(ready.rows, 0, bytemuck::cast_slice(&table))
    }

    /// Every token is one of the vocabulary's: the device trusts that.
    fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        let vocab = self.config.vocab_size;
        match tokens.iter().find(|&&t| t as usize >= vocab) {
            Some(token) => Err(Error::Model(format!("token {token} is not in the vocabulary of {vocab}"))),
            None => Ok(()),
        }
    }

    /// Lets go of keys and values that earlier calls left for texts that begin alike: what comes next is computed as
    /// if it were the first.
    pub fn forget(&mut self) {
        self.pages.forget();
    }

    /// Gives a sequence pages and writes its page table; how many of its tokens are in the cache already. None where
    /// there is no room.
    fn claim_pages(&mut self, sequence: usize, claim: &Claim<'_>) -> Result<Option<usize>> {
        let Some((table, there)) = self.pages.claim(sequence, claim, self.plan.max_pages) else {
            return Ok(None);
        };
        let offset = (sequence * self.plan.max_pages * 4) as u64;
        self.executor.upload(self.page_table, offset, bytemuck::cast_slice(&table))?;
        Ok(Some(there))
    }
}
