//! Models of known shapes with weights drawn at random, for measuring speed with nothing to download.
//!
//! Every weight is made when it is read: none is ever stored.

use super::tensor::{Change, Dtype, Encoding, TensorInfo};
use super::weights::{Bytes, Checkpoint};
use super::{Directory, shipped};
use crate::error::Result;
use serde_json::json;
use std::borrow::Cow;
use std::path::Path;

/// Every shape there is.
pub const SHAPES: &[Shape] = &[
    shape("smollm2-135m", "135m", [576, 1536, 30, 9, 3, 64, 49_152], true),
    shape("smollm2-360m", "360m", [960, 2560, 32, 15, 5, 64, 49_152], true),
    shape("llama-3.2-1b", "1b", [2048, 8192, 16, 32, 8, 64, 128_256], true),
    shape("smollm2-1.7b", "1.7b", [2048, 8192, 24, 32, 32, 64, 49_152], true),
    shape("llama-3.2-3b", "3b", [3072, 8192, 28, 24, 8, 128, 128_256], true),
    shape("mistral-7b", "7b", [4096, 14_336, 32, 32, 8, 128, 32_768], false),
    shape("llama-3.1-8b", "8b", [4096, 14_336, 32, 32, 8, 128, 128_256], false),
    Shape {
        experts: Some([128, 8]),
        ..shape("qwen3-30b-a3b", "30b-a3b", [2048, 768, 48, 32, 4, 128, 151_936], false)
    },
];

/// The shape of a model of the Llama family, or, where it has experts, of Qwen3's.
#[derive(Debug)]
pub struct Shape {
    /// The model that has it.
    pub name: &'static str,
    /// Its size, which is a name too.
    pub size: &'static str,
    /// `hidden_size`, `intermediate_size` (of an expert, if there are any), `num_hidden_layers`, `num_attention_heads`,
    /// `num_key_value_heads`, `head_dim`, `vocab_size`.
    sizes: [usize; 7],
    /// `num_experts`, `num_experts_per_tok`.
    experts: Option<[usize; 2]>,
    tied: bool,
}

const fn shape(name: &'static str, size: &'static str, sizes: [usize; 7], tied: bool) -> Shape {
    Shape { name, size, sizes, experts: None, tied }
}

impl Shape {
    /// The shape of that name or size.
    pub fn named(name: &str) -> Option<&'static Shape> {
        SHAPES.iter().find(|shape| [shape.name, shape.size].contains(&name))
    }

    /// A configuration, and a tokenizer for what asks for one: that of the model inside the program.
    ///
    /// # Errors
    /// Never, as long as that model is whole.
    pub fn directory(&self) -> Result<Directory> {
        let [hidden, intermediate, layers, heads, kv_heads, head_dim, vocab] = self.sizes;
        let (architecture, kind) = match self.experts {
            Some(_) => ("Qwen3MoeForCausalLM", "qwen3_moe"),
            None => ("LlamaForCausalLM", "llama"),
        };
        let mut config = json!({
            "architectures": [architecture], "model_type": kind, "hidden_size": hidden,
            "intermediate_size": intermediate, "num_hidden_layers": layers, "num_attention_heads": heads,
            "num_key_value_heads": kv_heads, "head_dim": head_dim, "vocab_size": vocab, "hidden_act": "silu",
            "rms_norm_eps": 1e-5, "rope_theta": 500_000.0, "max_position_embeddings": 32_768,
            "tie_word_embeddings": self.tied, "attention_bias": false, "mlp_bias": false,
        });
        if let Some([all, active]) = self.experts {
            config["num_experts"] = all.into();
            config["num_experts_per_tok"] = active.into();
            config["moe_intermediate_size"] = intermediate.into();
            config["norm_topk_prob"] = true.into();
        }
        let shipped = shipped::source().directory;
        let mut files = vec![("config.json", Cow::Owned(config.to_string().into_bytes()))];
        for name in ["tokenizer.json", "tokenizer_config.json"] {
            if let Some(bytes) = shipped.read(name, u64::MAX)? {
                files.push((name, Cow::Owned(bytes)));
            }
        }
        Ok(Directory::held(Path::new(self.name), files))
    }

    /// The weights, as 16-bit floats.
    pub fn checkpoint(&self) -> Checkpoint {
        let [hidden, intermediate, layers, heads, kv_heads, head_dim, vocab] = self.sizes;
        let mut tensors = vec![
            ("model.embed_tokens.weight".to_owned(), vec![vocab, hidden]),
            ("model.norm.weight".to_owned(), vec![hidden]),
        ];
        if !self.tied {
            tensors.push(("lm_head.weight".to_owned(), vec![vocab, hidden]));
        }
        for layer in 0..layers {
            let mut add = |name: &str, shape: &[usize]| {
                tensors.push((format!("model.layers.{layer}.{name}.weight"), shape.to_vec()));
            };
            add("input_layernorm", &[hidden]);
            add("self_attn.q_proj", &[heads * head_dim, hidden]);
            add("self_attn.k_proj", &[kv_heads * head_dim, hidden]);
            add("self_attn.v_proj", &[kv_heads * head_dim, hidden]);
            add("self_attn.o_proj", &[hidden, heads * head_dim]);
            add("post_attention_layernorm", &[hidden]);
            let mut mlp = |name: &str| {
                add(&format!("{name}gate_proj"), &[intermediate, hidden]);
                add(&format!("{name}up_proj"), &[intermediate, hidden]);
                add(&format!("{name}down_proj"), &[hidden, intermediate]);
            };
            let Some([experts, _]) = self.experts else {
                mlp("mlp.");
                continue;
            };
            (0..experts).for_each(|expert| mlp(&format!("mlp.experts.{expert}.")));
            add("mlp.gate", &[experts, hidden]);
            add("self_attn.q_norm", &[head_dim]);
            add("self_attn.k_norm", &[head_dim]);
        }
        let infos = tensors.into_iter().map(|(name, shape)| {
            let elements = shape.iter().product();
            let encoding = Encoding::Plain(Dtype::F16);
            TensorInfo { name, encoding, shape, elements, bytes: 0..2 * elements, change: Change::None }
        });
        Checkpoint::made(Path::new(self.name), Bytes::Noise, infos.collect())
    }
}

/// Numbers of a tensor from the `first` on: of a vector ones; of a matrix such that a row's squares add up to about 1, so that
/// activations neither grow nor vanish. The same whenever they are read.
pub(super) fn noise(info: &TensorInfo, first: usize, out: &mut [f32]) {
    let [.., cols] = info.shape[..] else { return out.fill(1.0) };
    if info.shape.len() == 1 {
        return out.fill(1.0);
    }
    // FNV-1a of the name, then one step of splitmix64 a number.
    let seed = info
        .name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let scale = (12.0 / cols as f32).sqrt() / (1u32 << 24) as f32;
    for (i, out) in out.iter_mut().enumerate() {
        let mut z = seed.wrapping_add(((first + i) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        *out = ((z >> 40) as f32 - (1u32 << 23) as f32) * scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Config;

    /// The published numbers of parameters.
    #[test]
    fn shapes_have_as_many_parameters_as_their_models() {
        for (name, parameters) in [
            ("smollm2-135m", 134_515_008u64),
            ("360m", 361_821_120),
            ("1b", 1_235_814_400),
            ("1.7b", 1_711_376_384),
            ("3b", 3_212_749_824),
            ("7b", 7_248_023_552),
            ("llama-3.1-8b", 8_030_261_248),
            ("30b-a3b", 30_532_122_624),
        ] {
            let shape = Shape::named(name).unwrap();
            assert_eq!(shape.checkpoint().parameters(), parameters, "{name}");
            let config = Config::open(&shape.directory().unwrap()).unwrap();
            assert_eq!(config.hidden_size, shape.sizes[0]);
        }
        assert!(Shape::named("9b").is_none());
    }

    #[test]
    fn weights_are_the_same_whenever_they_are_read_and_rows_are_of_length_1() {
        let checkpoint = Shape::named("135m").unwrap().checkpoint();
        let tensor = checkpoint.tensor("model.layers.3.mlp.down_proj.weight", &[576, 1536]).unwrap();
        let mut row = vec![0.0; 1536];
        tensor.read_f32(1536..2 * 1536, &mut row);
        let mut part = [0.0; 5];
        tensor.read_f32(1540..1545, &mut part);
        assert_eq!(part, row[4..9]);
        let squares: f32 = row.iter().map(|x| x * x).sum();
        assert!((squares - 1.0).abs() < 0.1, "{squares}");
        let norm = checkpoint.tensor("model.norm.weight", &[576]).unwrap();
        norm.read_f32(0..5, &mut part);
        assert_eq!(part, [1.0; 5]);
    }
}
