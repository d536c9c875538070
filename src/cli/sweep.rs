//! `infer sweep`: how many states does a weight need, and where does it break?

use super::args::Common;
use super::console::{Console, Interruptible, Output};
use super::generate::at_least_one;
use super::subject::{Subject, device_info, open_for, open_journal};
use super::tasks::steps;
use crate::engine::Text;
use crate::error::{Error, Result};
use crate::experiment::arms::arms;
use crate::experiment::output::{sha256, write};
use crate::experiment::prompts::{Mode, Prompter, Style, worked};
use crate::experiment::report;
use crate::experiment::results::Sweep;
use crate::experiment::sweep::{self, Grid, damage_law};
use crate::experiment::tasks::{self, Question, TASKS};
use serde_json::json;
use std::io::IsTerminal;
use std::ops::RangeInclusive;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  infer sweep                                       the model inside the program
  infer sweep -m models/reasoner-0.1m -m models/reasoner-0.4m -m reasoner -m models/reasoner-3m --report out/
  infer sweep --states 4,8,16,32 --granularity tensor --scheme lut";

/// Find how many weight states a model needs: states × granularity × model sizes
///
/// Rounds the weights to each number of states in turn and compares the predictions of worked solutions with those of
/// the unrounded model. Finds where damage begins (the knee) with its interval, the law of damage over sizes if there
/// are several models, and which layers and matrices are sensitive.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A model; may be given several times, for a family of sizes [default: the model inside the program]
    #[arg(short, long, value_name = "MODEL")]
    model: Vec<String>,
    /// Numbers of states
    #[arg(long, value_delimiter = ',', default_value = "2,3,4,6,8,12,16,24,32,64,256", value_name = "LIST")]
    states: Vec<u32>,
    /// Which weights share their states
    #[arg(long, value_delimiter = ',', default_value = "tensor,channel,128,64,32", value_name = "LIST")]
    granularity: Vec<String>,
    /// Evenly spaced states (u), or placed by Lloyd-Max (lut)
    #[arg(long, default_value = "u", value_parser = ["u", "lut"])]
    scheme: String,
    /// Worked solutions of each task and number of steps
    #[arg(short, long, default_value_t = 2, value_name = "N", value_parser = at_least_one)]
    n: usize,
    /// Reasoning steps
    #[arg(short = 'k', long, default_value = "1-8", value_name = "K", value_parser = steps)]
    steps: RangeInclusive<usize>,
    /// Where random numbers start
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// Leave out which layers and matrices are sensitive
    #[arg(long)]
    no_sensitivity: bool,
    /// Keep sweep.json, sweep.html and the journal in this directory
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
}

/// Runs.
pub fn run(args: &Args, common: &Common, console: &Console) -> Result<()> {
    let mut states = args.states.clone();
    states.sort_unstable();
    states.dedup();
    let grid = Grid { states, granularities: args.granularity.clone(), scheme: args.scheme.clone() };
    // A bad number or name is found before a model is opened.
    for granularity in &grid.granularities {
        for states in &grid.states {
            let name = format!("{}{states}:{granularity}", grid.scheme);
            arms(&["f16".to_owned(), name], false, true)?;
        }
    }
    let questions = tasks::questions(TASKS, &args.steps, args.n, args.seed)?;
    let names = if args.model.is_empty() { vec![String::new()] } else { args.model.clone() };
    let mut subjects = names.iter().map(|name| Subject::open(Some(name))).collect::<Result<Vec<_>>>()?;
    subjects.sort_by_key(|subject| subject.checkpoint.parameters());
    for pair in subjects.windows(2) {
        if pair[0].name == pair[1].name {
            return Err(Error::Usage(format!("--model names {} twice", pair[0].name)));
        }
    }

    let parameters = subjects.iter().map(|subject| subject.checkpoint.parameters()).max().unwrap_or(0);
    let executor = open_for(parameters, common, console)?;
    let device = device_info(executor.capabilities());
    drop(executor);
    let models: Vec<_> = subjects.iter().map(Subject::info).collect();
    let plan = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "models": models,
        "device": device,
        "states": grid.states,
        "granularity": grid.granularities,
        "scheme": grid.scheme,
        "questions": sha256(json!(questions).to_string().as_bytes()),
        "seed": args.seed,
    });
    let mut journal = open_journal(("sweep", "sweep.jsonl"), plan, args.report.as_deref(), console)?;
    let largest = subjects.len() - 1;
    let sensitive = |i: usize| !args.no_sensitivity && i == largest;
    let bar = console.bar(
        (subjects.len() * grid.points()) as u64,
        "sweeping",
        "{pos} of {len}, {elapsed} so far, {eta} left",
    );
    let interruptible = Interruptible::new();
    let (mut points, mut knees, mut sensitivity, mut limits) = (vec![], vec![], vec![], vec![]);
    for (i, subject) in subjects.iter().enumerate() {
        let prompter = Prompter::new(&subject.tokenizer, &questions)?;
        let text = |question: &Question| -> Result<Text> {
            let prompt = prompter.text(question, Mode::Thought)?;
            let (mut tokens, from) = prompter.encode_after(&prompt, &worked(question, Mode::Thought))?;
            tokens.extend(subject.end().first().filter(|_| prompter.style == Style::Native));
            Ok(Text { tokens, from })
        };
        let texts = questions.iter().map(text).collect::<Result<Vec<_>>>()?;
        let context = texts.iter().map(|text| text.tokens.len()).max().unwrap_or(2) + 1;
        let both = arms(&["f16".to_owned(), "q4".to_owned()], false, true)?;
        let both = [both[0].clone(), both[0].clone()];
        let executor = open_for(parameters, common, console)?;
        let hidden = indicatif::ProgressBar::hidden();
        let mut engine = subject.load(&both, (context, (8192 / context).clamp(1, 32)), executor, &hidden)?;
        let mut run = sweep::Subject {
            name: subject.name.clone(),
            parameters: subject.checkpoint.parameters(),
            checkpoint: &subject.checkpoint,
            engine: &mut engine,
            texts: &texts,
            journal: &mut journal,
            progress: &mut || bar.inc(1),
            interrupted: &|| interruptible.interrupted(),
        };
        let parts = if sensitive(i) { run.parts()? } else { vec![] };
        bar.inc_length(2 * parts.len() as u64);
        let found = run.sweep(&grid, args.seed)?;
        points.extend(found.points);
        knees.extend(found.knees);
        if found.rounded_before {
            limits.push(format!("The weights of {} were rounded before they were published.", subject.name));
        }
        if sensitive(i) {
            sensitivity = run.sensitivity(parts)?;
        }
    }
    bar.finish_and_clear();
    limits.extend(
        [
            "Accuracy is the share of worked solutions that greedy decoding would write token by token.",
            "All matrices are rounded, the embedding included; weights are stored as 16-bit floats that hold what the \
             states hold, and run through the same kernels.",
            "A knee is fitted to lost solutions against the logarithm of the states, from the point on where not all \
             is lost; its interval is over questions, for one model each.",
        ]
        .map(str::to_owned),
    );
    let sweep = Sweep {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        date: journal.header.date.clone(),
        device,
        models,
        plan_hash: journal.header.hash.clone(),
        questions: questions.len(),
        law: damage_law(&points),
        points,
        knees,
        sensitivity,
        limits,
    };
    let text = serde_json::to_string_pretty(&sweep)
        .map_err(|e| Error::Model(format!("results cannot be written as JSON: {e}")))?;
    let mut out = Output::default();
    if common.json {
        out.json(&json!(sweep))?;
    } else {
        let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let _ = out.write(&report::sweep_table(&sweep, color))?;
    }
    match &args.report {
        Some(directory) => {
            write(&directory.join("sweep.json"), &(text + "\n"))?;
            let page = directory.join("sweep.html");
            write(&page, &report::sweep_html(&sweep))?;
            console.say(format_args!("report: {}", page.display()));
        }
        None => journal.discard(),
    }
    Ok(())
}
