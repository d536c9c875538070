//! `infer inspect`: what a checkpoint is, what of it would run and how, and what memory it would need.

use super::args::{Bits, Common, ModelArgs};
use super::console::{Console, Output};
use crate::checkpoint::{Checkpoint, Config, Encoding, TensorInfo, locate, shipped};
use crate::engine::{DeviceChoice, OpenOptions, Plan, open_device};
use crate::error::{Error, Result};
use crate::format::{Packing, q4, q8};
use crate::model;
use crate::text::Tokenizer;
use pollster::block_on;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

const EXAMPLES: &str = "\
Examples:
  infer inspect model.gguf
  infer inspect DIR --ctx 32768              memory for texts of that length
  infer inspect HuggingFaceTB/SmolLM2-135M-Instruct --json";

/// Tell what a model is: architecture, formats, bits a weight, what would run and what not, and memory
///
/// Nothing is loaded, and no device is opened. What cannot run is told with the reason; the exit code is 0 then too.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A .gguf or .safetensors file, a model directory, or the id of a model on a hub, owner/name [default: the small
    /// model inside the program]
    model: Option<String>,
    /// Tokens that a text may have, for the memory [default: 4096, or what the model allows]
    #[arg(short, long, value_name = "N")]
    ctx: Option<usize>,
}

/// What is found.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    files: String,
    architecture: Option<String>,
    /// Why it cannot run; none if it can.
    problem: Option<String>,
    parameters: u64,
    tensors: usize,
    /// Tensors of other models in the same files, which are counted nowhere else.
    aside: usize,
    bytes: u64,
    bits_per_weight: f64,
    config: Option<Value>,
    tokenizer: Value,
    encodings: Vec<Stored>,
    memory: Vec<Needed>,
    context: Option<usize>,
}

/// Tensors that are stored alike.
#[derive(Debug, Serialize)]
struct Stored {
    encoding: String,
    tensors: usize,
    parameters: u64,
    bytes: u64,
    bits_per_weight: f64,
    runs_as: String,
}

/// What would be needed on a device.
#[derive(Debug, Serialize)]
struct Needed {
    bits: &'static str,
    weight_bytes: u64,
    kv_bytes: u64,
    peak_bytes: u64,
}

/// Looks at a model.
pub fn run(args: &Args, common: &Common, _: &Console) -> Result<()> {
    let name = args.model.as_deref().filter(|name| !name.is_empty()).unwrap_or(shipped::NAME);
    let report = inspect(name, args.ctx)?;
    let mut out = Output::default();
    match common.json {
        true => out.json(&serde_json::to_value(&report).map_err(|e| Error::Model(e.to_string()))?),
        false => out.write(&text(&report)).map(|_| ()),
    }
}

fn inspect(name: &str, ctx: Option<usize>) -> Result<Report> {
    let source = locate(name)?;
    let config = Config::open(&source.directory);
    let checkpoint = Checkpoint::of(&source)?;
    let runs = config
        .as_ref()
        .map_err(Error::to_string)
        .and_then(|config| model::architecture(config).map_err(|e| e.to_string()));
    let mut problem = runs.as_ref().err().cloned();
    let (mut memory, mut context) = (Vec::new(), None);
    if let (Ok(config), Ok(architecture)) = (&config, &runs) {
        context = Some(Plan::context(config, ctx)?);
        memory = needed(config, &(architecture.caches)(config), &checkpoint, context)?;
    }
    let tokenizer = match &config {
        Ok(config) => match Tokenizer::open(&source.directory, config.vocab_size) {
            Ok(tokenizer) => json!({
                "bos": tokenizer.bos().and_then(|id| tokenizer.token(id)),
                "eos": tokenizer.eos().first().and_then(|&id| tokenizer.token(id)),
                "chat_template": tokenizer.chat_template().is_ok_and(|template| template.is_some()),
            }),
            Err(e) => {
                problem.get_or_insert(e.to_string());
                json!({"problem": e.to_string()})
            }
        },
        Err(_) => Value::Null,
    };
    let bytes = checkpoint.total_bytes();
    Ok(Report {
        model: name.to_owned(),
        files: source.weights.display().to_string(),
        architecture: config.as_ref().ok().map(|config| config.architecture.clone()),
        problem,
        parameters: checkpoint.parameters(),
        tensors: checkpoint.tensors().count(),
        aside: checkpoint.aside(),
        bytes,
        bits_per_weight: bits(bytes, checkpoint.parameters()),
        config: config.as_ref().ok().map(described),
        tokenizer,
        encodings: encodings(&checkpoint),
        memory,
        context,
    })
}

fn bits(bytes: u64, parameters: u64) -> f64 {
    bytes as f64 * 8.0 / parameters.max(1) as f64
}

/// What matters of a configuration.
fn described(config: &Config) -> Value {
    json!({
        "layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "heads": config.num_attention_heads,
        "kv_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tie_word_embeddings,
        "max_position_embeddings": config.max_position_embeddings,
        "rope_theta": config.rope.rope_theta,
        "rope_scaling": format!("{:?}", config.rope.rope_scaling),
    })
}

fn encodings(checkpoint: &Checkpoint) -> Vec<Stored> {
    let mut by_name: BTreeMap<(String, String), Vec<&TensorInfo>> = BTreeMap::new();
    // All tensors are looked at for that.
    let coded = checkpoint.has_codes();
    for info in checkpoint.tensors() {
        by_name.entry((info.encoding.to_string(), runs_as(info, coded))).or_default().push(info);
    }
    let mut found: Vec<Stored> = by_name
        .into_iter()
        .map(|((encoding, runs_as), infos)| {
            let parameters = infos.iter().map(|info| info.elements as u64).sum();
            let bytes = infos.iter().map(|info| info.stored_bytes()).sum();
            let tensors = infos.len();
            Stored { encoding, tensors, parameters, bytes, bits_per_weight: bits(bytes, parameters), runs_as }
        })
        .collect();
    found.sort_by_key(|stored| std::cmp::Reverse(stored.bytes));
    found
}

/// How a tensor runs if nothing else is asked for, in a file with codes or without.
fn runs_as(info: &TensorInfo, coded: bool) -> String {
    match (&info.encoding, info.encoding.packing(), info.shape.len()) {
        (_, Some(packing), _) => format!("as it is, {}", packing.name()),
        (Encoding::Plain(_), None, 2) if coded => "16-bit floats".to_owned(),
        (Encoding::Plain(_), None, 2) => "packed to --bits".to_owned(),
        (Encoding::Plain(_), None, _) => "32-bit floats".to_owned(),
        (encoding, None, _) => {
            format!("unpacked to 16-bit floats: {}", encoding.obstacle().unwrap_or("no kernel reads them"))
        }
    }
}

/// Memory for each of the ways to store weights.
fn needed(
    config: &Config,
    shapes: &[model::CacheShape],
    checkpoint: &Checkpoint,
    context: Option<usize>,
) -> Result<Vec<Needed>> {
    let choice = DeviceChoice { name: Some("cpu".to_owned()), ..DeviceChoice::default() };
    let mut device = block_on(open_device(&choice))?.executor.capabilities().clone();
    device.free_memory = None;
    (device.max_binding, device.max_buffer) = (u64::MAX, u64::MAX);
    let ways = [("file", Bits::File), ("16", Bits::In(Packing::F16.format))].into_iter();
    let ways = ways.chain([("8", Bits::In(&q8::FORMAT)), ("4", Bits::In(&q4::FORMAT))]);
    ways.skip(usize::from(!checkpoint.has_codes()))
        .map(|(name, bits)| {
            let args = ModelArgs { model: None, bits: Some(bits), group: 32, ..ModelArgs::default() };
            let weights = args.weights(checkpoint.has_codes())?;
            let options = OpenOptions { weights, context, sequences: 1, progress: &mut |_| {} };
            let memory = Plan::new(config, shapes, checkpoint, &options, &device)?.memory;
            let (weight_bytes, kv_bytes) = (memory.weight_bytes, memory.kv_bytes);
            Ok(Needed { bits: name, weight_bytes, kv_bytes, peak_bytes: memory.peak_bytes })
        })
        .collect()
}

/// 1234567 as 1,234,567.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}

fn text(report: &Report) -> String {
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        let _ = writeln!(out, "{name:<14}{text}");
    };
    line("model", report.files.clone());
    let architecture = report.architecture.as_deref().unwrap_or("unknown");
    line(
        "architecture",
        match &report.problem {
            None => format!("{architecture}: runs"),
            Some(problem) => format!("{architecture}: does NOT run: {problem}"),
        },
    );
    let per_weight = format!("{:.2} bits a weight", report.bits_per_weight);
    line(
        "parameters",
        format!(
            "{} in {} tensors, {}, {per_weight}",
            grouped(report.parameters),
            report.tensors,
            mib(report.bytes)
        ),
    );
    if report.aside > 0 {
        line("left aside", format!("{} tensors of a model of images: only text runs", report.aside));
    }
    if let Some(config) = &report.config {
        let n = |name: &str| config[name].as_u64().unwrap_or(0);
        line(
            "layers",
            format!(
                "{} of width {} (inner {}), {} heads of {}, {} for keys and values",
                n("layers"),
                n("hidden_size"),
                n("intermediate_size"),
                n("heads"),
                n("head_dim"),
                n("kv_heads")
            ),
        );
        let tied = if config["tie_word_embeddings"] == true {
            "also the output matrix"
        } else {
            "output matrix apart"
        };
        line("vocabulary", format!("{}, {tied}", grouped(n("vocab_size"))));
        line("context", format!("{} tokens", grouped(n("max_position_embeddings"))));
    }
    if let Some(end) = report.tokenizer["eos"].as_str() {
        let chat = if report.tokenizer["chat_template"] == true {
            "with a chat template"
        } else {
            "no chat template"
        };
        line("tokenizer", format!("ends with {end}, {chat}"));
    }
    let width = report.encodings.iter().map(|stored| stored.encoding.len()).max().unwrap_or(0).max(24);
    for (i, stored) in report.encodings.iter().enumerate() {
        line(
            if i == 0 { "stored as" } else { "" },
            format!(
                "{:<width$} {:>4} tensors {:>12} {:>6.2} bits  {}",
                stored.encoding,
                stored.tensors,
                mib(stored.bytes),
                stored.bits_per_weight,
                stored.runs_as
            ),
        );
    }
    for (i, needed) in report.memory.iter().enumerate() {
        line(
            if i == 0 { "memory" } else { "" },
            format!(
                "-b {:<5} {:>12} = {} of weights, {} of keys and values at {} tokens, and buffers",
                needed.bits,
                mib(needed.peak_bytes),
                mib(needed.weight_bytes),
                mib(needed.kv_bytes),
                grouped(report.context.unwrap_or(0) as u64)
            ),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
