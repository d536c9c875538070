//! The decoder that every family here is: its weights by its [`Design`], and its forward pass.

use super::design::{Biased, Design, NormKind, QueryKeyNorm};
use super::{Loader, Model, Step, rope};
use crate::checkpoint::{Config, Rope, RopeScaling};
use crate::error::{Error, Result};
use crate::format::Packing;
use crate::kernels::matmul::Activations;
use crate::kernels::{Activation, Heads, LayerNorm, Matrix, RmsNorm, Rotation, Scale};
use crate::recording::{Buffer, Origin, Recorder};

struct Decoder {
    embedding: Matrix,
    embedding_scale: Scale,
    /// Learned positions, `[positions, hidden]`.
    positions: Option<Buffer>,
    layers: Vec<Layer>,
    norm: Norm,
    /// None where the embedding serves.
    output: Option<Matrix>,
    heads: Heads,
    scores: Scale,
    parallel: bool,
    activation: Activation,
    gated: bool,
    intermediate: usize,
    logits: Scale,
}

struct Layer {
    before_attention: Option<Norm>,
    /// Rows of q, then k, then v; or by head.
    qkv: Projection,
    query_norm: Option<PartNorm>,
    key_norm: Option<PartNorm>,
    rotation: Rotation,
    attention_output: Projection,
    after_attention: Option<RmsNorm>,
    before_mlp: Option<Norm>,
    mlp: Mlp,
    after_mlp: Option<RmsNorm>,
}

enum Mlp {
    Dense {
        /// Rows of gate and up, in turns or one after the other; or just up.
        up: Projection,
        down: Projection,
    },
    Experts {
        /// `[experts, hidden]`
        router: Matrix,
        /// Of each expert rows of gate, then up.
        up: Matrix,
        /// Of each expert `[hidden, intermediate]`.
        down: Matrix,
        /// How many of them a token goes through, and whether their weights add up to 1.
        choice: (usize, bool),
    },
}

#[derive(Clone, Copy)]
enum Norm {
    Rms(RmsNorm),
    Layer(LayerNorm),
}

/// A norm of parts of a row: where the first one starts, and how many there are.
struct PartNorm {
    norm: RmsNorm,
    parts: (usize, usize),
}

struct Projection {
    weight: Matrix,
    bias: Option<Buffer>,
    /// Its tensors, and where factors of its input's columns could go.
    tensors: Vec<String>,
    origin: Vec<Origin>,
}

impl Design {
    /// Reads the weights.
    pub fn load(&self, c: &Config, loader: &mut Loader<'_>) -> Result<Box<dyn Model>> {
        let (names, hidden, embedding) = (self.names, c.hidden_size, loader.weights.embedding);
        let rooted = |name: &str| format!("{}{name}", names.root);
        let table = |name: String| vec![(format!("{name}.weight"), c.vocab_size)];
        let embedding_matrix = loader.matrix(&table(rooted(names.embedding)), hidden, embedding)?;
        let positions = match names.positions {
            Some(name) => {
                let shape = [c.max_position_embeddings, hidden];
                Some(loader.rows(&format!("{}.weight", rooted(name)), shape, loader.positions)?)
            }
            None => None,
        };
        let mut rotations = Vec::new();
        let mut layers = Vec::with_capacity(self.layers.len());
        for (i, layer) in self.layers.iter().enumerate() {
            let rotation = rotation(layer.rope, c, &mut rotations, loader)?;
            layers.push(self.load_layer(c, loader, &rooted(&format!("{}.{i}", names.layers)), rotation)?);
        }
        let norm = self.norm(loader, &rooted(names.last_norm), hidden)?;
        let output = match c.tie_word_embeddings {
            true => None,
            false => Some(loader.product(&table(names.output.to_owned()), hidden, embedding)?),
        };
        Ok(Box::new(Decoder {
            embedding: embedding_matrix,
            embedding_scale: Scale::by(self.embedding_scale),
            positions,
            layers,
            norm,
            output,
            heads: self.heads,
            scores: self.scores,
            parallel: self.parallel,
            activation: self.activation,
            gated: self.gated,
            intermediate: c.intermediate_size,
            logits: self.logits,
        }))
    }

    fn load_layer(
        &self,
        c: &Config,
        loader: &mut Loader<'_>,
        layer: &str,
        rotation: Rotation,
    ) -> Result<Layer> {
        let (names, hidden) = (self.names, c.hidden_size);
        let (q, kv) = (c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim);
        let Biased { qkv, attention_output, mlp } = self.biased;
        let named = |name: &str| format!("{layer}.{name}");
        let up = if self.gated { 2 * c.intermediate_size } else { c.intermediate_size };
        let qkv_rows: &[usize] = if names.qkv.len() == 3 { &[q, kv, kv] } else { &[q + 2 * kv] };
        let up_rows: &[usize] = if names.up.len() == 2 { &[up / 2, up / 2] } else { &[up] };
        let origins = self.origins(c, layer);
        let mut projection = |tensors: &[&str], rows: &[usize], cols: usize, biased: bool, origin: usize| {
            let parts = |what: &str| -> Vec<(String, usize)> {
                let name = |name: &&str| format!("{layer}.{name}.{what}");
                tensors.iter().map(name).zip(rows.iter().copied()).collect()
            };
            let (parts_of_weight, packing) = (parts("weight"), loader.weights.linear);
            let weight = match self.transposed {
                true => loader.transposed(&parts_of_weight, cols, packing)?,
                // Gate and up; a bias would come between their sums and the activation.
                false if origin == 2 && self.gated && !biased => {
                    loader.glu(&parts_of_weight, cols, packing, self.activation)?
                }
                false => loader.product(&parts_of_weight, cols, packing)?,
            };
            let bias = if biased { Some(loader.vectors(&parts("bias"))?) } else { None };
            let tensors = parts_of_weight.into_iter().map(|(name, _)| name).collect();
            Ok(Projection { weight, bias, tensors, origin: origins[origin].clone() })
        };
        let qkv = projection(names.qkv, qkv_rows, hidden, qkv, 0)?;
        let output = projection(&[names.attention_output], &[hidden], q, attention_output, 1)?;
        let mlp = match self.experts {
            None => Mlp::Dense {
                up: projection(names.up, up_rows, hidden, mlp, 2)?,
                down: projection(&[names.down], &[hidden], c.intermediate_size, mlp, 3)?,
            },
            Some(choice) => self.load_experts(c, loader, layer, choice)?,
        };
        let mut part_norm = |name: &str, first: usize, heads: usize| {
            let (width, count) = match self.query_key_norm {
                None => return Ok(None),
                Some(QueryKeyNorm::ByHead) => (c.head_dim, heads),
                Some(QueryKeyNorm::Whole) => (heads * c.head_dim, 1),
            };
            Ok(Some(PartNorm { norm: self.rms_norm(loader, &named(name), width)?, parts: (first, count) }))
        };
        let query_norm = part_norm(names.query_norm, 0, c.num_attention_heads)?;
        let key_norm = part_norm(names.key_norm, q, c.num_key_value_heads)?;
        let mut before =
            |name: Option<&str>| name.map(|name| self.norm(loader, &named(name), hidden)).transpose();
        let (before_attention, before_mlp) = (before(names.before_attention)?, before(names.before_mlp)?);
        let mut after =
            |name: Option<&str>| name.map(|name| self.rms_norm(loader, &named(name), hidden)).transpose();
        let (after_attention, after_mlp) = (after(names.after_attention)?, after(names.after_mlp)?);
        Ok(Layer {
            before_attention,
            qkv,
            query_norm,
            key_norm,
            rotation,
            attention_output: output,
            after_attention,
            before_mlp,
            mlp,
            after_mlp,
        })
    }

    /// Where factors of the columns of each projection's input could go: of queries, keys and values, of attention's
    /// output, of gate and up, of down.
    fn origins(&self, c: &Config, layer: &str) -> [Vec<Origin>; 4] {
        let names = self.names;
        let of = |name: &str, biased: bool, first: usize| -> Vec<Origin> {
            let tensor = |what: &&str| format!("{layer}.{name}.{what}");
            let origin = |tensor| Origin { tensor, first, one_plus: self.norm == NormKind::RmsOnePlus };
            ["weight", "bias"].iter().take(1 + usize::from(biased)).map(tensor).map(origin).collect()
        };
        let rows = |name: &str, biased: bool, first: usize| -> Vec<Origin> {
            of(name, biased, first).into_iter().map(|origin| Origin { one_plus: false, ..origin }).collect()
        };
        let own = names.before_attention != names.before_mlp;
        let norm = |name: Option<&str>| {
            name.filter(|_| own).map_or(Vec::new(), |name| of(name, self.norm == NormKind::Layer, 0))
        };
        let width = c.num_attention_heads * c.head_dim;
        // A value that several query heads share is several columns.
        let values = match names.qkv {
            _ if c.num_attention_heads != c.num_key_value_heads || self.transposed => Vec::new(),
            [_, _, values] => rows(values, self.biased.qkv, 0),
            [all] if self.heads == Heads::ByKind => rows(all, self.biased.qkv, 2 * width),
            _ => Vec::new(),
        };
        let up = match names.up {
            _ if !self.gated || self.transposed => Vec::new(),
            [_, up] => rows(up, self.biased.mlp, 0),
            [both] => rows(both, self.biased.mlp, c.intermediate_size),
            _ => Vec::new(),
        };
        [norm(names.before_attention), values, norm(names.before_mlp), up]
    }

    fn load_experts(
        &self,
        c: &Config,
        loader: &mut Loader<'_>,
        layer: &str,
        choice: (usize, bool),
    ) -> Result<Mlp> {
        let (router, experts) = self.names.experts;
        let (hidden, inner, linear) = (c.hidden_size, c.intermediate_size, loader.weights.linear);
        let all = |names: &[&str], rows: usize| -> Vec<(String, usize)> {
            let of = |expert| {
                names.iter().map(move |name| (format!("{layer}.{experts}.{expert}.{name}.weight"), rows))
            };
            (0..c.num_experts).flat_map(of).collect()
        };
        // It is small, and a wrong choice costs more than a wrong weight.
        let router =
            loader.product(&[(format!("{layer}.{router}.weight"), c.num_experts)], hidden, Packing::F16)?;
        Ok(Mlp::Experts {
            router,
            up: loader.matrix(&all(self.names.up, inner), hidden, linear)?,
            down: loader.matrix(&all(&[self.names.down], hidden), inner, linear)?,
            choice,
        })
    }

    fn norm(&self, loader: &mut Loader<'_>, name: &str, width: usize) -> Result<Norm> {
        if self.norm != NormKind::Layer {
            return Ok(Norm::Rms(self.rms_norm(loader, name, width)?));
        }
        let weight = loader.vector(&format!("{name}.weight"), width)?;
        let bias = loader.vector(&format!("{name}.bias"), width)?;
        Ok(Norm::Layer(LayerNorm { weight, bias, eps: self.eps }))
    }

    fn rms_norm(&self, loader: &mut Loader<'_>, name: &str, width: usize) -> Result<RmsNorm> {
        let weight = loader.vector(&format!("{name}.weight"), width)?;
        Ok(RmsNorm { weight, one_plus: self.norm == NormKind::RmsOnePlus, eps: self.eps })
    }
}

/// The tensor in which a GGUF file has what frequencies are divided by, in place of the rule that made it.
const FACTORS: &str = "rope_freqs.weight";

/// Those of LongRoPE, for short texts and for long ones.
const LONG_ROPE: [&str; 2] = ["rope_factors_short.weight", "rope_factors_long.weight"];

/// What each pair's frequency is divided by, if by anything apart from the rule of the configuration.
fn factors(rope: Rope, c: &Config, loader: &mut Loader<'_>) -> Result<Option<Vec<f32>>> {
    let pairs = rope.rotary_dim / 2;
    let RopeScaling::LongRope { original_max_position_embeddings: original, .. } = rope.rope_scaling else {
        return loader.optional(FACTORS, pairs);
    };
    // Keys stay in the cache as they were turned, so all texts of an engine are turned alike.
    let long = loader.context > original;
    if let Some(factors) = &c.rope_factors {
        return Ok(Some(if long { factors.long.clone() } else { factors.short.clone() }));
    }
    let [short_ones, long_ones] = LONG_ROPE.map(|name| loader.optional(name, pairs));
    let found = if long { long_ones? } else { short_ones? };
    let problem = "rope_type is \"longrope\", and short_factor and long_factor are missing";
    found.map(Some).ok_or_else(|| Error::Model(problem.to_owned()))
}

/// The angles of a layer; layers that turn alike share them.
fn rotation(
    rope: Option<Rope>,
    c: &Config,
    made: &mut Vec<(Option<Rope>, Rotation)>,
    loader: &mut Loader<'_>,
) -> Result<Rotation> {
    if let Some((_, rotation)) = made.iter().find(|(other, _)| *other == rope) {
        return Ok(*rotation);
    }
    let (mut angles, pairs) = match rope {
        Some(rope) => {
            let factors = factors(rope, c, loader)?;
            (rope::rotation(rope, factors.as_deref(), loader.positions), rope.rotary_dim / 2)
        }
        None => (Vec::new(), 0),
    };
    // Kernels load two turns at a time, and want a table even where they will not look at it.
    angles.resize(angles.len().next_multiple_of(4).max(4), 0.0);
    let rotation = Rotation { table: loader.table(&angles, "rotation")?, pairs };
    made.push((rope, rotation));
    Ok(rotation)
}

/// What a norm, if there is one, makes of rows.
fn normed(norm: Option<Norm>, r: &mut Recorder<'_>, x: Activations) -> Buffer {
    match norm {
        Some(Norm::Rms(norm)) => r.rms_norm(x.rows, x.capacity, x.values, norm),
        Some(Norm::Layer(norm)) => r.layer_norm(x.rows, x.capacity, x.values, norm),
        None => x.values,
    }
}

/// The product of normed rows with a matrix, where one step makes both.
fn multiply_normed(
    r: &mut Recorder<'_>,
    x: Activations,
    norm: Option<Norm>,
    weight: &Matrix,
    name: &'static str,
) -> Option<Buffer> {
    match norm {
        Some(Norm::Rms(norm)) => r.matmul_normed(x, norm, weight, name),
        _ => None,
    }
}

impl Layer {
    /// `[rows, (heads + 2·kv_heads) · head_dim]`
    fn queries_keys_values(&self, r: &mut Recorder<'_>, x: Activations) -> Buffer {
        let qkv = self.qkv.apply_normed(r, x, self.before_attention, "qkv");
        let mut norm = |norm: &PartNorm, others| {
            r.head_norm(x.rows, x.capacity, qkv, norm.norm, norm.parts, others);
        };
        match (&self.query_norm, &self.key_norm) {
            // Keys follow queries.
            (Some(query), Some(key)) if query.norm.width() == key.norm.width() => {
                norm(query, Some((key.norm.weight, key.parts.1)));
            }
            (query, key) => query.iter().chain(key).for_each(|part| norm(part, None)),
        }
        qkv
    }
}

impl Projection {
    /// `x · Wᵀ + b`
    fn apply(&self, r: &mut Recorder<'_>, x: Activations, name: &'static str) -> Buffer {
        r.reads(x.values, &self.tensors, &self.origin);
        let out = r.matmul(x, &self.weight, name);
        if let Some(bias) = self.bias {
            r.add_bias(x.rows, x.capacity, bias, out);
        }
        out
    }

    /// `norm(x) · Wᵀ + b`
    fn apply_normed(
        &self,
        r: &mut Recorder<'_>,
        x: Activations,
        norm: Option<Norm>,
        name: &'static str,
    ) -> Buffer {
        let Some(out) = multiply_normed(r, x, norm, &self.weight, name) else {
            let values = normed(norm, r, x); // [rows, cols]
            return self.apply(r, Activations { values, ..x }, name);
        };
        if let Some(bias) = self.bias {
            r.add_bias(x.rows, x.capacity, bias, out);
        }
        out
    }

    /// `to += x · Wᵀ + b`, or what a norm makes of that.
    fn add(&self, r: &mut Recorder<'_>, x: Activations, norm: Option<RmsNorm>, to: Buffer) {
        if let Some(norm) = norm {
            let y = self.apply(r, x, "branch");
            return r.rms_norm_add(x.rows, x.capacity, y, norm, to);
        }
        r.reads(x.values, &self.tensors, &self.origin);
        r.matmul_add(x, &self.weight, to);
        if let Some(bias) = self.bias {
            r.add_bias(x.rows, x.capacity, bias, to);
        }
    }
}

impl Model for Decoder {
    fn forward(&self, r: &mut Recorder<'_>, step: Step<'_>) -> (Buffer, Buffer) {
        let Step { mut rows, mut capacity, mut prompt, caches, outputs } = step;
        let hidden = self.embedding.cols;
        let wanted = (outputs.len / 4) as usize;
        r.label("the embedding");
        let mut x = r.temporary(capacity * hidden, "residual"); // [rows, hidden]
        r.embed(rows, capacity, &self.embedding, x);
        r.scale(rows, capacity, x, self.embedding_scale);
        if let Some(table) = self.positions {
            r.add_position(rows, capacity, table, x);
        }
        for (i, (layer, cache)) in self.layers.iter().zip(caches).enumerate() {
            r.label(format!("layer {i}"));
            let qkv = layer.queries_keys_values(r, Activations { rows, capacity, values: x });
            // In decoding, each row is the last of a sequence of its own.
            let made = (qkv, self.heads);
            let appended = (!step.prompt)
                .then(|| r.attention_and_store((rows, capacity), made, layer.rotation, self.scores, cache));
            let a = appended.flatten().unwrap_or_else(|| {
                let mut q = r.rope_and_store(rows, capacity, made, layer.rotation, cache);
                // Behind the last keys and values, nobody looks at rows whose logits are not wanted.
                if wanted < capacity && i + 1 == self.layers.len() {
                    (q, _) = r.gather(rows, outputs, q, cache.heads * cache.head_dim);
                    (x, rows) = r.gather(rows, outputs, x, hidden);
                    (capacity, prompt) = (wanted, false);
                }
                r.attention((rows, capacity, prompt), q, self.scores, cache)
            }); // [rows, heads · head_dim]
            let of = |values| Activations { rows, capacity, values };
            let normed = |r: &mut Recorder<'_>| normed(layer.before_mlp, r, of(x));
            let parallel = self.parallel.then(|| normed(r)); //           [rows, hidden]
            layer.attention_output.add(r, of(a), layer.after_attention, x);
            match &layer.mlp {
                Mlp::Dense { up, down } => {
                    // [rows, intermediate], twice that if gated and not yet multiplied
                    let made = match parallel {
                        Some(h) => up.apply(r, of(h), "up"),
                        None => up.apply_normed(r, of(x), layer.before_mlp, "up"),
                    };
                    let inner = match up.weight.glu {
                        Some(_) => made,
                        None => {
                            r.activate(rows, capacity, made, self.intermediate, self.activation, self.gated)
                        }
                    };
                    down.add(r, of(inner), layer.after_mlp, x);
                }
                Mlp::Experts { router, up, down, choice } => {
                    let h = parallel.unwrap_or_else(|| normed(r)); // [rows, hidden]
                    let likes = r.matmul(of(h), router, "router"); // [rows, experts]
                    let experts = r.route(rows, capacity, likes, router.rows, *choice);
                    let experts = r.sorted(capacity, experts);
                    let up = r.experts_up(of(h), up, experts); //   [rows, gate of all slots, up of all slots]
                    let inner = experts.slots * self.intermediate;
                    let g = r.activate(rows, capacity, up, inner, self.activation, self.gated);
                    r.experts_down(of(g), down, experts, x);
                }
            }
        }
        r.label("the output layer");
        match wanted < step.capacity {
            true => (x, rows),
            false => r.gather(rows, outputs, x, hidden),
        }
    }

    fn logits(&self, r: &mut Recorder<'_>, rows: Buffer, capacity: usize, x: Buffer) -> Buffer {
        let x = Activations { rows, capacity, values: x };
        let weight = self.output.as_ref().unwrap_or(&self.embedding);
        let logits = multiply_normed(r, x, Some(self.norm), weight, "logits").unwrap_or_else(|| {
            let values = normed(Some(self.norm), r, x); // [rows, hidden]
            r.matmul(Activations { values, ..x }, weight, "logits")
        }); // [rows, vocab]
        r.scale(rows, capacity, logits, self.logits);
        logits
    }

    fn logits_stride(&self) -> usize {
        self.embedding.stride()
    }
}
