//! The Llama family: Llama 1 to 3.2, SmolLM2, TinyLlama, and Mistral, which adds a sliding window.
//!
//! Pre-norm transformer with grouped-query attention, rotary positions and SwiGLU. Tensors are named as in
//! Hugging Face's `LlamaForCausalLM`.

use super::{Architecture, CacheShape, Loader, Model, Step, rope};
use crate::checkpoint::Config;
use crate::error::Result;
use crate::kernels::Matrix;
use crate::kernels::matmul::Activations;
use crate::recording::{Buffer, Recorder};

pub const LLAMA: Architecture =
    Architecture { name: "LlamaForCausalLM", caches: |c| caches(c, None), load: |c, l| load(c, l) };

pub const MISTRAL: Architecture = Architecture {
    name: "MistralForCausalLM",
    caches: |c| caches(c, c.sliding_window),
    load: |c, l| load(c, l),
};

struct Llama {
    embedding: Matrix,
    layers: Vec<Layer>,
    norm: Buffer,
    /// None where the embedding serves.
    output: Option<Matrix>,
    rotation: Buffer,
    eps: f32,
    intermediate: usize,
}

struct Layer {
    attention_norm: Buffer,
    /// Rows of q, then k, then v.
    qkv: Projection,
    output: Projection,
    mlp_norm: Buffer,
    /// Rows of gate, then up.
    gate_up: Projection,
    down: Projection,
}

struct Projection {
    weight: Matrix,
    bias: Option<Buffer>,
}

fn caches(c: &Config, window: Option<usize>) -> Vec<CacheShape> {
    let shape = CacheShape {
        heads: c.num_attention_heads,
        kv_heads: c.num_key_value_heads,
        head_dim: c.head_dim,
        window: window.unwrap_or(0),
    };
    vec![shape; c.num_hidden_layers]
}

fn load(c: &Config, loader: &mut Loader<'_>) -> Result<Box<dyn Model>> {
    let weights = loader.weights;
    let (hidden, intermediate) = (c.hidden_size, c.intermediate_size);
    let (q, kv) = (c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim);
    let whole = |name: &str, rows: usize| vec![(format!("{name}.weight"), rows)];
    let vocab = c.vocab_size;
    let embedding = loader.matrix(&whole("model.embed_tokens", vocab), hidden, weights.embedding)?;
    let mut layers = Vec::with_capacity(c.num_hidden_layers);
    for i in 0..c.num_hidden_layers {
        let mut projection =
            |block: &str, names: &[(&str, usize)], cols: usize, biased: bool| -> Result<Projection> {
                let parts = |what: &str| -> Vec<(String, usize)> {
                    names
                        .iter()
                        .map(|(n, rows)| (format!("model.layers.{i}.{block}.{n}.{what}"), *rows))
                        .collect()
                };
                Ok(Projection {
                    weight: loader.matrix(&parts("weight"), cols, weights.linear)?,
                    bias: if biased { Some(loader.vectors(&parts("bias"))?) } else { None },
                })
            };
        let qkv = [("q_proj", q), ("k_proj", kv), ("v_proj", kv)];
        layers.push(Layer {
            qkv: projection("self_attn", &qkv, hidden, c.attention_bias)?,
            output: projection("self_attn", &[("o_proj", hidden)], q, c.attention_bias)?,
            gate_up: projection(
                "mlp",
                &[("gate_proj", intermediate), ("up_proj", intermediate)],
                hidden,
                c.mlp_bias,
            )?,
            down: projection("mlp", &[("down_proj", hidden)], intermediate, c.mlp_bias)?,
            attention_norm: loader.vector(&format!("model.layers.{i}.input_layernorm.weight"), hidden)?,
            mlp_norm: loader.vector(&format!("model.layers.{i}.post_attention_layernorm.weight"), hidden)?,
        });
    }
    let norm = loader.vector("model.norm.weight", hidden)?;
    let output = match c.tie_word_embeddings {
        true => None,
        false => Some(loader.matrix(&whole("lm_head", vocab), hidden, weights.embedding)?),
    };
    let rotation = loader.table(&rope::rotation(c, loader.positions), "rotation")?;
    Ok(Box::new(Llama { embedding, layers, norm, output, rotation, eps: c.rms_norm_eps, intermediate }))
}

impl Projection {
    /// `x · Wᵀ + b`
    fn apply(&self, r: &mut Recorder<'_>, x: Activations, name: &'static str) -> Buffer {
        let out = r.matmul(x, &self.weight, name);
        if let Some(bias) = self.bias {
            r.add_bias(x.rows, x.capacity, bias, out);
        }
        out
    }

    /// `to += x · Wᵀ + b`
    fn add(&self, r: &mut Recorder<'_>, x: Activations, to: Buffer) {
        r.matmul_add(x, &self.weight, to);
        if let Some(bias) = self.bias {
            r.add_bias(x.rows, x.capacity, bias, to);
        }
    }
}

impl Model for Llama {
    fn hidden_size(&self) -> usize {
        self.embedding.cols
    }

    fn forward(&self, r: &mut Recorder<'_>, Step { rows, capacity, caches }: Step<'_>) -> Buffer {
        let of = |values| Activations { rows, capacity, values };
        r.label("the embedding");
        let x = r.temporary(capacity * self.embedding.cols, "residual"); // [rows, hidden]
        r.embed(rows, capacity, &self.embedding, x);
        for (i, (layer, cache)) in self.layers.iter().zip(caches).enumerate() {
            r.label(format!("layer {i}"));
            let h = r.rms_norm(rows, capacity, x, layer.attention_norm, self.eps); // [rows, hidden]
            let qkv = layer.qkv.apply(r, of(h), "qkv"); //     [rows, (heads + 2·kv_heads) · head_dim]
            let q = r.rope_and_store(rows, capacity, qkv, self.rotation, cache); // [rows, heads · head_dim]
            let a = r.attention(rows, capacity, q, cache); //  [rows, heads · head_dim]
            layer.output.add(r, of(a), x);
            let h = r.rms_norm(rows, capacity, x, layer.mlp_norm, self.eps); // [rows, hidden]
            let gate_up = layer.gate_up.apply(r, of(h), "gate_up"); // [rows, 2 · intermediate]
            let g = r.swiglu(rows, capacity, gate_up, self.intermediate); // [rows, intermediate]
            layer.down.add(r, of(g), x);
        }
        x
    }

    fn logits(&self, r: &mut Recorder<'_>, rows: Buffer, capacity: usize, x: Buffer) -> Buffer {
        r.label("the output layer");
        let values = r.rms_norm(rows, capacity, x, self.norm, self.eps); // [rows, hidden]
        let weight = self.output.as_ref().unwrap_or(&self.embedding);
        r.matmul(Activations { rows, capacity, values }, weight, "logits") // [rows, vocab]
    }

    fn logits_stride(&self) -> usize {
        self.embedding.stride()
    }
}
