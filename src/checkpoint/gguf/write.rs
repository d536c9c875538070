//! The way back: the header of a GGUF file, and a Hugging Face checkpoint's names and configuration as such files have
//! them.

use super::families::{FAMILIES, Family, LAYER, MODEL};
use super::header::Value;
use crate::checkpoint::{Config, RopeScaling};

/// Bytes to which the data of every tensor is aligned.
const ALIGNMENT: usize = 32;

/// A tensor to be written.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its name in the file.
    pub name: String,
    /// Its dimensions, the slowest first.
    pub shape: Vec<usize>,
    /// The number of its type.
    pub kind: u32,
    /// Bytes that it takes.
    pub bytes: usize,
}

/// The bytes of a file up to its data, version 3, and where each tensor's bytes start in the file, from which its length
/// follows last. Whole numbers are written with 32 bits where those hold them, others with 32 bits too, lists of numbers
/// as 32-bit integers.
pub fn header(metadata: &[(String, Value)], tensors: &[Stored]) -> (Vec<u8>, Vec<u64>) {
    let mut out = Out(b"GGUF".to_vec());
    out.u32(3);
    out.u64(tensors.len());
    out.u64(metadata.len());
    for (key, value) in metadata {
        out.text(key);
        out.value(value);
    }
    let mut offsets = Vec::with_capacity(tensors.len() + 1);
    let mut at = 0;
    for tensor in tensors {
        out.text(&tensor.name);
        out.u32(tensor.shape.len() as u32);
        tensor.shape.iter().rev().for_each(|&n| out.u64(n));
        out.u32(tensor.kind);
        out.u64(at);
        offsets.push(at as u64);
        at = (at + tensor.bytes).next_multiple_of(ALIGNMENT);
    }
    offsets.push(at as u64);
    let Out(mut bytes) = out;
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    offsets.iter_mut().for_each(|offset| *offset += bytes.len() as u64);
    (bytes, offsets)
}

struct Out(Vec<u8>);

impl Out {
    fn u32(&mut self, n: u32) {
        self.0.extend(n.to_le_bytes());
    }

    fn u64(&mut self, n: usize) {
        self.0.extend((n as u64).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.u64(text.len());
        self.0.extend(text.as_bytes());
    }

    /// A value with its type before it.
    fn value(&mut self, value: &Value) {
        match value {
            Value::Integer(n) => match u32::try_from(*n) {
                Ok(n) => [4, n].into_iter().for_each(|word| self.u32(word)),
                Err(_) => {
                    self.u32(11);
                    self.0.extend((*n as i64).to_le_bytes());
                }
            },
            Value::Float(x) => [6, (*x as f32).to_bits()].into_iter().for_each(|word| self.u32(word)),
            Value::Flag(flag) => {
                self.u32(7);
                self.0.push(u8::from(*flag));
            }
            Value::Text(text) => {
                self.u32(8);
                self.text(text);
            }
            Value::Numbers(numbers) => {
                [9, 5].into_iter().for_each(|word| self.u32(word));
                self.u64(numbers.len());
                numbers.iter().for_each(|&n| self.0.extend((n as i32).to_le_bytes()));
            }
            Value::Texts(texts) => {
                [9, 8].into_iter().for_each(|word| self.u32(word));
                self.u64(texts.len());
                texts.iter().for_each(|text| self.text(text));
            }
        }
    }
}

/// How an architecture's models are written.
#[derive(Clone, Copy)]
pub struct Naming(&'static Family);

/// The architectures whose metadata is complete in what [`Naming::describe`] writes.
const WRITTEN: [&str; 4] = ["llama", "qwen2", "qwen3", "olmo2"];

impl Naming {
    /// That of a configuration's architecture.
    ///
    /// # Errors
    /// What it is and what was expected.
    pub fn of(config: &Config) -> Result<Naming, String> {
        // Mistral's models are Llama's, but that a file of those knows no window.
        let architecture = match config.architecture.as_str() {
            "MistralForCausalLM" => "LlamaForCausalLM",
            other => other,
        };
        let written =
            FAMILIES.iter().filter(|family| WRITTEN.contains(&family.name) && family.experts.is_none());
        let known: Vec<&str> = written.clone().map(|family| family.architecture).collect();
        let Some(family) = written.into_iter().find(|family| family.architecture == architecture) else {
            return Err(format!(
                "{} is not written to GGUF files, only {}; other layouts hold it",
                config.architecture,
                known.join(", ")
            ));
        };
        if let Some(window) = config.windows.iter().flatten().next() {
            return Err(format!(
                "attention looks back {window} positions, which GGUF files of {} cannot say; other layouts can",
                family.name
            ));
        }
        Ok(Naming(family))
    }

    /// The name of a tensor in the file.
    pub fn stored_name(self, name: &str) -> Option<String> {
        let (stem, what) = name.rsplit_once('.')?;
        let find = |table: &[(&'static str, &str)], stem: &str| {
            table.iter().find(|(_, there)| *there == stem).map(|t| t.0)
        };
        if let Some(here) = find(MODEL, stem) {
            return Some(format!("{here}.{what}"));
        }
        let (number, part) = stem.strip_prefix("model.layers.")?.split_once('.')?;
        let number: u32 = number.parse().ok()?;
        let part = find(self.0.layer, part).or_else(|| find(LAYER, part))?;
        Some(format!("blk.{number}.{part}.{what}"))
    }

    /// Whether the rows of a tensor of that name in the file lie in turn: see [`stored_row`](super::stored_row).
    pub fn turned(self, stored: &str) -> bool {
        self.0.turned && (stored.contains(".attn_q.") || stored.contains(".attn_k."))
    }

    /// What the metadata says of the model, apart from its tokenizer.
    ///
    /// # Errors
    /// What it cannot say.
    pub fn describe(self, config: &Config) -> Result<Vec<(String, Value)>, String> {
        let family = self.0.name;
        let mut all = vec![("general.architecture".to_owned(), Value::Text(family.to_owned()))];
        let mut set = |key: &str, value: Value| all.push((format!("{family}.{key}"), value));
        let integer = |n: usize| Value::Integer(n as i128);
        set("vocab_size", integer(config.vocab_size));
        set("context_length", integer(config.max_position_embeddings));
        set("embedding_length", integer(config.hidden_size));
        set("block_count", integer(config.num_hidden_layers));
        set("feed_forward_length", integer(config.intermediate_size));
        set("attention.head_count", integer(config.num_attention_heads));
        set("attention.head_count_kv", integer(config.num_key_value_heads));
        set("attention.key_length", integer(config.head_dim));
        set("attention.value_length", integer(config.head_dim));
        set("attention.layer_norm_rms_epsilon", Value::Float(config.norm_eps.into()));
        set("rope.dimension_count", integer(config.rope.rotary_dim));
        set("rope.freq_base", Value::Float(config.rope.rope_theta));
        match config.rope.rope_scaling {
            // Llama 3's is written as the numbers that it comes to, a tensor.
            RopeScaling::None | RopeScaling::Llama3 { .. } => {}
            RopeScaling::Linear { factor } => {
                set("rope.scaling.type", Value::Text("linear".to_owned()));
                set("rope.scaling.factor", Value::Float(factor));
            }
            RopeScaling::Yarn { .. } | RopeScaling::LongRope { .. } => {
                return Err(
                    "positions stretched by YaRN or LongRoPE are not written to GGUF files; other layouts hold them"
                        .to_owned(),
                );
            }
        }
        Ok(all)
    }
}
