//! The command line, `infer`: options in, text out, and what went wrong in one line.
//!
//! A subcommand is one file here with its options and its `run`. Text and JSON go to standard output,
//! everything else (progress, notes, figures) to standard error. Checks that cost nothing come first: a bad
//! prompt is refused before a device is opened or a weight is read.

mod ab;
mod answer;
mod args;
mod bench;
mod calibration;
mod chat;
mod console;
mod devices;
mod generate;
mod inspect;
mod perplexity;
mod quantize;
mod session;
mod side_by_side;
mod subject;
mod sweep;
mod tasks;

use crate::error::{Error, Result};
use args::Common;
use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use console::Console;
use std::ffi::OsString;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;

const EXAMPLES: &str = "\
Examples:
  infer ab                                 do 16 weight states preserve reasoning? The model inside the program
  infer --model m.safetensors --bits 4 \"The capital of France is\"
  infer -m DIR -b 16 -n 64 --temp 0 \"Why is the sky blue?\"
  infer -m HuggingFaceTB/SmolLM2-135M-Instruct \"Tell me a story.\"
  cat report.txt | infer -m DIR -          a prompt from standard input
  infer -m DIR                             a chat, on a terminal
  infer -m model.gguf \"Tell me a story.\"   the file's own 4 bits, tokenizer and chat template
  infer inspect model.gguf                 what it is, whether it runs, and what memory it needs
  infer -m DIR --raw \"Once upon a time\"    plain continuation, no chat template
  infer devices --check                    is my driver right?
  infer perplexity -m DIR -b 4 --file text.txt
  infer quantize -m DIR -o OUT             4-bit weights in files that others load too
  infer bench -m DIR -b 16,4               tokens per second, and how near that is to what the device can do

Every option with [env: …] can be set in the environment; the command line wins.
A prompt that is the name of a command goes after --: infer -m DIR -- devices";

/// Runs language models with 16-bit, 8-bit or 4-bit weights on any GPU, or on the CPU.
///
/// Without a command, continues a prompt, or answers it if the model is a chat model. Weights that were published as
/// floats are packed to --bits while they load; those that are quantized already (GGUF, GPTQ, AWQ, compressed-tensors,
/// MLX) run as they are.
#[derive(Debug, Parser)]
#[command(name = "infer", version, after_help = EXAMPLES, max_term_width = 110)]
#[command(override_usage = "infer [OPTIONS] [PROMPT]\n       infer <COMMAND> [OPTIONS]")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    generate: generate::Args,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Command {
    Ab(ab::Args),
    Bench(bench::Args),
    Devices(devices::Args),
    Inspect(inspect::Args),
    Perplexity(perplexity::Args),
    Quantize(quantize::Args),
    Sweep(sweep::Args),
    Tasks(tasks::Args),
}

/// Options that the environment may set, and what on the command line speaks against each.
const AGAINST: [(&str, &str); 4] =
    [("tune", "no_tune"), ("no_tune", "tune"), ("model", "shape"), ("system", "raw")];

/// Runs the program, and tells how the process is to end. Wrong use that the parser of options finds, and questions for
/// help, end it at once.
///
/// # Errors
/// When anything fails, in the way that [`Error`] says.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Result<ExitCode> {
    // Libraries that read what strangers wrote may panic; who calls them catches that, and says it in words.
    static PANIC: Mutex<Option<String>> = Mutex::new(None);
    std::panic::set_hook(Box::new(|panic| {
        if let Ok(mut last) = PANIC.lock() {
            *last = Some(panic.to_string());
        }
    }));
    let matches = parse(arguments.into_iter().collect());
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    catch_unwind(AssertUnwindSafe(|| cli.run(&matches))).unwrap_or_else(|_| {
        let what = PANIC.lock().ok().and_then(|mut last| last.take()).unwrap_or_default();
        Err(Error::Model(format!("this is a bug in infer, please report it: {what}")))
    })
}

/// The options, as `--help` shows them: names of environment variables, but not what is in them.
fn command() -> clap::Command {
    let hidden = |arg: Arg| arg.hide_env_values(true);
    Cli::command().mut_args(hidden).mut_subcommands(|sub| sub.mut_args(hidden))
}

/// What the command line says, and the environment where that is silent. The environment is not asked for what cannot go
/// together with something on the command line, nor, before a command, for options that are not the command's.
fn parse(arguments: Vec<OsString>) -> ArgMatches {
    let silent = |arg: Arg| arg.env(Resettable::Reset);
    let line = command().mut_args(silent).mut_subcommands(|sub| sub.mut_args(silent));
    let Ok(line) = line.try_get_matches_from(&arguments) else {
        // Whatever is wrong is wrong with the environment too; and help is to name that.
        return command().get_matches_from(arguments);
    };
    let given = line.subcommand().map_or(&line, |(_, given)| given);
    let on_line = |id: &str| given.ids().any(|known| known == id) && on_command_line(given, id);
    let heard = |arg: Arg| match AGAINST.iter().any(|(id, other)| arg.get_id() == id && on_line(other)) {
        true => silent(arg),
        false => arg,
    };
    let alone = line.subcommand().is_none();
    command()
        .mut_args(|arg| if alone || arg.is_global_set() { heard(arg) } else { silent(arg) })
        .mut_subcommands(|sub| sub.mut_args(heard))
        .get_matches_from(arguments)
}

fn on_command_line(matches: &ArgMatches, id: &str) -> bool {
    matches.value_source(id) == Some(ValueSource::CommandLine)
}

impl Cli {
    fn run(self, matches: &ArgMatches) -> Result<ExitCode> {
        let console = Console::new(&self.common)?;
        match self.command {
            None => generate::run(self.generate, &self.common, &console),
            Some(command) => {
                refuse_before(matches)?;
                match command {
                    Command::Ab(args) => ab::run(&args, &self.common, &console),
                    Command::Bench(args) => bench::run(&args, &self.common, &console),
                    Command::Devices(args) => devices::run(&args, &self.common, &console),
                    Command::Inspect(args) => inspect::run(&args, &self.common, &console),
                    Command::Perplexity(args) => perplexity::run(&args, &self.common, &console),
                    Command::Quantize(args) => quantize::run(&args, &self.common, &console),
                    Command::Sweep(args) => sweep::run(&args, &self.common, &console),
                    Command::Tasks(args) => tasks::run(&args, &self.common, &console),
                }
                .map(|()| ExitCode::SUCCESS)
            }
        }
    }
}

/// Options before a command that are not meant for it would be dropped silently.
fn refuse_before(matches: &ArgMatches) -> Result<()> {
    let Some(name) = matches.subcommand_name() else { return Ok(()) };
    let cli = command();
    let mut foreign = cli.get_arguments().filter(|arg| !arg.is_global_set()).map(|arg| arg.get_id().as_str());
    let Some(id) = foreign.find(|id| on_command_line(matches, id)) else { return Ok(()) };
    if id == "prompt" {
        return Err(Error::Usage(format!(
            "{name:?} is a command, and there is a prompt before it; put a prompt in quotes, or after --"
        )));
    }
    let option = id.replace('_', "-");
    let mut advice = format!("{name} has no such option");
    // A command may have commands of its own.
    let (mut command, mut given, mut called) = (&cli, matches, "infer".to_owned());
    while let Some((name, inner)) = given.subcommand()
        && let Some(sub) = command.find_subcommand(name)
    {
        called = format!("{called} {name}");
        let meant = |arg: &&Arg| match arg.is_positional() {
            true => arg.get_id() == id,
            false => arg.get_long() == Some(&option),
        };
        if let Some(arg) = sub.get_arguments().find(meant) {
            let written = match arg.is_positional() {
                true => id.to_uppercase(),
                false => format!("--{option} …"),
            };
            advice = format!("put it after the command: {called} {written}");
        }
        (command, given) = (sub, inner);
    }
    Err(Error::Usage(format!("--{option} stands before {name:?}: {advice}")))
}

/// Prints an error and its causes on one line of standard error.
pub fn report(error: &Error) {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        // Most messages already say what caused them.
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    let text: Vec<&str> = text.split_whitespace().collect();
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "error: {}", text.join(" "));
}

/// Where files lie that can be made again: journals of runs without a report, measurements of kernels, compiled pipelines.
fn cache() -> PathBuf {
    own_cache().unwrap_or_else(|| std::env::temp_dir().join("sixteen-states"))
}

/// The same, where it is the user's own: what a driver trusts must not come from a directory that others can write.
fn own_cache() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = || set("HOME").map(|home| home.join(".cache"));
    let base = set("XDG_CACHE_HOME").or_else(|| set("LOCALAPPDATA")).or_else(home)?;
    Some(base.join("sixteen-states"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_consistent() {
        command().debug_assert();
    }
}
