//! `infer quantize`: a model's weights as codes, in files that other programs read too.

use super::args::Common;
use super::calibration::{SEQUENCES, TOKENS, Texts, WINDOW, fits};
use super::console::{Console, Interruptible, Output};
use super::generate::at_least_one;
use super::session::{self, Session};
use crate::checkpoint::{Checkpoint, shipped};
use crate::error::{Error, Result};
use crate::export::gguf::{BLOCK, TYPES, Type};
use crate::export::{
    Budget, Calibration, Description, LAYOUTS, Layout, Part, Recipe, Scaling, Settings, Stored, Summary,
    Watch, choose_bits, matrices,
};
use crate::quantize::{QUANTIZERS, Quantizer, Zeros};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What `--to` is called for GGUF files.
const GGUF: &str = "gguf";

/// Architectures whose matrices are stored as `[inputs, outputs]`: layouts of codes are for linear layers.
const TRANSPOSED: &[&str] = &["GPT2LMHeadModel"];

const EXAMPLES: &str = "\
Examples:
  infer quantize -m DIR -o DIR-w4                       4 bits in groups of 32, for infer, transformers, vLLM
  infer quantize -m DIR --group 128 --symmetric -o OUT  4.125 bits a weight: without zeros
  infer quantize -m DIR -o model-q4_0.gguf --symmetric  a GGUF file, for llama.cpp
  infer quantize -m DIR -o model.gguf --type f16        the same with 16-bit floats
  infer quantize -m DIR --to gptq --quantizer rtn -o OUT
  infer quantize -m DIR --quantizer gptq --calibration text.txt -o OUT
  infer quantize -m DIR --bits-for down_proj=8 --bits-for '*.layers.0.*=16' -o OUT
  infer quantize -m DIR --auto-bits 4.5 -o OUT         bits where the model minds rounding most
  infer quantize -m DIR --states 8 -o OUT              8 numbers a group, stored in 4 bits
  infer inspect OUT                                    what came of it
  infer perplexity -m OUT --file text.txt              what it costs; compare with -m DIR -b 16

Quantizers: mse (the grid with the least squared error, the default), rtn (the group's range), hqq (that range, its zero
moved to where most weights are nearly right: of use where zeros need not be whole, which is q4_1 here); and two that look
at what matrices are multiplied with on a text: gptq (what rounding a column changes is made good by the columns after
it) and awq (columns that matter more are scaled up before rounding). docs/quantizers.md has what each costs. Tables of
states (lutN) are treatments of `infer sweep`: no layout here can hold them.
The embedding and the output matrix stay 16-bit floats. A model goes through matrix by matrix; what is written has a
temporary name until it is whole.";

/// Write a model with 4- or 8-bit weights, in files that other programs read too
///
/// The matrices of the layers become codes that share a scale by groups. `infer -m OUT` runs them as they are.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A model directory, a .safetensors or .gguf file in 16- or 32-bit floats, or a hub id [default: the small model
    /// inside the program]
    #[arg(short, long, env = "INFER_MODEL", help_heading = "Model")]
    model: Option<String>,
    /// The directory to write, or the file, whose name ends with .gguf
    #[arg(short, long, value_name = "PATH", help_heading = "What is written")]
    output: PathBuf,
    /// The layout [default: gguf if the output ends with .gguf, else compressed-tensors]
    #[arg(long, value_name = "LAYOUT", value_parser = layouts(), hide_possible_values = true)]
    #[arg(value_name = "compressed-tensors|gguf|gptq", help_heading = "What is written")]
    to: Option<String>,
    /// Replace what is there
    #[arg(long, help_heading = "What is written")]
    force: bool,
    /// What chooses scales and zeros [default: mse]
    #[arg(long, value_parser = quantizer(), hide_possible_values = true)]
    #[arg(value_name = "NAME", help_heading = "Weights")]
    quantizer: Option<&'static Quantizer>,
    /// Bits of a weight
    #[arg(short, long, default_value = "4", value_parser = bits(), hide_possible_values = true)]
    #[arg(value_name = "4|8", help_heading = "Weights")]
    bits: u32,
    /// Weights of a row that share a scale; smaller is truer and larger [default: 32, all that GGUF files have]
    #[arg(long, value_parser = super::args::group(), hide_possible_values = true)]
    #[arg(value_name = "32|64|128", help_heading = "Weights")]
    group: Option<usize>,
    /// Count codes from the middle, so that no zeros are stored: a little smaller and less true. Of compressed-tensors
    /// before 0.14 transformers reads only that
    #[arg(long, help_heading = "Weights")]
    symmetric: bool,
    /// Numbers that a group has, in codes of 4 bits up to 16 of them and of 8 bits from there on [default: all that the
    /// bits allow]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=256))]
    #[arg(help_heading = "Weights", conflicts_with_all = ["bits", "auto_bits"])]
    states: Option<u32>,
    /// Other bits for the matrices whose names have PATTERN in them, or fit it where it has stars: 4, 8, or 16 for floats;
    /// may be given several times, the last that fits counts
    #[arg(long, value_name = "PATTERN=BITS", value_parser = bits_for, help_heading = "Weights")]
    bits_for: Vec<(String, u32)>,
    /// Choose bits and groups matrix by matrix: so many bits a weight on average, scales and zeros included, spent where
    /// rounding is measured to cost the model most
    #[arg(long, value_name = "B", allow_negative_numbers = true, value_parser = average)]
    #[arg(help_heading = "Weights", conflicts_with_all = ["bits", "bits_for", "kind"])]
    auto_bits: Option<f64>,
    /// A UTF-8 text to calibrate on, for gptq, awq and --auto-bits [default: a short one that ships with the program;
    /// training questions for the models of this project]
    #[arg(long, value_name = "FILE", help_heading = "Calibration")]
    calibration: Option<PathBuf>,
    /// Tokens of it at most
    #[arg(long, value_name = "N", default_value_t = TOKENS, value_parser = at_least_one)]
    #[arg(help_heading = "Calibration")]
    calibration_tokens: usize,
    /// The type of a GGUF file's matrices [default: q4_0 if --symmetric, else q4_1; q8_0 for 8 bits]
    #[arg(long = "type", value_parser = types(), hide_possible_values = true)]
    #[arg(value_name = "q4_0|q4_1|q8_0|f16", help_heading = "Weights", conflicts_with_all = ["bits", "symmetric", "states"])]
    kind: Option<&'static Type>,
}

fn layouts() -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new(LAYOUTS.iter().map(|layout| layout.name).chain([GGUF]))
}

fn bits() -> impl TypedValueParser<Value = u32> {
    PossibleValuesParser::new(["4", "8"]).try_map(|bits| bits.parse::<u32>())
}

fn quantizer() -> impl TypedValueParser<Value = &'static Quantizer> {
    PossibleValuesParser::new(QUANTIZERS.iter().map(|quantizer| quantizer.name))
        .try_map(|name| Quantizer::named(&name).ok_or_else(|| format!("there is no quantizer {name:?}")))
}

fn types() -> impl TypedValueParser<Value = &'static Type> {
    PossibleValuesParser::new(TYPES.iter().map(|kind| kind.name))
        .try_map(|name| Type::named(&name).ok_or_else(|| format!("there is no type {name:?}")))
}

fn bits_for(text: &str) -> Result<(String, u32), String> {
    let parts = text.rsplit_once('=').map(|(pattern, bits)| (pattern.to_owned(), bits.parse::<u32>()));
    match parts {
        Some((pattern, Ok(bits @ (4 | 8 | 16)))) if !pattern.is_empty() => Ok((pattern, bits)),
        _ => Err("expected a part of a name and 4, 8 or 16, as in down_proj=8".to_owned()),
    }
}

fn average(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(bits) if (4.0..=16.0).contains(&bits) => Ok(bits),
        _ => Err("expected 4 to 16 bits a weight, as in 4.5".to_owned()),
    }
}

/// What is to be written.
#[derive(Clone, Copy)]
enum Goal {
    Directory(&'static Layout),
    File(&'static Type),
}

impl Goal {
    /// What can be stored of a grid of codes of so many bits.
    fn zeros(self, symmetric: bool, bits: u32) -> Zeros {
        match self {
            Goal::Directory(layout) => (layout.zeros)(symmetric),
            Goal::File(kind) => {
                let own = kind
                    .codes
                    .filter(|(usual, _)| *usual == bits)
                    .or_else(|| Type::of_bits(bits, symmetric)?.codes);
                own.map_or(Zeros::Free, |(_, zeros)| zeros)
            }
        }
    }
}

impl Args {
    /// Where to, and how most matrices are to be stored; none where they stay floats.
    fn goal(&self) -> Result<(Goal, Settings)> {
        let wrong = |problem: String| Err(Error::Usage(problem));
        let out = self.output.display();
        let file = crate::checkpoint::gguf::is_named(&self.output);
        let to = self.to.as_deref().unwrap_or(if file { GGUF } else { LAYOUTS[0].name });
        let quantizer = self.quantizer.unwrap_or(QUANTIZERS[0]);
        let bits = self.states.map_or(self.bits, |states| if states <= 16 { 4 } else { 8 });
        let (states, group) = (self.states, self.group.unwrap_or(BLOCK));
        let settings = Settings { quantizer, bits, states, group, symmetric: self.symmetric };
        if self.calibration.is_some() && !self.looks() {
            return wrong("--calibration is for --quantizer gptq or awq, and for --auto-bits".to_owned());
        }
        if let Some(layout) = Layout::named(to) {
            if file {
                return wrong(format!("{out} names a GGUF file, and --to {to} writes a directory"));
            }
            if let Some(kind) = self.kind {
                return wrong(format!("--type {} is for --to gguf; --bits is for {to}", kind.name));
            }
            if !layout.mixes && (self.auto_bits.is_some() || !self.bits_for.is_empty()) {
                let problem = "stores all matrices alike; choose --to compressed-tensors or gguf";
                return wrong(format!("--bits-for and --auto-bits: {to} {problem}"));
            }
            return Ok((Goal::Directory(layout), settings));
        }
        if !file {
            return wrong(format!("{out} is to be a GGUF file: expected a name that ends with .gguf"));
        }
        if let Some(group) = self.group.filter(|&group| group != BLOCK) {
            return wrong(format!("--group {group}: blocks of GGUF files have {BLOCK} weights"));
        }
        match self.kind.or(Type::of_bits(bits, self.symmetric)) {
            Some(kind) => {
                let symmetric = kind.codes.is_some_and(|(_, zeros)| zeros == Zeros::Middle);
                Ok((Goal::File(kind), Settings { symmetric, ..kind.settings(settings).unwrap_or(settings) }))
            }
            None => wrong(format!("there is no type of {bits} bits")),
        }
    }

    /// Whether activations are needed.
    fn looks(&self) -> bool {
        self.quantizer.is_some_and(|quantizer| quantizer.calibrated.is_some()) || self.auto_bits.is_some()
    }

    /// Notes the matrices that are to have other bits.
    fn stored(&self, checkpoint: &Checkpoint, recipe: &mut Recipe<'_>) -> Result<()> {
        let names = matrices(checkpoint)?;
        for (pattern, bits) in &self.bits_for {
            let fitting: Vec<&String> = names.iter().filter(|name| fits(pattern, name)).collect();
            if fitting.is_empty() {
                let some: Vec<&str> = names.iter().take(7).map(String::as_str).collect();
                let problem = "fits no matrix; the first of them are";
                return Err(Error::Usage(format!("--bits-for {pattern:?} {problem} {}", some.join(", "))));
            }
            for name in fitting {
                let stored = Stored { bits: *bits, group: recipe.settings.group };
                match stored.bits == recipe.settings.bits {
                    true => drop(recipe.stored.remove(name)),
                    false => drop(recipe.stored.insert(name.clone(), stored)),
                }
            }
        }
        Ok(())
    }

    /// Spends the bits that there are.
    fn spend(
        &self,
        average: f64,
        goal: Goal,
        found: &Checkpoint,
        recipe: &mut Recipe<'_>,
        console: &Console,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Vec<Part>> {
        let symmetric = self.symmetric;
        let groups: Vec<usize> = match (goal, self.group) {
            (Goal::File(_), _) => vec![BLOCK],
            (_, Some(group)) => vec![group],
            (_, None) => vec![128, 64, 32],
        };
        let way = |bits: u32| groups.iter().map(move |&group| Stored { bits, group });
        let floats = Stored { bits: 16, group: recipe.settings.group };
        let ways: Vec<Stored> = way(4).chain(way(8)).chain([floats]).collect();
        let settings = recipe.settings;
        let bytes = |Stored { bits, group }: Stored, shape: [usize; 2]| match goal {
            _ if bits == 16 => Type::of_bits(16, symmetric)?.bytes(shape),
            Goal::Directory(layout) => layout.bytes(&Settings { bits, group, ..settings }, shape),
            Goal::File(_) => Type::of_bits(bits, symmetric)?.bytes(shape),
        };
        let zeros = |way: Stored| goal.zeros(symmetric, way.bits);
        let budget = Budget { average, ways: &ways, bytes: &bytes, zeros: &zeros };
        let parts = recipe.calibration.as_ref().map_or(0, |calibration| calibration.inputs().len());
        let bar = console.bar(parts as u64, "measuring", "{pos} of {len} parts, {eta} left");
        let chosen = choose_bits(found, recipe, &budget, &mut || bar.inc(1), interrupted);
        bar.finish_and_clear();
        chosen
    }
}

/// Writes.
pub fn run(args: &Args, common: &Common, console: &Console) -> Result<()> {
    let (goal, settings) = args.goal()?;
    let name = args.model.as_deref().filter(|name| !name.is_empty()).unwrap_or(shipped::NAME);
    let found = session::Description::named(name)?;
    if found.checkpoint.aside() > 0 {
        let problem =
            "is one part of a model: what would be written has its configuration and not all of its tensors";
        return Err(Error::Model(format!("{name}: {problem}; quantize the text model's own checkpoint")));
    }
    if TRANSPOSED.contains(&found.config.architecture.as_str()) {
        let problem = "has its matrices the other way around, which no layout of codes has";
        return Err(Error::Model(format!("{}: {problem}", found.config.architecture)));
    }
    apart(&args.output, &[found.source.directory.path(), &found.source.weights])?;
    let mut recipe = Recipe::plain(settings);
    args.stored(&found.checkpoint, &mut recipe)?;
    let (mut session, alone, mut texts) = match args.looks() {
        true => {
            let window = found.context(Some(WINDOW.min(found.config.max_position_embeddings)))?;
            let texts = Texts::new(args.calibration.as_deref(), &found, window, args.calibration_tokens)?;
            (Some(found.load_for(window, SEQUENCES, common, console)?), None, Some(texts))
        }
        false => (None, Some(found), None),
    };
    let calibrated = texts.as_ref().map(|texts| json!({"text": texts.source, "tokens": texts.tokens()}));
    let (found, engine) = match (&mut session, &alone) {
        (Some(Session { description, engine, .. }), _) => (&*description, Some(engine)),
        (None, Some(found)) => (found, None),
        (None, None) => unreachable!("a model was found"),
    };
    let interruptible = Interruptible::new();
    let interrupted = || interruptible.interrupted();
    let started = Instant::now();
    let tokens = texts.as_ref().map_or(0, Texts::tokens) as u64;
    let reading = console.bar(tokens, "calibrating", "{pos} of {len} tokens, {per_sec}, {eta} left");
    let mut read = |tokens: usize| {
        // A pass ends with its last token.
        if reading.is_finished() {
            reading.reset();
        }
        reading.inc(tokens as u64);
        if reading.length().is_some_and(|all| reading.position() >= all) {
            reading.finish_and_clear();
        }
    };
    let mut parts = Vec::new();
    if let (Some(engine), Some(texts)) = (engine, &mut texts) {
        let windows = std::mem::take(&mut texts.windows);
        recipe.calibration = Some(Calibration::new(engine, windows, &mut read)?);
        if let Some(average) = args.auto_bits {
            parts = args.spend(average, goal, &found.checkpoint, &mut recipe, console, &interrupted)?;
        }
        let zeros = |bits: u32| goal.zeros(settings.symmetric, bits);
        (recipe.scaling, recipe.unscaled) =
            Scaling::find(&found.checkpoint, &mut recipe, &zeros, &interrupted)?;
    }
    let model = Description { name, directory: &found.source.directory, checkpoint: &found.checkpoint };
    let bar = console.bar(
        found.checkpoint.total_bytes(),
        "quantizing",
        "{bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
    );
    let mut watch = Watch { progress: &mut |bytes| bar.inc(bytes), interrupted: &interrupted };
    let place = (args.output.as_path(), args.force);
    let summary = match goal {
        Goal::Directory(layout) => layout.write(&model, &mut recipe, place, &mut watch),
        Goal::File(kind) => kind.write(&model, &mut recipe, place, &mut watch),
    };
    bar.finish_and_clear();
    let (summary, seconds) = (summary?, started.elapsed().as_secs_f64());

    let mut out = Output::default();
    if common.json {
        let mut object = object(goal, settings, name, &args.output, &summary, seconds)?;
        object["calibration"] = json!(calibrated);
        object["parts"] = json!(parts);
        return out.json(&object);
    }
    let _ = out.write(&text(&args.output, &summary))?;
    for (list, problem) in [
        (&summary.uneven, "left 16-bit floats: their rows are not whole groups"),
        (&summary.unseen, "rounded without looking at activations, which only dense layers show"),
        (&summary.unscaled, "without factors: what they are multiplied with has no place for them"),
    ] {
        if let Some(first) = list.first() {
            console.note(format_args!("{} matrices were {problem} (the first is {first})", list.len()));
        }
    }
    console.say(format_args!("[{seconds:.1} s]"));
    Ok(())
}

/// Refuses to write over the model that is read.
fn apart(out: &Path, sources: &[&Path]) -> Result<()> {
    let Ok(there) = out.canonicalize() else { return Ok(()) };
    match sources.iter().filter_map(|path| path.canonicalize().ok()).any(|path| path.starts_with(&there)) {
        true => Err(Error::Usage(format!("{}: that is where the model lies that is read", out.display()))),
        false => Ok(()),
    }
}

fn object(
    goal: Goal,
    settings: Settings,
    name: &str,
    out: &Path,
    summary: &Summary,
    seconds: f64,
) -> Result<Value> {
    let (layout, settings) = match goal {
        Goal::Directory(layout) => (layout.name, Some(settings)),
        Goal::File(kind) => (kind.name, kind.settings(settings)),
    };
    let mut object = json!({
        "model": name,
        "output": out.display().to_string(),
        "layout": layout,
        "quantizer": settings.map(|s| s.quantizer.name),
        "bits": settings.map_or(16, |s| s.bits),
        "group": settings.map(|s| s.group),
        "symmetric": settings.map(|s| s.symmetric),
        "states": settings.and_then(|s| s.states),
        "seconds": seconds,
    });
    let summary = serde_json::to_value(summary).map_err(|e| Error::Model(e.to_string()))?;
    if let (Value::Object(object), Value::Object(summary)) = (&mut object, summary) {
        object.extend(summary);
    }
    Ok(object)
}

fn text(out: &Path, summary: &Summary) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let mut text = format!(
        "{}: {:.1} MiB, {:.1} before\n",
        out.display(),
        mib(summary.bytes),
        mib(summary.bytes_before)
    );
    if summary.matrices == 0 {
        return text;
    }
    text += &format!(
        "{} matrices at {:.2} bits a weight, relative squared error {:.3e}:\n",
        summary.matrices, summary.bits_per_weight, summary.relative_error
    );
    if summary.stored.len() > 1 {
        let stored = summary.stored.iter().map(|(how, count)| format!("{how}: {count}"));
        text += &format!("  matrices by bits and group: {}\n", stored.collect::<Vec<_>>().join(", "));
    }
    for kind in &summary.kinds {
        text += &format!("  {:<24} {:>4} {:>10.3e}\n", kind.kind, kind.matrices, kind.relative_error);
    }
    text
}
