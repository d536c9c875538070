//! How much memory a model needs, before any of it is asked for.

use super::{AHEAD, LONG_PREFILL, OpenOptions, PREFILL};
use crate::capabilities::Capabilities;
use crate::checkpoint::{Checkpoint, Config};
use crate::error::{Error, Result};
use crate::kernels::Cache;
use crate::kernels::attention::PAGE;
use crate::model::CacheShape;
use serde::Serialize;

/// The context when neither the user nor the model asks for less.
const DEFAULT_CONTEXT: usize = 4096;

/// Bytes on the device.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Memory {
    /// The packed weights.
    pub weight_bytes: u64,
    /// Keys and values.
    pub kv_bytes: u64,
    /// The most that was ever held, everything included.
    pub peak_bytes: u64,
}

/// Sizes that follow from the model and the options.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Tokens that a sequence may have.
    pub context: usize,
    /// Positions that a step may touch: the context, and what was encoded ahead when it was full.
    pub positions: usize,
    /// Most rows of a prompt in one step.
    pub prompt_rows: usize,
    /// Tokens of a sequence's history.
    pub history: usize,
    /// Pages of a sequence.
    pub max_pages: usize,
    /// Tokens that the cache has room for, over all sequences.
    pub cached_tokens: usize,
    /// What it comes to.
    pub memory: Memory,
}

impl Plan {
    /// Tokens that a sequence may have when so many are asked for, or none in particular.
    ///
    /// # Errors
    /// When the model does not allow so many.
    pub fn context(config: &Config, asked: Option<usize>) -> Result<usize> {
        let most = config.max_position_embeddings;
        if most < 2 {
            let problem = format!("config.json: max_position_embeddings is {most}, expected at least 2");
            return Err(Error::Model(problem));
        }
        let context = asked.unwrap_or(most.min(DEFAULT_CONTEXT));
        match (2..=most).contains(&context) {
            true => Ok(context),
            false => Err(Error::Usage(format!("--ctx is {context}, the model allows 2 to {most}"))),
        }
    }

    /// Plans for a model on a device.
    ///
    /// # Errors
    /// When the context is out of range, or the device cannot hold what is needed.
    pub fn new(
        config: &Config,
        shapes: &[CacheShape],
        checkpoint: &Checkpoint,
        options: &OpenOptions<'_>,
        device: &Capabilities,
    ) -> Result<Self> {
        let context = Plan::context(config, options.context)?;
        if options.sequences == 0 {
            return Err(Error::Usage("there is room for 0 sequences, expected at least 1".to_owned()));
        }
        let positions = context + AHEAD + 1;
        let max_pages = positions.div_ceil(PAGE);
        // One page more, which nobody owns.
        let cached_tokens = (options.sequences * context.div_ceil(PAGE) + 1) * PAGE;
        const SHORTER: &str = "; try a shorter --ctx";
        let fits = |bytes: u64, what: &str, advice: &str| {
            let limit = device.max_binding.min(device.max_buffer);
            let problem = format!("{what} take {bytes} bytes, one binding holds {limit}{advice}");
            match bytes <= limit {
                true => Ok(()),
                false => Err(Error::Device { device: device.device.clone(), problem }),
            }
        };
        let mut kv_bytes = 0u64;
        for shape in shapes {
            let bytes = Cache::bytes(shape.kv_heads, shape.head_dim, cached_tokens);
            fits(bytes, "the keys of one layer", SHORTER)?;
            kv_bytes += 2 * bytes;
        }
        let weight_bytes = weight_bytes(config, checkpoint, options);
        let rotation = (positions * config.head_dim * 4) as u64;
        fits(rotation, "the angles of all positions", SHORTER)?;
        let rotation = rotation * if config.rope_local_base_freq.is_some() { 2 } else { 1 };
        // Rows beyond the first few fill nothing more of a processor.
        let prompt_rows = if device.software { PREFILL } else { LONG_PREFILL };
        // The residual, its norm, and either what an MLP makes or what attention does.
        let slots = config.num_experts_per_tok.max(1);
        let heads = config.num_attention_heads + config.num_key_value_heads;
        let inner = (2 * config.intermediate_size).max(config.hidden_size) + config.intermediate_size;
        let widest = (slots * inner).max(3 * heads * config.head_dim);
        if config.num_experts > 0 {
            let of_experts = prompt_rows * slots * (2 * config.intermediate_size).max(config.hidden_size);
            fits(of_experts as u64 * 4, "a prompt's rows in their experts", "")?;
        }
        let inside = prompt_rows * (2 * config.hidden_size + widest);
        let steps = ((PREFILL + options.sequences) * config.vocab_size + inside) as u64 * 4;
        let memory =
            Memory { weight_bytes, kv_bytes, peak_bytes: weight_bytes + kv_bytes + rotation + steps };
        if let Some(free) = device.free_memory.filter(|&free| memory.peak_bytes > free) {
            let mib = |bytes: u64| bytes >> 20;
            return Err(Error::Device {
                device: device.device.clone(),
                problem: format!(
                    "the model needs {} MiB ({} of weights, {} of keys and values) and {} MiB are free; \
                     try a shorter --ctx or fewer --bits",
                    mib(memory.peak_bytes),
                    mib(weight_bytes),
                    mib(kv_bytes),
                    mib(free)
                ),
            });
        }
        Ok(Plan { context, positions, prompt_rows, history: positions + 1, max_pages, cached_tokens, memory })
    }
}

/// What the checkpoint's matrices come to when packed; vectors stay as 32-bit floats.
fn weight_bytes(config: &Config, checkpoint: &Checkpoint, options: &OpenOptions<'_>) -> u64 {
    checkpoint
        .tensors()
        .filter(|info| info.elements > 0 && !(config.tie_word_embeddings && info.name == "lm_head.weight"))
        .map(|info| match info.shape[..] {
            [rows, cols] => {
                let own = info.encoding.packing().filter(|_| options.weights.stored);
                let embedding = rows == config.vocab_size;
                let asked = if embedding { options.weights.embedding } else { options.weights.linear };
                own.unwrap_or(asked).bytes(rows, cols)
            }
            // Masks, which old checkpoints of GPT-2 and GPT-NeoX hold and no decoder reads.
            _ if info.shape.len() > 2 => 0,
            _ => info.elements as u64 * 4,
        })
        .sum()
}
