//! `infer quantize`: a model's weights as codes, in files that other programs read too.

use super::args::Common;
use super::console::{Console, Interruptible, Output};
use super::session;
use crate::checkpoint::shipped;
use crate::error::{Error, Result};
use crate::export::gguf::{BLOCK, TYPES, Type};
use crate::export::{Description, LAYOUTS, Layout, Settings, Summary, Watch};
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
  infer quantize -m DIR -o DIR-w4                       4 bits in groups of 32, for vLLM and infer itself
  infer quantize -m DIR --group 128 --symmetric -o OUT  4.125 bits a weight, no zeros: transformers reads it too
  infer quantize -m DIR -o model-q4_0.gguf --symmetric  a GGUF file, for llama.cpp
  infer quantize -m DIR -o model.gguf --type f16        the same with 16-bit floats
  infer quantize -m DIR --to gptq --quantizer rtn -o OUT
  infer inspect OUT                                    what came of it
  infer perplexity -m OUT --file text.txt              what it costs; compare with -m DIR -b 16

Quantizers: mse (the grid with the least squared error, the default), rtn (the group's range) and hqq (that range, its
zero moved to where most weights are nearly right: of use where zeros need not be whole, which is q4_1 here).
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
    /// Count codes from the middle, so that no zeros are stored: a little smaller and less true. transformers reads
    /// compressed-tensors only so
    #[arg(long, help_heading = "Weights")]
    symmetric: bool,
    /// The type of a GGUF file's matrices [default: q4_0 if --symmetric, else q4_1; q8_0 for 8 bits]
    #[arg(long = "type", value_parser = types(), hide_possible_values = true)]
    #[arg(value_name = "q4_0|q4_1|q8_0|f16", help_heading = "Weights", conflicts_with_all = ["bits", "symmetric"])]
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

/// What is to be written.
enum Goal {
    Directory(&'static Layout, Settings),
    File(&'static Type, &'static Quantizer),
}

impl Args {
    fn goal(&self) -> Result<Goal> {
        let wrong = |problem: String| Err(Error::Usage(problem));
        let out = self.output.display();
        let file = crate::checkpoint::gguf::is_named(&self.output);
        let to = self.to.as_deref().unwrap_or(if file { GGUF } else { LAYOUTS[0].name });
        let quantizer = self.quantizer.unwrap_or(QUANTIZERS[0]);
        if let Some(layout) = Layout::named(to) {
            if file {
                return wrong(format!("{out} names a GGUF file, and --to {to} writes a directory"));
            }
            if let Some(kind) = self.kind {
                return wrong(format!("--type {} is for --to gguf; --bits is for {to}", kind.name));
            }
            let (bits, group) = (self.bits, self.group.unwrap_or(BLOCK));
            return Ok(Goal::Directory(
                layout,
                Settings { quantizer, bits, group, symmetric: self.symmetric },
            ));
        }
        if !file {
            return wrong(format!("{out} is to be a GGUF file: expected a name that ends with .gguf"));
        }
        if let Some(group) = self.group.filter(|&group| group != BLOCK) {
            return wrong(format!("--group {group}: blocks of GGUF files have {BLOCK} weights"));
        }
        let usual = match (self.bits, self.symmetric) {
            (8, _) => "q8_0",
            (_, true) => "q4_0",
            (_, false) => "q4_1",
        };
        match self.kind.or(Type::named(usual)) {
            Some(kind) => Ok(Goal::File(kind, quantizer)),
            None => wrong(format!("there is no type {usual:?}")),
        }
    }
}

/// Writes.
pub fn run(args: &Args, common: &Common, console: &Console) -> Result<()> {
    let goal = args.goal()?;
    let name = args.model.as_deref().filter(|name| !name.is_empty()).unwrap_or(shipped::NAME);
    let found = session::Description::named(name)?;
    if TRANSPOSED.contains(&found.config.architecture.as_str()) {
        let problem = "has its matrices the other way around, which no layout of codes has";
        return Err(Error::Model(format!("{}: {problem}", found.config.architecture)));
    }
    apart(&args.output, &[found.source.directory.path(), &found.source.weights])?;
    let model = Description { name, directory: &found.source.directory, checkpoint: &found.checkpoint };
    let bar = console.bar(
        found.checkpoint.total_bytes(),
        "quantizing",
        "{bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
    );
    let interruptible = Interruptible::new();
    let mut watch =
        Watch { progress: &mut |bytes| bar.inc(bytes), interrupted: &|| interruptible.interrupted() };
    let started = Instant::now();
    let place = (args.output.as_path(), args.force);
    let summary = match &goal {
        Goal::Directory(layout, settings) => layout.write(&model, settings, place, &mut watch),
        Goal::File(kind, quantizer) => kind.write(&model, quantizer, place, &mut watch),
    };
    bar.finish_and_clear();
    let (summary, seconds) = (summary?, started.elapsed().as_secs_f64());

    let mut out = Output::default();
    if common.json {
        return out.json(&object(&goal, name, &args.output, &summary, seconds)?);
    }
    let _ = out.write(&text(&args.output, &summary))?;
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

fn object(goal: &Goal, name: &str, out: &Path, summary: &Summary, seconds: f64) -> Result<Value> {
    let (layout, settings) = match goal {
        Goal::Directory(layout, settings) => (layout.name, Some(*settings)),
        Goal::File(kind, quantizer) => {
            let settings = kind.codes.map(|(bits, zeros)| Settings {
                quantizer,
                bits,
                group: BLOCK,
                symmetric: zeros == Zeros::Middle,
            });
            (kind.name, settings)
        }
    };
    let mut object = json!({
        "model": name,
        "output": out.display().to_string(),
        "layout": layout,
        "quantizer": settings.map(|s| s.quantizer.name),
        "bits": settings.map_or(16, |s| s.bits),
        "group": settings.map(|s| s.group),
        "symmetric": settings.map(|s| s.symmetric),
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
    for kind in &summary.kinds {
        text += &format!("  {:<24} {:>4} {:>10.3e}\n", kind.kind, kind.matrices, kind.relative_error);
    }
    text
}
