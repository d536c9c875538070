//! Options that several commands share.

use crate::checkpoint::shipped;
use crate::engine::{DeviceChoice, Sampling};
use crate::error::{Error, Result};
use crate::format::{Format, Packing, q4};
use crate::model::{PackedOn, Weights};
use crate::quantize::QUANTIZERS;
use clap::builder::{FalseyValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};

/// What `--bits` can be, and the formats that it stands for.
const BITS: [(&str, &str); 3] = [("16", "f16"), ("8", "q8"), ("4", "q4")];
/// What `--bits` says for weights as they are in the file.
const FILE: &str = "file";
const GROUPS: [&str; 3] = ["32", "64", "128"];

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Device and output")]
pub struct Common {
    /// The device: a number or part of a name, as `infer devices` lists them, or "cpu" [default: the best GPU]
    #[arg(short, long, global = true, env = "INFER_DEVICE")]
    pub device: Option<String>,
    /// Use no optional feature of the device: where that changes what comes out, its driver is at fault
    #[arg(long, global = true, env = "INFER_BASELINE", value_parser = FalseyValueParser::new())]
    pub baseline: bool,
    /// Measure which kernels are fastest for this model on this device, where that is not known yet, and remember it
    #[arg(long, global = true, env = "INFER_TUNE", value_parser = FalseyValueParser::new())]
    pub tune: bool,
    /// Choose kernels by rule, whatever was measured before; ab and sweep always do
    #[arg(long, global = true, env = "INFER_NO_TUNE", value_parser = FalseyValueParser::new())]
    #[arg(conflicts_with = "tune")]
    pub no_tune: bool,
    /// Print one JSON object (or list) on standard output and nothing else there
    #[arg(long, global = true)]
    pub json: bool,
    /// Print no progress, notes and figures, only errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print more: the seed, the device, the weight format
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

impl Common {
    /// The device that is meant.
    pub fn choice(&self) -> DeviceChoice {
        DeviceChoice {
            name: self.device.clone(),
            baseline: self.baseline,
            checked: false,
            pipelines: super::own_cache().map(|cache| cache.join("pipelines")),
        }
    }
}

/// Which model, and how its weights are stored.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// A .gguf file, a .safetensors file (its config.json and tokenizer.json beside it), a model directory, or the id of
    /// a model on a hub, owner/name, which is fetched once [default: reasoner, a small model inside the program]
    #[arg(short, long, env = "INFER_MODEL")]
    pub model: Option<String>,
    /// Bits of a weight: 16 as floats; 8 or 4 as codes that share a scale and a zero by group; "file" as the file has
    /// them [default: file if that has codes already, else 4]
    #[arg(short, long, env = "INFER_BITS", hide_possible_values = true)]
    #[arg(value_name = "file|16|8|4", value_parser = bits())]
    pub bits: Option<Bits>,
    /// Weights of a row that share a scale and a zero; smaller is truer and larger: 4 bits come to 5.0, 4.5
    /// or 4.25 a weight
    #[arg(long, env = "INFER_GROUP", default_value = "32", hide_possible_values = true)]
    #[arg(value_name = "32|64|128", value_parser = group())]
    pub group: usize,
    /// Bits of a weight of the embedding and the output matrix [default: as --bits]
    #[arg(long, env = "INFER_EMBED_BITS", hide_possible_values = true)]
    #[arg(value_name = "file|16|8|4", value_parser = bits())]
    pub embed_bits: Option<Bits>,
    /// What activations are multiplied as; q8 rounds them to 8 bits where weights are codes, which ab and sweep never do
    #[arg(long, env = "INFER_ACTIVATIONS", value_enum, default_value_t, hide_possible_values = true)]
    #[arg(value_name = "f32|q8")]
    pub activations: Activations,
}

/// What activations are multiplied as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Activations {
    /// 32-bit floats
    #[default]
    F32,
    /// 8-bit codes that share a scale by 32 of a row, where weights are codes too: less work for the device, and less true
    Q8,
}

impl Activations {
    /// As the option says it.
    pub fn name(self) -> &'static str {
        match self {
            Activations::F32 => "f32",
            Activations::Q8 => "q8",
        }
    }
}

/// How weights are to be stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bits {
    /// As the file has them: its own codes, 16-bit floats for all else.
    File,
    /// In that format.
    In(&'static Format),
}

impl Bits {
    /// What is meant where nothing is said, by whether the file has codes.
    pub fn usual(coded: bool) -> Self {
        if coded { Bits::File } else { Bits::In(&q4::FORMAT) }
    }
}

pub fn bits() -> impl TypedValueParser<Value = Bits> {
    let names = BITS.map(|(bits, _)| bits).into_iter().chain([FILE]);
    PossibleValuesParser::new(names).try_map(|bits| {
        let Some((_, name)) = BITS.iter().find(|(b, _)| *b == bits) else { return Ok(Bits::File) };
        Format::named(name).map(Bits::In).ok_or_else(|| format!("there is no format {name:?}"))
    })
}

pub fn group() -> impl TypedValueParser<Value = usize> {
    PossibleValuesParser::new(GROUPS).try_map(|group| group.parse::<usize>())
}

impl ModelArgs {
    /// The model that was named, or else the one inside the program.
    pub fn name(&self) -> &str {
        self.model.as_deref().filter(|name| !name.is_empty()).unwrap_or(shipped::NAME)
    }

    /// How the weights of a file, with codes or without, are stored.
    ///
    /// # Errors
    /// Where the embedding is to be as in the file and the rest not, or the other way round, and the file has codes.
    pub fn weights(&self, coded: bool) -> Result<Weights> {
        let bits = self.bits.unwrap_or(Bits::usual(coded));
        let embed_bits = self.embed_bits.unwrap_or(bits);
        if coded && (bits == Bits::File) != (embed_bits == Bits::File) {
            let problem = "--bits and --embed-bits: either both are \"file\", or none of them";
            return Err(Error::Usage(problem.to_owned()));
        }
        let packing = |bits| match bits {
            Bits::File => Packing::F16,
            Bits::In(format) => Packing { format, group: self.group },
        };
        Ok(Weights {
            linear: packing(bits),
            embedding: packing(embed_bits),
            stored: coded && bits == Bits::File,
            quantizer: QUANTIZERS[0],
            treatment: None,
            packed_on: PackedOn::Fastest,
        })
    }
}

/// How tokens are chosen.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sampling, in this order")]
pub struct SamplingArgs {
    /// Divide likely and multiply unlikely logits of tokens met lately by this; 1 does nothing
    #[arg(long, env = "INFER_REPEAT_PENALTY", default_value_t = 1.0, allow_negative_numbers = true)]
    #[arg(value_name = "X")]
    repeat_penalty: f32,
    /// How many tokens back "lately" goes
    #[arg(long, env = "INFER_REPEAT_LAST_N", default_value_t = 64, value_name = "N")]
    repeat_last_n: u32,
    /// Keep the N likeliest tokens; 0 keeps all
    #[arg(long, env = "INFER_TOP_K", default_value_t = 40, value_name = "N")]
    top_k: u32,
    /// Keep the likeliest tokens that together have this probability; 1 keeps all
    #[arg(
        long,
        env = "INFER_TOP_P",
        default_value_t = 0.95,
        allow_negative_numbers = true,
        value_name = "P"
    )]
    top_p: f32,
    /// Keep tokens at least this likely, relative to the likeliest; 0 keeps all
    #[arg(
        long,
        env = "INFER_MIN_P",
        default_value_t = 0.05,
        allow_negative_numbers = true,
        value_name = "P"
    )]
    min_p: f32,
    /// Temperature: higher is more surprising, 0 always takes the likeliest token
    #[arg(long, env = "INFER_TEMP", default_value_t = 0.8, allow_negative_numbers = true, value_name = "T")]
    temp: f32,
    /// Where random numbers start: the same seed gives the same text [default: random; shown with -v]
    #[arg(short, long, env = "INFER_SEED")]
    seed: Option<u64>,
}

impl SamplingArgs {
    /// The settings, in range.
    pub fn sampling(&self) -> Result<Sampling> {
        let sampling = Sampling {
            temperature: self.temp,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            repeat_last: self.repeat_last_n,
            seed: self.seed.unwrap_or_else(random),
        };
        sampling.problem().map_or(Ok(sampling), |problem| Err(Error::Usage(problem)))
    }
}

/// A number that differs from run to run, short enough to type.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish() >> 32
}
