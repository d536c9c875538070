//! A model's `config.json`.
//!
//! Keys that mean nothing here are skipped. Those that mean something must have a value that the forward
//! pass can honour: a setting that it would silently ignore is an error. Whether the architecture itself
//! is one that can run is for `crate::model` to say.

mod family;
mod fields;
mod rope;
#[cfg(test)]
mod tests;
mod windows;

use super::multimodal::Kind;
use super::{Directory, MAX_JSON, MESSAGE, clip};
use crate::error::{Error, Result};
use family::Family;
use fields::{Fields, found};
use serde_json::{Map, Value};

pub use rope::{Rope, RopeFactors, RopeScaling};

/// What `config.json` (and `generation_config.json`, for the tokens that end a text) says of a model.
/// Fields are named as there.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The first of `architectures`, as in `LlamaForCausalLM`; `model_type` if there is none.
    pub architecture: String,
    /// The family, as in `llama`; empty if not given.
    pub model_type: String,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP, or inside an expert.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; a divisor of the query heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Tokens, padding included.
    pub vocab_size: usize,
    /// `silu`, `gelu` or another that the architecture's MLP knows.
    pub hidden_act: String,
    /// What is added under the root of a norm: `rms_norm_eps`, or `layer_norm_eps`.
    pub norm_eps: f32,
    /// The rotary embedding.
    pub rope: Rope,
    /// What LongRoPE divides frequencies by, where the configuration lists it.
    pub rope_factors: Option<RopeFactors>,
    /// Base of the rotary embedding of the layers with a window, which is not scaled; none where it is that of all.
    pub rope_local_base_freq: Option<f64>,
    /// For each layer, whether it does *not* rotate queries and keys. (In `config.json` those are zeros.)
    pub no_rope_layers: Vec<bool>,
    /// Longest text that the model is made for.
    pub max_position_embeddings: usize,
    /// Whether the output matrix is the embedding.
    pub tie_word_embeddings: bool,
    /// Whether the attention's projections have biases (where the architecture leaves that open).
    pub attention_bias: bool,
    /// Whether the MLP's projections have biases.
    pub mlp_bias: bool,
    /// Whether queries, keys and values have biases, in StableLM.
    pub use_qkv_bias: bool,
    /// Experts of an MLP; 0 where it is not made of experts.
    pub num_experts: usize,
    /// How many of them a token goes through.
    pub num_experts_per_tok: usize,
    /// Whether the weights of those add up to 1.
    pub norm_topk_prob: bool,
    /// Whether attention and MLP read the same residual stream, in GPT-NeoX.
    pub use_parallel_residual: bool,
    /// Scores of attention are divided by the root of this, in Gemma; none for the size of a head.
    pub query_pre_attn_scalar: Option<f64>,
    /// Scores of attention are multiplied with this, in Granite; none as above.
    pub attention_multiplier: Option<f64>,
    /// Between minus this and this, scores of attention are kept softly.
    pub attn_logit_softcapping: Option<f64>,
    /// Likewise logits.
    pub final_logit_softcapping: Option<f64>,
    /// Embeddings are multiplied with this.
    pub embedding_multiplier: f64,
    /// What a layer adds is multiplied with this.
    pub residual_multiplier: f64,
    /// Logits are divided by this.
    pub logits_scaling: f64,
    /// For each layer, how many positions attention looks back, itself included; none for all.
    pub windows: Vec<Option<usize>>,
    /// The token that begins a text.
    pub bos_token_id: Option<u32>,
    /// The tokens that end a text, each once.
    pub eos_token_ids: Vec<u32>,
}

/// More than any model has tokens; sampling on a device adds up probabilities of fewer than 2^20.
const MAX_VOCABULARY: usize = (1 << 20) - 1;

/// More than any text has positions.
const MAX_POSITIONS: usize = 1 << 24;

impl Config {
    /// Reads `config.json` in `directory`, and `generation_config.json` if there is one.
    pub fn open(directory: &Directory) -> Result<Config> {
        let read = |name: &str| -> Result<Option<String>> {
            let bytes = directory.read(name, MAX_JSON)?;
            Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        };
        let Some(json) = read("config.json")? else {
            let problem = "no config.json in it: a Hugging Face model directory has one, beside the weights";
            return Err(Error::file(directory.path(), problem));
        };
        let wrong = |name: &str, problem: String| Error::file(directory.join(name), problem);
        let mut config = Config::parse(&json).map_err(|problem| wrong("config.json", problem))?;
        if let Some(json) = read("generation_config.json")? {
            config.merge_generation(&json).map_err(|problem| wrong("generation_config.json", problem))?;
        }
        Ok(config)
    }

    /// Reads the text of a `config.json`. The error is what was found and what was expected.
    pub fn parse(json: &str) -> Result<Config, String> {
        let mut object = parse_object(json)?;
        if let Some(kind) = Kind::of(&object) {
            object = kind.text(&object)?;
        }
        let fields = Fields::plain(&object);
        let model_type = fields.text("model_type", "")?.to_owned();
        let architecture = match fields.get("architectures") {
            Some(names) => match names.get(0).and_then(Value::as_str) {
                Some(name) => name.to_owned(),
                None => return Err(found("architectures", Some(names), "a list of names")),
            },
            None if model_type.is_empty() => return Err(found("architectures", None, "a list of names")),
            None => model_type.clone(),
        };
        let family = Family::of(&architecture);
        let fields = Fields { aliases: family.aliases, ..fields };
        Config::of(&fields, family, &architecture, model_type).map_err(|problem| {
            // A model of another kind may lack a field that the known ones have; then its kind is what matters.
            let problem = match Family::knows(&architecture) {
                true => format!("{problem} (architecture {architecture:?})"),
                false => format!("architecture {architecture:?} is not supported ({problem})"),
            };
            clip(&problem, MESSAGE)
        })
    }

    fn of(
        fields: &Fields,
        family: &Family,
        architecture: &str,
        model_type: String,
    ) -> Result<Config, String> {
        let hidden_size = fields.size("hidden_size", 1 << 17, None)?;
        // Only GPT-2's may leave it out.
        let usual = (architecture == "GPT2LMHeadModel").then_some(4 * hidden_size);
        let intermediate_size = fields.size("intermediate_size", 1 << 20, usual)?;
        let num_attention_heads = fields.size("num_attention_heads", 4096, None)?;
        let num_key_value_heads = fields.size("num_key_value_heads", 4096, Some(num_attention_heads))?;
        if fields.get("head_dim").is_none() && !hidden_size.is_multiple_of(num_attention_heads) {
            let multiple = format!("expected a multiple of num_attention_heads ({num_attention_heads})");
            return Err(format!("hidden_size is {hidden_size}, {multiple}, or a head_dim"));
        }
        let head_dim = fields.size("head_dim", 256, Some(hidden_size / num_attention_heads))?;
        let vocab_size = fields.size("vocab_size", MAX_VOCABULARY, None)?;
        let num_hidden_layers = fields.size("num_hidden_layers", 1000, None)?;

        let widths = [("hidden_size", hidden_size), ("intermediate_size", intermediate_size)];
        for (name, size) in widths.into_iter().chain([("head_dim", head_dim)]) {
            if !size.is_multiple_of(8) {
                return Err(format!("{name} is {size}, expected a multiple of 8"));
            }
        }
        if head_dim > 256 {
            return Err(format!("head_dim (hidden_size by heads) is {head_dim}, expected at most 256"));
        }
        if !num_attention_heads.is_multiple_of(num_key_value_heads) {
            let divisor = format!("a divisor of num_attention_heads ({num_attention_heads})");
            return Err(format!("num_key_value_heads is {num_key_value_heads}, expected {divisor}"));
        }
        if architecture == "GPTNeoXForCausalLM" && num_key_value_heads != num_attention_heads {
            return Err(fields.wrong("num_key_value_heads", "num_attention_heads in this architecture"));
        }
        // Kernels count in 32 bits. None of these factors is so large that the products overflow 64.
        for (rows, count) in [
            ("vocab_size", vocab_size),
            ("intermediate_size", intermediate_size),
            ("num_attention_heads × head_dim", num_attention_heads * head_dim),
        ] {
            if count as u64 * hidden_size as u64 > u64::from(u32::MAX) {
                let product = format!("{rows} × hidden_size is {count} × {hidden_size}");
                return Err(format!("{product}, expected less than 2^32"));
            }
        }
        let hidden_act = fields.text("hidden_act", family.activations[0])?.to_owned();
        if !family.activations.contains(&hidden_act.as_str()) {
            let names: Vec<_> = family.activations.iter().map(|name| format!("{name:?}")).collect();
            return Err(fields.wrong("hidden_act", &names.join(" or ")));
        }
        family.refuse_others(fields)?;
        let (num_experts, num_experts_per_tok) = family.experts(fields, hidden_size, intermediate_size)?;
        let (rope, rope_local_base_freq) = Rope::of(fields, family, head_dim)?;
        // What is made for the original length works at a multiple of it, whether or not the limit was raised too.
        let stretched = match rope.rope_scaling {
            RopeScaling::Yarn { factor, original_max_position_embeddings: original, .. } => {
                (original as f64 * factor).min(MAX_POSITIONS as f64) as usize
            }
            _ => 0,
        };
        let number = |name, range| family.number(fields, name, range);
        let multiplier = |name| number(name, [1e-3, 1e4]).map(|value| value.unwrap_or(1.0));
        Ok(Config {
            architecture: architecture.to_owned(),
            hidden_size,
            intermediate_size,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            vocab_size,
            hidden_act,
            norm_eps: fields.number(family.eps, 1e-12, 0.1, None)? as f32,
            rope,
            rope_factors: RopeFactors::of(fields, rope)?,
            rope_local_base_freq,
            no_rope_layers: family.no_rope_layers(fields, num_hidden_layers)?,
            max_position_embeddings: fields
                .size("max_position_embeddings", MAX_POSITIONS, None)?
                .max(stretched),
            tie_word_embeddings: fields.flag("tie_word_embeddings", family.tied)?,
            attention_bias: family.switch(fields, "attention_bias")?,
            mlp_bias: family.switch(fields, "mlp_bias")?,
            num_experts,
            num_experts_per_tok,
            norm_topk_prob: family.switch(fields, "norm_topk_prob")?,
            use_qkv_bias: family.switch(fields, "use_qkv_bias")?,
            use_parallel_residual: family.switch(fields, "use_parallel_residual")?,
            query_pre_attn_scalar: number("query_pre_attn_scalar", [1e-3, 1e6])?,
            attention_multiplier: number("attention_multiplier", [1e-6, 1e3])?,
            attn_logit_softcapping: number("attn_logit_softcapping", [1e-3, 1e6])?,
            final_logit_softcapping: number("final_logit_softcapping", [1e-3, 1e6])?,
            embedding_multiplier: multiplier("embedding_multiplier")?,
            residual_multiplier: multiplier("residual_multiplier")?,
            logits_scaling: multiplier("logits_scaling")?,
            windows: windows::windows(fields, family, num_hidden_layers)?,
            bos_token_id: fields.tokens("bos_token_id", vocab_size)?.first().copied(),
            eos_token_ids: fields.tokens("eos_token_id", vocab_size)?,
            model_type,
        })
    }

    /// Adds the tokens that end a text according to the text of a `generation_config.json`.
    pub fn merge_generation(&mut self, json: &str) -> Result<(), String> {
        let object = parse_object(json)?;
        for token in
            Fields::plain(&object).tokens("eos_token_id", self.vocab_size).map_err(|e| clip(&e, MESSAGE))?
        {
            if !self.eos_token_ids.contains(&token) {
                self.eos_token_ids.push(token);
            }
        }
        Ok(())
    }
}

fn parse_object(json: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(json).map_err(|e| clip(&format!("is not a JSON object: {e}"), MESSAGE))
}
