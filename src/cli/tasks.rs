//! `infer tasks`: the questions of the experiment.

use super::args::Common;
use super::console::{Console, Output};
use super::generate::at_least_one;
use crate::error::{Error, Result};
use crate::experiment::tasks::{Split, TASKS, Task};
use serde_json::{Value, json};
use std::ops::RangeInclusive;

const EXAMPLES: &str = "\
Examples:
  infer tasks list
  infer tasks generate --task pointers --steps 4 --n 100 --seed 1 > questions.jsonl
  infer tasks generate --task all --steps 1-8 --n 1000 --split train > train.jsonl";

/// List the tasks of the experiment, or generate questions
///
/// Every question has one exact answer and a worked thought of so many steps. A question belongs to the
/// training side or to the test side by a hash of its text, whatever seed made it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the tasks
    List,
    /// Generate questions, one JSON object a line; with --json all in one list
    Generate(Generate),
}

#[derive(Debug, clap::Args)]
struct Generate {
    /// The task, or "all"
    #[arg(short, long, value_name = "NAME")]
    task: String,
    /// Reasoning steps: a number, or a range such as 1-8; of a range, those that the task has
    #[arg(short = 'k', long, default_value = "1-8", value_name = "K", value_parser = steps)]
    steps: RangeInclusive<usize>,
    /// Questions of each task and number of steps
    #[arg(short, long, default_value_t = 10, value_name = "N", value_parser = at_least_one)]
    n: usize,
    /// Where random numbers start
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// Which side: test questions are all different, training questions may repeat
    #[arg(long, default_value = "test", value_name = "train|test", value_parser = ["train", "test"])]
    split: String,
}

/// `4` or `1-8`.
pub fn steps(text: &str) -> Result<RangeInclusive<usize>, String> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let number = |s: &str| s.trim().parse::<usize>().ok().filter(|n| (1..=99).contains(n));
    match (number(from), number(to)) {
        (Some(from), Some(to)) if from <= to => Ok(from..=to),
        _ => Err("expected a number of steps such as 4, or a range such as 1-8".to_owned()),
    }
}

/// Lists or generates.
pub fn run(args: &Args, common: &Common, _: &Console) -> Result<()> {
    let mut out = Output::default();
    match &args.command {
        Command::List if common.json => {
            let tasks: Vec<Value> = TASKS
                .iter()
                .map(|task| {
                    let steps = [task.steps.start(), task.steps.end()];
                    json!({"name": task.name, "summary": task.summary, "steps": steps, "chance": task.chance})
                })
                .collect();
            out.json(&Value::Array(tasks))
        }
        Command::List => {
            for task in TASKS {
                let steps = match task.steps.clone().count() {
                    1 => "1 step".to_owned(),
                    _ => format!("{} to {} steps", task.steps.start(), task.steps.end()),
                };
                let line = format!(
                    "{:11} {:13} chance {:>4}   {}",
                    task.name,
                    steps,
                    format!("{}%", task.chance * 100.0),
                    task.summary
                );
                if out.line(&line)?.is_break() {
                    break;
                }
            }
            Ok(())
        }
        Command::Generate(args) => generate(args, common.json, &mut out),
    }
}

fn generate(args: &Generate, list: bool, out: &mut Output) -> Result<()> {
    let tasks = match args.task.as_str() {
        "all" => TASKS.to_vec(),
        name => vec![Task::named(name)?],
    };
    let split = if args.split == "train" { Split::Train } else { Split::Test };
    let mut listed = Vec::new();
    for task in &tasks {
        let steps: Vec<usize> = args.steps.clone().filter(|k| task.steps.contains(k)).collect();
        if steps.is_empty() && tasks.len() == 1 {
            let (from, to) = (args.steps.start(), args.steps.end());
            return Err(Error::Usage(format!(
                "{} has no questions of {from} to {to} steps, expected {} to {}",
                task.name,
                task.steps.start(),
                task.steps.end()
            )));
        }
        for k in steps {
            for question in task.generate(k, args.n, args.seed, split)? {
                if list {
                    listed.push(json!(question));
                } else if out.line(&json!(question).to_string())?.is_break() {
                    return Ok(());
                }
            }
        }
    }
    if list { out.json(&Value::Array(listed)) } else { Ok(()) }
}
