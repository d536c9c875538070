//! Architectures: how a forward pass is recorded from a checkpoint's weights.
//!
//! An architecture is one file and one line in [`ARCHITECTURES`]. It reads its weights through a [`Loader`],
//! which checks every shape, and records through a [`Recorder`]; it knows
//! nothing of devices. All there are now are decoders, which differ in few things: `design.rs` lists those, `decoder.rs`
//! has the forward pass, and the file of an architecture says what is its own.

mod decoder;
mod design;
mod gemma;
mod gpt2;
mod gpt_neox;
mod granite;
mod llama;
mod loader;
mod mixtral;
mod olmo2;
mod packer;
mod phi3;
mod qwen;
mod rope;
mod smollm3;
mod stablelm;
mod stack;

pub use design::activation;
pub use loader::{Loader, Treat, Weights};
pub use packer::{PackedOn, Packer};
pub use rope::factors as rope_factors;

use crate::checkpoint::Config;
use crate::error::{Error, Result};
use crate::kernels::{Cache, Scale};
use crate::recording::{Buffer, Recorder};

/// Every architecture there is.
pub const ARCHITECTURES: &[&Architecture] = &[
    &llama::LLAMA,
    &llama::MISTRAL,
    &qwen::QWEN2,
    &qwen::QWEN3,
    &qwen::QWEN3_MOE,
    &mixtral::MIXTRAL,
    &smollm3::SMOLLM3,
    &olmo2::OLMO2,
    &granite::GRANITE,
    &phi3::PHI3,
    &gemma::GEMMA2,
    &gemma::GEMMA3,
    &gemma::GEMMA3_MULTIMODAL,
    &stablelm::STABLELM,
    &gpt_neox::GPT_NEOX,
    &gpt2::GPT2,
];

/// A family of models.
pub struct Architecture {
    /// As in `config.json`'s `architectures`.
    pub name: &'static str,
    /// What the layers' caches look like, which memory is planned by before anything is loaded.
    pub caches: fn(&Config) -> Vec<CacheShape>,
    /// Reads the weights.
    pub load: fn(&Config, &mut Loader<'_>) -> Result<Box<dyn Model>>,
}

/// The architecture that a configuration names.
///
/// # Errors
/// When it is none that can run; the message lists those that can.
pub fn architecture(config: &Config) -> Result<&'static Architecture> {
    ARCHITECTURES.iter().copied().find(|a| a.name == config.architecture).ok_or_else(|| {
        let names: Vec<_> = ARCHITECTURES.iter().map(|a| a.name).collect();
        let found = &config.architecture;
        Error::Model(format!(
            "config.json: architecture {found:?} is not supported; expected {}",
            names.join(" or ")
        ))
    })
}

/// Whether a tensor is a mask or a table that other programs keep, and that is computed here.
pub fn is_buffer(name: &str) -> bool {
    [".inv_freq", ".attn.bias", ".attention.bias", ".masked_bias"].iter().any(|end| name.ends_with(end))
}

/// The cache of one layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CacheShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Size of a head.
    pub head_dim: usize,
    /// How far back attention sees; 0 is all the way.
    pub window: usize,
    /// What scores of attention go through before their softmax.
    pub scores: Scale,
}

/// The rows of one step.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The row table, `[capacity]`.
    pub rows: Buffer,
    /// Rows that the recording has room for.
    pub capacity: usize,
    /// Whether most rows are of the same sequence as their neighbours.
    pub prompt: bool,
    /// One cache a layer.
    pub caches: &'a [Cache],
    /// The rows whose logits are wanted: `[outputs]` numbers of rows, or `NONE`.
    pub outputs: Buffer,
}

/// A loaded model.
pub trait Model {
    /// Records the layers: `[outputs, hidden]`, before the last norm, and the table of those rows.
    /// Inputs of the last layer's later matrices can be observed only where there are as many outputs as rows.
    fn forward(&self, r: &mut Recorder<'_>, step: Step<'_>) -> (Buffer, Buffer);

    /// Records the output layer for `capacity` rows of `x` `[capacity, hidden]`; the result is called
    /// "logits", `[capacity, stride]` with [`logits_stride`](Model::logits_stride).
    fn logits(&self, r: &mut Recorder<'_>, rows: Buffer, capacity: usize, x: Buffer) -> Buffer;

    /// Floats from one row of logits to the next.
    fn logits_stride(&self) -> usize;
}
