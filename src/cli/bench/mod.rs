//! `infer bench`: how fast prompts are read and tokens are made, and how near that is to what the device can do.

mod output;
mod profile;

use crate::checkpoint::Config;
use crate::checkpoint::shapes::{SHAPES, Shape};
use crate::cli::args::{Activations, Bits, Common, ModelArgs, bits, group};
use crate::cli::console::{Console, Output};
use crate::cli::generate::at_least_one;
use crate::cli::session::{Description, Session};
use crate::engine::{DEPTH_STEP, Launch, Limits, Timing, Work, limits, open_device};
use crate::error::{Error, Result};
use crate::format::Packing;
use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use output::{csv, markdown};
use pollster::block_on;
use profile::Trace;
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

/// Tokens of a prompt, and tokens that are made, where the model allows so many.
const PROMPT: usize = 512;
const TOKENS: usize = 128;

const EXAMPLES: &str = "\
Examples:
  infer bench -m DIR                          512 tokens read, 128 made, with 16 and 4 bits
  infer bench -m DIR -b 4 -p 512 -n 128 -D 0,4096 -r 5
  infer bench -m DIR -b 4 -p 0 -B 1,8,32      many texts at once
  infer bench --shape 8b -b 4                 a known shape with random weights: nothing to download
  infer bench -m DIR -b 4 -p 64 -n 16 -r 1 --profile trace.json
  infer bench -m DIR -o json > bench.json     with every repetition

pp512 is a prompt of 512 tokens, tg128 means 128 tokens one after the other; \"@ d4096\" says that 4096 tokens are in the
cache before, \"×8\" that 8 texts are under way at once (tok/s is of all of them together). A first run of each test is not
counted; reading text into tokens and printing are no part of any. With --tune, the measuring is in the first token's time.";

/// Measure tokens per second, beside what the device can do at most
///
/// "of limit" is a share of what was measured on the same device just before: for tokens one after the other of the speed
/// of a copy in its memory, where all packed weights and all keys and values must be read for every step; for prompts of
/// multiplications and additions in registers, of the fastest kind that the device has, two for each weight of a matrix and
/// token, also for those that the last layer leaves out. The CPU has none: its kernels are no measure of what it can do.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A .gguf or .safetensors file, a model directory or a hub id [default: the small model inside the program]
    #[arg(short, long, env = "INFER_MODEL", help_heading = "Model")]
    model: Option<String>,
    /// A known shape with weights drawn at random: nothing is downloaded or read
    #[arg(long, value_parser = shape(), hide_possible_values = true, conflicts_with = "model")]
    #[arg(value_name = "135m|360m|1b|1.7b|3b|7b|8b|30b-a3b", help_heading = "Model")]
    shape: Option<&'static Shape>,
    /// Bits of a weight, one or several, "file" as the file has them [default: 16,file if that has codes, else 16,4]
    #[arg(short, long, env = "INFER_BITS", value_delimiter = ',', hide_possible_values = true)]
    #[arg(value_name = "file|16|8|4,…", value_parser = bits(), help_heading = "Model")]
    bits: Vec<Bits>,
    /// Weights of a row that share a scale and a zero
    #[arg(long, env = "INFER_GROUP", default_value = "32", hide_possible_values = true)]
    #[arg(value_name = "32|64|128", value_parser = group(), help_heading = "Model")]
    group: usize,
    /// What activations are multiplied as; q8 rounds them to 8 bits where weights are codes
    #[arg(long, env = "INFER_ACTIVATIONS", value_enum, default_value_t, hide_possible_values = true)]
    #[arg(value_name = "f32|q8", help_heading = "Model")]
    activations: Activations,
    /// Tokens of a prompt, one or several; 0 for no such test [default: 512, or half of what the model allows]
    #[arg(short, long, value_delimiter = ',', value_name = "N,…", help_heading = "Tests")]
    prompt: Vec<usize>,
    /// Tokens to make, one or several; 0 for no such test [default: 128, or half of what the model allows]
    #[arg(short = 'n', long, value_delimiter = ',', value_name = "N,…", help_heading = "Tests")]
    tokens: Vec<usize>,
    /// Tokens in the cache before, one or several, rounded up to whole pages of 32
    #[arg(short = 'D', long, value_delimiter = ',', default_value = "0", value_name = "N,…")]
    #[arg(help_heading = "Tests")]
    depth: Vec<usize>,
    /// Texts at once, one or several
    #[arg(short = 'B', long, value_delimiter = ',', default_value = "1", value_name = "N,…")]
    #[arg(value_parser = at_least_one, help_heading = "Tests")]
    batch: Vec<usize>,
    /// Repetitions of each test
    #[arg(short, long, default_value = "5", value_name = "N", value_parser = at_least_one)]
    #[arg(help_heading = "Tests")]
    repetitions: usize,
    /// Run each test once more, print the time that each kernel takes, and its longest dispatch; and write all of them to a file
    /// that chrome://tracing and ui.perfetto.dev show. Rows that are not in use count in the shares, though they are skipped
    #[arg(long, value_name = "FILE.json", help_heading = "Tests")]
    profile: Option<PathBuf>,
    /// What to print: a table, or all figures [default: md; json with --json]
    #[arg(short, long, value_enum, help_heading = "Tests")]
    output: Option<Form>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A table as Markdown
    Md,
    /// A table as comma-separated values
    Csv,
    /// One JSON list
    Json,
    /// One JSON object a line, as tests are done
    Jsonl,
}

/// What a test found.
#[derive(Debug, Serialize)]
struct Row {
    model: String,
    parameters: u64,
    format: String,
    device: String,
    backend: String,
    driver: String,
    version: &'static str,
    test: String,
    #[serde(flatten)]
    work: Work,
    /// Packed weights.
    weight_bytes: u64,
    /// The most that was held on the device.
    peak_bytes: u64,
    load_s: f64,
    /// Weights that were rounded to codes on the device while loading.
    packed_on_device: u64,
    first_token_cold_s: f64,
    first_token_warm_s: f64,
    tokens_per_s: f64,
    tokens_per_s_sd: f64,
    tokens_per_s_samples: Vec<f64>,
    /// Time that the device was busy, a step of decoding or a token of a prompt; none where it does not tell.
    device_s: Option<f64>,
    /// Time that the host was busy with queueing, likewise.
    host_s: f64,
    /// Of a step of decoding.
    dispatches: Option<usize>,
    /// Bytes that a step of decoding must read.
    bytes_per_step: Option<u64>,
    #[serde(flatten)]
    limits: Limits,
    /// None where the limits are no measure of the device.
    of_limit: Option<f64>,
}

fn shape() -> impl TypedValueParser<Value = &'static Shape> {
    PossibleValuesParser::new(SHAPES.iter().flat_map(|shape| [shape.name, shape.size]))
        .try_map(|name| Shape::named(&name).ok_or_else(|| format!("there is no shape {name:?}")))
}

/// Measures.
pub fn run(args: &Args, common: &Common, console: &Console) -> Result<()> {
    if common.json && args.output.is_some_and(|form| form != Form::Json) {
        return Err(Error::Usage("--json means --output json: leave one of the two out".to_owned()));
    }
    let form = args.output.unwrap_or(if common.json { Form::Json } else { Form::Md });
    let stored = |bits| ModelArgs {
        model: args.model.clone(),
        bits: Some(bits),
        group: args.group,
        ..ModelArgs::default()
    };
    let open = |bits| match args.shape {
        None => Description::open(&stored(bits)),
        Some(shape) => Description::shaped(shape, stored(bits).weights(false)?),
    };
    let description = open(Bits::File)?;
    let tests = tests(args, description.config.max_position_embeddings)?;
    let parameters = description.checkpoint.parameters();
    let usual = [Bits::In(Packing::F16.format), Bits::usual(description.checkpoint.has_codes())];
    let bits = if args.bits.is_empty() { &usual } else { &args.bits[..] };
    drop(description);
    let open = |bits| open(bits)?.multiplying(args.activations);
    // What is asked for wrongly is said before anything is measured.
    bits.iter().try_for_each(|&bits| open(bits).map(drop))?;

    let steps = bits.len() * tests.len() * (args.repetitions + 1);
    let bar = console.bar(steps as u64, "measuring", "{pos} of {len} runs, {eta} left");
    // What the device can do comes first.
    bar.tick();
    let found = {
        let mut opened = block_on(open_device(&common.choice()))?;
        limits(&mut *opened.executor)?
    };
    let mut out = Output::default();
    let (mut rows, mut trace, mut tables) = (Vec::new(), Trace::default(), String::new());
    for &bits in bits {
        let needed = tests.iter().map(|&(prompt, work)| work.depth + work.tokens + beside(prompt)).max();
        let sequences = args.batch.iter().copied().max().unwrap_or(1);
        let description = open(bits)?;
        let context =
            needed.unwrap_or(2).next_multiple_of(DEPTH_STEP).min(description.config.max_position_embeddings);
        let session = description.load_for(context, sequences, common, console)?;
        let mut bench = Bench { session, parameters, limits: found, first: [0.0; 2], rounds: 0 };
        bench.first_tokens(&tests)?;
        for &(prompt, work) in &tests {
            let row = bench.measure(prompt, work, args.repetitions, &mut || bar.inc(1))?;
            if form == Form::Jsonl {
                out.json(&serde_json::to_value(&row).map_err(|e| Error::Model(e.to_string()))?)?;
            }
            if args.profile.is_some() {
                let (test, launches) = (format!("{} {}", row.format, row.test), bench.profile(prompt, work)?);
                trace.add(&test, &launches);
                tables += &profile::table(&test, &launches, found);
            }
            rows.push(row);
        }
    }
    bar.finish_and_clear();
    if let Some(path) = &args.profile {
        trace.write(path)?;
        if form != Form::Md {
            console.say(&tables);
        }
    }
    match form {
        Form::Md => {
            let _ = out.write(&(markdown(&rows, found) + &tables))?;
        }
        Form::Csv => {
            let _ = out.write(&csv(&rows))?;
        }
        Form::Json => out.json(&serde_json::to_value(&rows).map_err(|e| Error::Model(e.to_string()))?)?,
        Form::Jsonl => {}
    }
    Ok(())
}

/// Every test that is asked for, and whether it is one of prompts.
fn tests(args: &Args, most: usize) -> Result<Vec<(bool, Work)>> {
    let or = |asked: &[usize], usual: usize| match asked {
        [] => vec![usual.min(most / 2)],
        asked => asked.to_vec(),
    };
    let mut tests = Vec::new();
    for (prompt, counts) in [(true, or(&args.prompt, PROMPT)), (false, or(&args.tokens, TOKENS))] {
        for &sequences in &args.batch {
            for &depth in &args.depth {
                for &tokens in counts.iter().filter(|&&tokens| tokens > 0) {
                    let depth = depth.checked_next_multiple_of(DEPTH_STEP).unwrap_or(usize::MAX);
                    let more = beside(prompt);
                    if depth.checked_add(tokens).is_none_or(|all| all > most.saturating_sub(more)) {
                        return Err(Error::Usage(format!(
                            "{tokens} tokens after {depth} do not fit: the model allows {most} in all, and this test needs \
                             {more} more"
                        )));
                    }
                    tests.push((prompt, Work { tokens, depth, sequences }));
                }
            }
        }
    }
    match tests.is_empty() {
        true => Err(Error::Usage("there is nothing to measure: give -p or -n a number above 0".to_owned())),
        false => Ok(tests),
    }
}

/// Tokens that a text has beside those that are timed: the one that a prompt is followed by; in decoding that one, and the
/// prompt of one token that it follows.
fn beside(prompt: bool) -> usize {
    if prompt { 1 } else { 2 }
}

/// A model, ready to be measured.
struct Bench {
    session: Session,
    parameters: u64,
    limits: Limits,
    /// From a prompt to its first token in seconds: the first time, and the next.
    first: [f64; 2],
    /// Rounds so far: no two have the same prompts, or the second would find them in the cache.
    rounds: usize,
}

impl Bench {
    /// The first prompt compiles pipelines; the next does not.
    fn first_tokens(&mut self, tests: &[(bool, Work)]) -> Result<()> {
        let tokens = tests.iter().find(|(prompt, _)| *prompt).map_or(1, |(_, work)| work.tokens);
        for first in &mut self.first {
            let work = Work { tokens, depth: 0, sequences: 1 };
            self.rounds += 1;
            *first = block_on(self.session.engine.time_prompt(work, self.rounds))?.wall.as_secs_f64();
        }
        Ok(())
    }

    fn measure(
        &mut self,
        prompt: bool,
        work: Work,
        repetitions: usize,
        done: &mut dyn FnMut(),
    ) -> Result<Row> {
        let mut timings = Vec::new();
        for repetition in 0..=repetitions {
            self.rounds += 1;
            let (engine, round) = (&mut self.session.engine, self.rounds);
            let timing = block_on(async {
                match prompt {
                    true => engine.time_prompt(work, round).await,
                    false => engine.time_decode(work, round).await,
                }
            })?;
            done();
            if repetition > 0 {
                timings.push(timing);
            }
        }
        let samples: Vec<f64> =
            timings.iter().map(|t| t.tokens as f64 / t.wall.as_secs_f64().max(1e-9)).collect();
        let (mean, sd) = mean_and_sd(&samples);
        // A prompt's time is shared by its tokens, a step's is not.
        let parts = if prompt { work.tokens * work.sequences } else { work.tokens } as f64;
        let seconds = |of: &dyn Fn(&Timing) -> Option<Duration>| -> Option<f64> {
            let all: Option<Vec<f64>> =
                timings.iter().map(|t| of(t).map(|d| d.as_secs_f64() / parts)).collect();
            all.map(|all| mean_and_sd(&all).0)
        };
        let (device_s, host_s) = (seconds(&|t| t.busy), seconds(&|t| Some(t.encode)).unwrap_or_default());
        let bytes = self.bytes_per_step(work);
        let of_limit = match prompt {
            true => self.limits.share(self.operations_per_token(work) * mean, self.limits.flops()),
            false => {
                self.limits.share(bytes as f64 * mean / work.sequences as f64, self.limits.copy_bytes_per_s)
            }
        };
        let memory = self.session.engine.memory();
        let json = self.session.json();
        let text = |name: &str| json.get(name).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
        Ok(Row {
            model: text("model"),
            parameters: self.parameters,
            format: self.session.formats(),
            device: text("device"),
            backend: text("backend"),
            driver: self.session.driver().to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            test: name(prompt, work),
            work,
            weight_bytes: memory.weight_bytes,
            peak_bytes: memory.peak_bytes,
            load_s: self.session.load_time.as_secs_f64(),
            packed_on_device: self.session.engine.arms()[0].packed_on_device,
            first_token_cold_s: self.first[0],
            first_token_warm_s: self.first[1],
            tokens_per_s: mean,
            tokens_per_s_sd: sd,
            tokens_per_s_samples: samples,
            device_s,
            host_s,
            dispatches: if prompt {
                None
            } else {
                Some(self.session.engine.decode_dispatches(work.sequences)?)
            },
            bytes_per_step: (!prompt).then_some(bytes),
            limits: self.limits,
            of_limit,
        })
    }

    /// The dispatches of a round.
    fn profile(&mut self, prompt: bool, work: Work) -> Result<Vec<Launch>> {
        self.rounds += 1;
        block_on(self.session.engine.profile(prompt, work, self.rounds))
    }

    /// What a step of decoding must read: the packed weights (of an embedding that is not also the output matrix next to
    /// nothing), and keys and values at half of the way.
    fn bytes_per_step(&self, work: Work) -> u64 {
        let (engine, config) = (&self.session.engine, self.session.engine.config());
        let embedding = self.session.description.embedding_bytes();
        let weights = engine.memory().weight_bytes - if config.tie_word_embeddings { 0 } else { embedding };
        let resting = resting_parameters(config, work.sequences) / self.parameters.max(1) as f64;
        let weights = (weights as f64 * (1.0 - resting)) as u64;
        let cached = (work.depth + work.tokens / 2) * work.sequences;
        weights + cached as u64 * engine.cache_bytes_per_token()
    }

    /// Multiplications and additions of a token of a prompt: of the layers' matrices, and of attention at half of the way.
    fn operations_per_token(&self, work: Work) -> f64 {
        let config = self.session.engine.config();
        let seen = work.depth + work.tokens / 2;
        let attention = 4 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * seen;
        let layers = layer_parameters(config, self.parameters) - resting_parameters(config, 1);
        2.0 * layers + attention as f64
    }
}

/// Parameters that every token of a prompt meets: all but the embedding and the output matrix.
fn layer_parameters(config: &Config, parameters: u64) -> f64 {
    let table = (config.vocab_size * config.hidden_size) as u64;
    parameters.saturating_sub(table * if config.tie_word_embeddings { 1 } else { 2 }) as f64
}

/// Parameters of those experts that so many tokens leave alone, if each goes through others.
fn resting_parameters(config: &Config, tokens: usize) -> f64 {
    let resting = config.num_experts.saturating_sub(config.num_experts_per_tok * tokens);
    (config.num_hidden_layers * resting) as f64 * (3 * config.intermediate_size * config.hidden_size) as f64
}

/// As users of llama-bench know them.
fn name(prompt: bool, work: Work) -> String {
    let mut name = format!("{}{}", if prompt { "pp" } else { "tg" }, work.tokens);
    if work.depth > 0 {
        let _ = write!(name, " @ d{}", work.depth);
    }
    if work.sequences > 1 {
        let _ = write!(name, " ×{}", work.sequences);
    }
    name
}

/// Mean, and standard deviation of a sample, 0 of one number.
fn mean_and_sd(x: &[f64]) -> (f64, f64) {
    let mean = x.iter().sum::<f64>() / x.len().max(1) as f64;
    let square = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (x.len().max(2) - 1) as f64;
    (mean, square.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_named_as_in_llama_bench() {
        let work = Work { tokens: 512, depth: 0, sequences: 1 };
        assert_eq!(name(true, work), "pp512");
        assert_eq!(name(false, Work { tokens: 128, depth: 4096, sequences: 8 }), "tg128 @ d4096 ×8");
    }

    #[test]
    fn spread_is_that_of_a_sample() {
        assert_eq!(mean_and_sd(&[1.0, 2.0, 3.0]), (2.0, 1.0));
        assert_eq!(mean_and_sd(&[4.0]), (4.0, 0.0));
    }
}
