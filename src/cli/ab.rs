//! `infer ab`: do sixteen states preserve reasoning?

use super::args::Common;
use super::console::{Console, Interruptible, Output};
use super::generate::at_least_one;
use super::side_by_side;
use super::subject::{Subject, device_info, open_for, open_journal};
use super::tasks::steps;
use crate::engine::{Engine, Plan as Memory};
use crate::error::{Error, Result};
use crate::experiment::arms::{Arm, FEW, Role, arms, infos, rounded_before};
use crate::experiment::assemble::Terms;
use crate::experiment::output::{results_json, sha256, write_all};
use crate::experiment::prompts::{Mode, Prompter, Style, after_thought, worked};
use crate::experiment::results::{DeviceInfo, ModelInfo, PlanInfo, Results};
use crate::experiment::run::{ANSWER_TOKENS, Plan, Run};
use crate::experiment::stats::Verdict;
use crate::experiment::stored::Stored;
use crate::experiment::tasks::{self, Question, TASKS, Task};
use crate::experiment::{questions, report};
use crate::text::Tokenizer;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::io::IsTerminal;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// Tokens of a window of a user's own text.
const WINDOW: usize = 256;

/// Tokens to spare: a prompt by itself, or a reply that was cut short, may be longer than within a whole text.
const SPARE: usize = 16;

/// Tokens that all sequences together may hold in a cache, so that many arms fit in memory.
const CACHED_TOKENS: usize = 8192;

const EXAMPLES: &str = "\
Examples:
  infer ab                                          the model inside the program: FP16 against INT4, with controls
  infer ab -m DIR --arms f16,q4,q4:tensor           the first arm is the reference
  infer ab -m DIR --arms f16,DIR-w4,model.gguf      the same model from other files, as they are; \"file\": -m's own
  infer ab -m DIR --prompt \"Why is the sky blue?\"   both arms side by side as they write
  infer ab -m DIR --questions mine.jsonl            lines of {\"prompt\": …, \"answer\": …}; id, choices, thought if you like
  infer ab -m DIR --text file.txt                   predictions on your own text
  infer ab --report out/ --expect preserved         files to keep; exit code 1 for another verdict

Arms: f16; q8, q4 (256 and 16 evenly spaced states); uN (N of them, 2 to 256); nf4; lutN (placed by Lloyd-Max);
noise (f16 with Gaussian errors as large as q4's); broken (q4 with its scales shuffled). After a colon, the weights
that share states: 32, 64, 128, channel or tensor, as in q4:64 or lut16:tensor. @mse, @rtn or @hqq chooses the quantizer.
A model directory or a .gguf file is an arm too: another version of the same model; file is the model's own codes.

Verdicts: PRESERVED (no worse by --margin), DEGRADED (worse), CATASTROPHIC (less than half of what the reference has
beyond guessing is left), INCONCLUSIVE (too few questions). A run that is interrupted goes on where it was.";

/// Tell whether a model with 16 weight states still reasons, with controls and honest statistics
///
/// Every arm is the same model with its weights stored in another way, and nothing else changed: same kernels,
/// cache, batches, prompts; greedy. Arms answer the same questions, with written steps and without, and predict the
/// same texts.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A model directory, a .safetensors or .gguf file or a hub id [default: the model inside the program]
    #[arg(short, long, env = "INFER_MODEL", help_heading = "Model")]
    model: Option<String>,
    /// The arms, the reference first
    #[arg(
        long,
        default_value = "f16,q4",
        value_delimiter = ',',
        value_name = "LIST",
        help_heading = "Model"
    )]
    arms: Vec<String>,
    /// Leave out the controls q8, noise and broken (f16 against itself always runs)
    #[arg(long, help_heading = "Model")]
    no_controls: bool,
    /// Leave the embedding and the output matrix in 16-bit floats
    #[arg(long, help_heading = "Model")]
    keep_embedding: bool,
    /// One prompt: both arms side by side as they write, and nothing else
    #[arg(long, value_name = "TEXT", help_heading = "What is asked")]
    #[arg(conflicts_with_all = ["questions", "text", "report", "expect"])]
    prompt: Option<String>,
    /// Questions of your own, one JSON object a line
    #[arg(long, value_name = "PATH", help_heading = "What is asked", conflicts_with = "text")]
    questions: Option<PathBuf>,
    /// Compare predictions on this text, and ask nothing
    #[arg(long, value_name = "PATH", help_heading = "What is asked")]
    text: Option<PathBuf>,
    /// Tasks to ask about, as `infer tasks list` names them
    #[arg(long, default_value = "all", value_delimiter = ',', value_name = "LIST")]
    #[arg(help_heading = "What is asked")]
    tasks: Vec<String>,
    /// Reasoning steps: a number, or a range
    #[arg(short = 'k', long, default_value = "1-8", value_name = "K", value_parser = steps)]
    #[arg(help_heading = "What is asked")]
    steps: RangeInclusive<usize>,
    /// Questions of each task and number of steps
    #[arg(short, long, default_value_t = 8, value_name = "N", value_parser = at_least_one)]
    #[arg(help_heading = "What is asked")]
    n: usize,
    /// Where random numbers start
    #[arg(long, default_value_t = 1, value_name = "S", help_heading = "What is asked")]
    seed: u64,
    /// With written steps, without, or both
    #[arg(long, default_value = "both", value_parser = ["both", "thought", "direct"])]
    #[arg(hide_possible_values = true, value_name = "both|thought|direct", help_heading = "What is asked")]
    modes: String,
    /// Most tokens of a reply [default: a quarter more than the longest worked one; 256 for questions of your own;
    /// where the model allows less, that]
    #[arg(long, value_name = "N", value_parser = at_least_one, help_heading = "What is asked")]
    max_tokens: Option<usize>,
    /// Points of accuracy that count as no loss; fixed before the run
    #[arg(long, default_value_t = 3.0, value_name = "POINTS", help_heading = "What is shown")]
    margin: f64,
    /// Keep results.json, samples_*.jsonl, report.html and the journal in this directory
    #[arg(long, value_name = "DIR", help_heading = "What is shown")]
    report: Option<PathBuf>,
    /// Exit with 1 unless every arm that was asked for has this verdict
    #[arg(long, value_name = "VERDICT", help_heading = "What is shown", conflicts_with = "text")]
    #[arg(value_parser = ["preserved", "degraded", "catastrophic", "inconclusive"])]
    expect: Option<String>,
    /// Sequences that run at once
    #[arg(long, value_name = "N", value_parser = at_least_one, help_heading = "What is shown")]
    sequences: Option<usize>,
}

/// Runs.
pub fn run(args: &Args, common: &Common, console: &Console) -> Result<()> {
    // First what costs nothing and can be wrong.
    if !(args.margin > 0.0 && args.margin < 100.0) {
        return Err(Error::Usage(format!("--margin is {}, expected points between 0 and 100", args.margin)));
    }
    let controls = !args.no_controls && args.prompt.is_none();
    let arms = arms(&args.arms, controls, !args.keep_embedding)?;
    if args.prompt.is_some() && args.arms.len() > 2 {
        return Err(Error::Usage(format!(
            "--prompt has two arms write side by side, --arms names {}",
            args.arms.len()
        )));
    }
    let questions = match &args.questions {
        Some(path) => questions::read(path)?,
        None if args.text.is_some() || args.prompt.is_some() => Vec::new(),
        None => generate(args)?,
    };
    let text = args
        .text
        .as_deref()
        .map(|path| super::perplexity::read(path).map(|text| (path, text)))
        .transpose()?;
    let subject = Subject::open(args.model.as_deref())?;
    arms.iter().try_for_each(|arm| arm.check(&subject.config, &subject.checkpoint))?;
    if let Some(prompt) = &args.prompt {
        return side_by_side::run(&subject, &arms[..2], prompt, args.max_tokens, common, console);
    }
    let prompter = Prompter::new(&subject.tokenizer, &questions)?;
    let modes = match (args.modes.as_str(), questions.is_empty()) {
        (_, true) => Vec::new(),
        ("thought", _) => vec![Mode::Thought],
        ("direct", _) => vec![Mode::Direct],
        _ => vec![Mode::Thought, Mode::Direct],
    };
    let text = text
        .map(|(path, text)| {
            Ok::<_, Error>((path.display().to_string(), subject.tokenizer.encode(&text, true)?))
        })
        .transpose()?;
    if let Some((name, tokens)) = &text
        && tokens.len() < 2
    {
        return Err(Error::file(name, format!("the text has {} tokens, expected at least 2", tokens.len())));
    }
    let limit = subject.config.max_position_embeddings;
    let (context, max_tokens) = match text {
        Some(_) => (WINDOW.min(limit), 0),
        None => lengths(&questions, &modes, &prompter, limit, args)?,
    };
    let context = Memory::context(&subject.config, Some(context))?;
    let sequences = args.sequences.unwrap_or_else(|| (CACHED_TOKENS / context).clamp(1, 32));
    let end = subject.end();
    let closing = end.first().copied().filter(|_| prompter.style == Style::Native);
    let plan = Plan { arms, questions, modes, text, window: context, max_tokens, end, closing };

    let executor = open_for(subject.checkpoint.parameters(), common, console)?;
    let device = device_info(executor.capabilities());
    let model = subject.info();
    let fixed = fixed(args, &plan, &model, &device, prompter.style, (sequences, common.baseline));
    let mut journal = open_journal(("ab", "journal.jsonl"), fixed, args.report.as_deref(), console)?;
    let what = match &plan.text {
        Some((name, tokens)) => format!("{} tokens of {name}", tokens.len()),
        None => format!(
            "{} questions{}",
            plan.questions.len(),
            if plan.modes.len() == 2 { ", each with thought and without" } else { "" }
        ),
    };
    console.say(format_args!(
        "{}: {} on {}, {what}",
        model.name,
        plan.arms.iter().map(|arm| arm.name.as_str()).collect::<Vec<_>>().join(", "),
        device.name
    ));
    let bytes = subject.checkpoint.total_bytes() * plan.arms.len() as u64;
    let bar = console.bar(bytes, "loading", "{bytes} of {total_bytes}");
    let engine = subject.load(&plan.arms, (context, sequences), executor, &bar);
    bar.finish_and_clear();
    let mut engine = engine?;

    let bar = console.bar(plan.work(), "asking", "{pos} of {len}, {elapsed} so far, {eta} left");
    let interruptible = Interruptible::new();
    let found = Run {
        plan: &plan,
        engine: &mut engine,
        prompter: &prompter,
        journal: &mut journal,
        progress: &mut |n| bar.inc(n),
        interrupted: &|| interruptible.interrupted(),
    }
    .all();
    bar.finish_and_clear();
    let found = found?;
    drop(interruptible);

    let digits = digits(&subject.tokenizer, &found.targets)?;
    let is_digit = |token: u32| digits.get(&token).copied().unwrap_or(false);
    let terms = Terms { plan: &plan, margin: args.margin / 100.0, seed: args.seed, is_digit: &is_digit };
    let arm_infos = infos(&plan.arms, &engine, &subject.checkpoint)?;
    let mut tasks: Vec<String> = Vec::new();
    for question in &plan.questions {
        if !tasks.contains(&question.task) {
            tasks.push(question.task.clone());
        }
    }
    let results = Results {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        date: journal.header.date.clone(),
        plan: PlanInfo {
            hash: journal.header.hash.clone(),
            margin: args.margin / 100.0,
            seed: args.seed,
            tasks,
            questions: plan.questions.len(),
            prompts: json!(prompter.style).as_str().unwrap_or_default().to_owned(),
            sequences,
        },
        cells: terms.cells(&found),
        comparisons: terms.comparisons(&found),
        limits: limits(&plan, &engine, args, prompter.style),
        arms: arm_infos,
        model,
        device,
        seconds: journal.seconds,
    };
    let mut out = Output::default();
    let written = args.report.as_deref().map(|dir| write_all(dir, &results, &plan, &prompter, &found));
    let written = written.transpose()?;
    if common.json {
        out.json(&results_json(&results))?;
    } else {
        let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let _ = out.write(&report::table(&results, color))?;
    }
    if let Some(path) = written {
        console.say(format_args!("report: {}", path.display()));
    } else {
        journal.discard();
    }
    expect(args, &plan, &results)
}

/// The questions of the tasks that were named.
fn generate(args: &Args) -> Result<Vec<Question>> {
    let tasks = match args.tasks.as_slice() {
        [all] if all == "all" => TASKS.to_vec(),
        names => names.iter().map(|name| Task::named(name.trim())).collect::<Result<_>>()?,
    };
    tasks::questions(&tasks, &args.steps, args.n, args.seed)
}

/// Tokens of the longest text that is run, and most tokens of a reply, of a model that allows texts of `limit` tokens.
///
/// Beside prompts with their replies, which may be cut short, worked solutions are predicted, and after a thought an
/// answer is written and another predicted.
fn lengths(
    questions: &[Question],
    modes: &[Mode],
    prompter: &Prompter<'_>,
    limit: usize,
    args: &Args,
) -> Result<(usize, usize)> {
    let (mut prompt, mut reply, mut whole, mut after) = (0, 0, 0, 0);
    for question in questions {
        for &mode in modes {
            let text = prompter.text(question, mode)?;
            let (all, from) = prompter.encode_after(&text, &worked(question, mode))?;
            prompt = prompt.max(from);
            reply = reply.max(all.len() - from);
            whole = whole.max(all.len());
            if mode == Mode::Thought {
                let ending = format!("{} {}", after_thought(""), question.answer);
                let (all, from) = prompter.encode_after(&text, &ending)?;
                after = after.max(all.len() - from + ANSWER_TOKENS);
            }
        }
    }
    let beside = after + SPARE;
    let room = limit.saturating_sub(beside);
    if whole > room {
        let remedy = match &args.questions {
            Some(path) => format!("shorten those of {}", path.display()),
            None => "ask for fewer --steps or other --tasks".to_owned(),
        };
        return Err(Error::Usage(format!(
            "a question with its worked solution and room for another answer takes {} tokens, the model allows {limit}: \
             {remedy}",
            whole + beside
        )));
    }
    // A worked solution is longer than its prompt, so there is room for a reply.
    let room = room - prompt;
    let usual = if args.questions.is_some() { 256 } else { reply + reply / 4 + 8 };
    let most = match args.max_tokens {
        Some(n) if n > room => {
            return Err(Error::Usage(format!(
                "--max-tokens is {n}, the model allows {room} after the longest prompt, of {prompt} tokens"
            )));
        }
        given => given.unwrap_or(usual.min(room)),
    };
    Ok((whole.max(prompt + most) + beside, most))
}

/// All that is fixed before the run.
fn fixed(
    args: &Args,
    plan: &Plan,
    model: &ModelInfo,
    device: &DeviceInfo,
    style: Style,
    (sequences, baseline): (usize, bool),
) -> Value {
    let arm = |arm: &Arm| {
        let mut fields = vec![json!(arm.name), json!(arm.role.name()), json!(arm.embedding)];
        fields.extend(arm.stored.as_ref().and_then(Stored::hash).map(Value::String));
        Value::Array(fields)
    };
    let text = plan.text.as_ref().map(|(name, tokens)| json!([name, sha256(bytemuck::cast_slice(tokens))]));
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "model": model,
        "device": device,
        "baseline": baseline,
        "arms": plan.arms.iter().map(arm).collect::<Vec<_>>(),
        "questions": sha256(json!(plan.questions).to_string().as_bytes()),
        "text": text,
        "modes": plan.modes,
        "prompts": style,
        "margin": args.margin,
        "seed": args.seed,
        "max_tokens": plan.max_tokens,
        "sequences": sequences,
    })
}

/// Which of the tokens that were predicted are (part of) numbers.
fn digits(tokenizer: &Tokenizer, targets: &[Vec<u32>]) -> Result<HashMap<u32, bool>> {
    let all: HashSet<u32> = targets.iter().flatten().copied().collect();
    let is = |token: u32| Ok(tokenizer.decode(&[token])?.chars().any(|c| c.is_ascii_digit()));
    all.into_iter().map(|token| Ok((token, is(token)?))).collect()
}

/// What a reader has to know.
fn limits(plan: &Plan, engine: &Engine, args: &Args, style: Style) -> Vec<String> {
    let mut limits = Vec::new();
    for (arm, loaded) in plan.arms.iter().zip(engine.arms()).filter(|(arm, _)| arm.role == Role::Asked) {
        let few = arm.treatment.and_then(|t| t.states()).is_some_and(|states| states <= FEW);
        if few && rounded_before(&loaded.losses) {
            limits.push(format!(
                "The layers' weights were rounded before they were published: {} hardly changes them. This run \
                 cannot tell what so few states do to a model that was never rounded.",
                arm.name
            ));
        }
    }
    limits.push(match plan.arms.iter().any(|arm| arm.embedding) {
        true => "The embedding and the output matrix are treated like all other matrices.".to_owned(),
        false => "The embedding and the output matrix stay in 16-bit floats in every arm.".to_owned(),
    });
    limits.push(match plan.arms.iter().any(|arm| arm.stored.is_some()) {
        true => {
            "Arms that are files have their own vectors (norms, biases), embedding and output matrix; the tokenizer, \
             the configuration and the kernels are the same in every arm."
        }
        false => "Vectors (norms, biases), keys, values and activations are the same in every arm.",
    }
    .to_owned());
    match style {
        // What follows is about questions.
        _ if plan.questions.is_empty() => {}
        Style::Native => limits.push(
            "The model was trained on questions of this kind, made by the same generator; those asked here are \
             held out by a hash of their text. What holds for it need not hold for a large language model."
                .to_owned(),
        ),
        Style::FewShot => limits.push(
            "The model was not trained on these tasks: it sees two worked examples before each question. Where the \
             reference itself is near chance there is nothing to lose, and the verdict says so."
                .to_owned(),
        ),
        Style::Chat => limits.push("Questions go through the model's chat template.".to_owned()),
        Style::Plain => limits.push("Questions are put without examples or a chat template.".to_owned()),
    }
    if args.questions.is_none() && args.text.is_none() {
        limits.push(
            "Estimates of information are the models' own likelihoods, not measurements: I(X;Z) is held against a \
             few other questions only."
                .to_owned(),
        );
    }
    limits
}

/// Whether the verdicts are those that were expected.
fn expect(args: &Args, plan: &Plan, results: &Results) -> Result<()> {
    let Some(expected) = &args.expect else { return Ok(()) };
    for arm in plan.arms.iter().filter(|arm| arm.role == Role::Asked) {
        let Some(found) = results.comparisons.iter().find(|c| c.arm == arm.name) else { continue };
        let verdict = match found.overall.verdict {
            Verdict::Preserved => "preserved",
            Verdict::Degraded => "degraded",
            Verdict::Catastrophic => "catastrophic",
            Verdict::Inconclusive => "inconclusive",
        };
        if verdict != expected {
            return Err(Error::Model(format!("{}: expected {expected}, found {verdict}", arm.name)));
        }
    }
    Ok(())
}
