//! Arms whose weights are codes of a file: the model's own, or those of another checkpoint of the same model.

use crate::checkpoint::{Checkpoint, Config, Encoding, Rope, TensorInfo, locate};
use crate::error::{Error, Result};
use crate::model::{activation, is_buffer};
use crate::quantize::Loss;
use std::collections::BTreeSet;
use std::rc::Rc;

/// Where an arm's weights are.
#[derive(Clone, Debug)]
pub enum Stored {
    /// In the model that is asked about, which holds codes.
    Model,
    /// In another checkpoint.
    Other(Rc<Other>),
}

/// Another checkpoint.
#[derive(Debug)]
pub struct Other {
    name: String,
    config: Config,
    checkpoint: Checkpoint,
}

impl Stored {
    /// The name of the arm whose weights are the model's own codes.
    pub const FILE: &str = "file";

    /// The weights that an arm's name stands for, if it is [`FILE`](Self::FILE), or a model directory or a file of
    /// weights that is there.
    ///
    /// # Errors
    /// When there is something of that name that cannot be read.
    pub fn named(name: &str) -> Result<Option<Stored>> {
        if name == Stored::FILE {
            return Ok(Some(Stored::Model));
        }
        if !std::path::Path::new(name).exists() {
            return Ok(None);
        }
        let source = locate(name)?;
        let config = Config::open(&source.directory)?;
        let checkpoint = Checkpoint::of(&source)?;
        Ok(Some(Stored::Other(Rc::new(Other { name: name.to_owned(), config, checkpoint }))))
    }

    /// The weights, `model` being those of the model that is asked about.
    pub fn checkpoint<'a>(&'a self, model: &'a Checkpoint) -> &'a Checkpoint {
        match self {
            Stored::Model => model,
            Stored::Other(other) => &other.checkpoint,
        }
    }

    /// Checks that the weights are those of the same model, stored in another way.
    ///
    /// # Errors
    /// What differs.
    pub fn check(&self, config: &Config, model: &Checkpoint) -> Result<()> {
        match self {
            Stored::Model if model.has_codes() => Ok(()),
            Stored::Model => {
                let problem =
                    "the model's file holds no codes, only floats; expected the directory of another one";
                Err(Error::Usage(format!("arm {:?}: {problem}", Stored::FILE)))
            }
            Stored::Other(other) => other.check(config, model),
        }
    }

    /// In words.
    pub fn description(&self, model: &Checkpoint) -> String {
        let kinds: BTreeSet<String> = (self.checkpoint(model).tensors())
            .filter(|info| info.shape.len() == 2)
            .map(|info| match &info.encoding {
                Encoding::Plain(_) => "16-bit floats".to_owned(),
                coded => coded.to_string(),
            })
            .collect();
        let kinds = kinds.into_iter().collect::<Vec<_>>().join(" and ");
        match self {
            Stored::Model => format!("the model's own file, as it is: {kinds}"),
            Stored::Other(other) => format!("the weights of {}, as they are: {kinds}", other.name),
        }
    }

    /// Bits of a weight of the matrices, as they are stored.
    pub fn bits(&self, model: &Checkpoint) -> f64 {
        let (mut bits, mut weights) = (0.0, 0.0);
        for info in self.checkpoint(model).tensors().filter(|info| info.shape.len() == 2) {
            let each = match info.encoding {
                Encoding::Plain(_) => 16.0,
                _ => info.stored_bytes() as f64 * 8.0 / info.elements.max(1) as f64,
            };
            bits += each * info.elements as f64;
            weights += info.elements as f64;
        }
        bits / f64::max(weights, 1.0)
    }

    /// How many states the codes have, where all have as many.
    pub fn states(&self, model: &Checkpoint) -> Option<usize> {
        let coded = self.checkpoint(model).tensors().filter(|info| info.encoding.has_codes());
        let bits: BTreeSet<Option<u32>> =
            coded.map(|info| info.encoding.packing().map(|packing| packing.format.bits)).collect();
        match bits.into_iter().collect::<Vec<_>>()[..] {
            [Some(bits)] => Some(1 << bits.min(16)),
            _ => None,
        }
    }

    /// How far the matrices are from those of the model.
    ///
    /// # Errors
    /// When one of them is missing in the model.
    pub fn loss(&self, model: &Checkpoint) -> Result<Loss> {
        let mut loss = Loss::default();
        let Stored::Other(other) = self else { return Ok(loss) };
        // An empty one may claim any number of rows.
        let matrices = other.checkpoint.tensors().filter(|info| info.shape.len() == 2 && info.elements > 0);
        for info in matrices {
            let Some(mine) = model.get(&info.name).filter(|mine| mine.shape == info.shape) else { continue };
            let pair =
                [model.tensor(&mine.name, &mine.shape)?, other.checkpoint.tensor(&info.name, &info.shape)?];
            let cols = info.shape[1];
            let (mut before, mut after) = (vec![0.0; cols], vec![0.0; cols]);
            for row in 0..info.shape[0] {
                let range = row * cols..(row + 1) * cols;
                pair[0].read_f32(range.clone(), &mut before);
                pair[1].read_f32(range, &mut after);
                let off = before.iter().zip(&after).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
                loss.error += off.sum::<f64>();
                loss.power += before.iter().map(|&a| f64::from(a).powi(2)).sum::<f64>();
            }
            loss.weights += info.elements as u64;
        }
        Ok(loss)
    }

    /// What tells these weights from others of the same name.
    pub fn hash(&self) -> Option<String> {
        match self {
            Stored::Model => None,
            Stored::Other(other) => Some(other.checkpoint.hash()),
        }
    }
}

impl Other {
    fn check(&self, config: &Config, model: &Checkpoint) -> Result<()> {
        let refused = |problem: String| {
            Err(Error::Usage(format!("arm {:?} is not another version of the model: {problem}", self.name)))
        };
        // The arm runs with the model's configuration, whatever its own says.
        for ((what, found), (_, expected)) in settings(&self.config).iter().zip(&settings(config)) {
            if !found.is(expected) {
                return refused(format!("its {what} is {found}, expected the model's, {expected}"));
            }
        }
        for info in self.checkpoint.tensors() {
            match model.get(&info.name) {
                Some(mine) if mine.shape != info.shape => {
                    let (found, expected) = (&info.shape, &mine.shape);
                    let what = format!("tensor {:?} of shape is {found:?}", info.name);
                    return refused(format!("its {what}, expected the model's, {expected:?}"));
                }
                None if !self.says_nothing(info)? => {
                    return refused(format!(
                        "its tensor {:?} is not among the model's, and would not be read",
                        info.name
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a model that does not read the tensor is the same without it.
    fn says_nothing(&self, info: &TensorInfo) -> Result<bool> {
        // Some programs write the embedding once more, by the name of an output matrix.
        let output = ["lm_head.weight", "embed_out.weight"].contains(&info.name.as_str());
        if is_buffer(&info.name) || output && self.config.tie_word_embeddings {
            return Ok(true);
        }
        // Some quantizers give every matrix a bias, of zeros where there was none.
        if !info.name.ends_with(".bias") {
            return Ok(false);
        }
        let mut numbers = vec![0.0; info.elements];
        self.checkpoint.tensor(&info.name, &info.shape)?.read_f32(0..info.elements, &mut numbers);
        Ok(numbers.iter().all(|&x| x == 0.0))
    }
}

/// What a field of a configuration says.
enum Setting {
    Word(String),
    /// Files may hold it in 32 bits.
    Number(Option<f64>),
}

impl Setting {
    fn is(&self, other: &Setting) -> bool {
        match (self, other) {
            (Setting::Number(Some(a)), Setting::Number(Some(b))) => (a - b).abs() <= b.abs() * 1e-6,
            (Setting::Number(a), Setting::Number(b)) => a == b,
            (Setting::Word(a), Setting::Word(b)) => a == b,
            _ => false,
        }
    }
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Setting::Word(word) => f.write_str(word),
            Setting::Number(Some(number)) => number.fmt(f),
            Setting::Number(None) => f.write_str("none"),
        }
    }
}

/// All that a configuration says of what is computed. Which tokens begin and end a text and how long it may be is the
/// model's to say for every arm.
fn settings(config: &Config) -> Vec<(String, Setting)> {
    // Field by field, so that none that is added there is forgotten here.
    let Config {
        architecture,
        model_type: _,
        hidden_size,
        intermediate_size,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads,
        head_dim,
        vocab_size,
        hidden_act,
        norm_eps,
        rope: Rope { rope_theta, rope_scaling, rotary_dim },
        rope_factors,
        rope_local_base_freq,
        no_rope_layers,
        max_position_embeddings: _,
        tie_word_embeddings,
        attention_bias,
        mlp_bias,
        use_qkv_bias,
        num_experts,
        num_experts_per_tok,
        norm_topk_prob,
        use_parallel_residual,
        query_pre_attn_scalar,
        attention_multiplier,
        attn_logit_softcapping,
        final_logit_softcapping,
        embedding_multiplier,
        residual_multiplier,
        logits_scaling,
        windows,
        bos_token_id: _,
        eos_token_ids: _,
    } = config;
    let word =
        |what: &str, value: &dyn std::fmt::Debug| (what.to_owned(), Setting::Word(format!("{value:?}")));
    let number = |what: &str, value: f64| (what.to_owned(), Setting::Number(Some(value)));
    let maybe = |what: &str, value: Option<f64>| (what.to_owned(), Setting::Number(value));
    let size = |what: &str, value: usize| number(what, value as f64);
    let mut all = vec![
        ("architecture".to_owned(), Setting::Word(architecture.clone())),
        size("hidden_size", *hidden_size),
        size("intermediate_size", *intermediate_size),
        size("num_hidden_layers", *num_hidden_layers),
        size("num_attention_heads", *num_attention_heads),
        size("num_key_value_heads", *num_key_value_heads),
        size("head_dim", *head_dim),
        size("vocab_size", *vocab_size),
        // Several names may mean one.
        word("hidden_act", &activation(hidden_act)),
        // A GGUF file has Llama 3's stretch of positions as a tensor, which the loader would apply once more.
        word("stretch of positions", rope_scaling),
        number("rope_theta", *rope_theta),
        size("rotated part of a head", *rotary_dim),
        maybe("rope_local_base_freq", *rope_local_base_freq),
        number("norm's epsilon", (*norm_eps).into()),
        word("tie_word_embeddings", tie_word_embeddings),
        // Qwen2's projections have biases whatever its configuration says.
        word("attention_bias", &(*attention_bias || architecture == "Qwen2ForCausalLM")),
        word("mlp_bias", mlp_bias),
        word("use_qkv_bias", use_qkv_bias),
        size("num_experts", *num_experts),
        size("num_experts_per_tok", *num_experts_per_tok),
        word("norm_topk_prob", norm_topk_prob),
        word("use_parallel_residual", use_parallel_residual),
        number("query_pre_attn_scalar", query_pre_attn_scalar.unwrap_or(*head_dim as f64)),
        maybe("attention_multiplier", *attention_multiplier),
        maybe("attn_logit_softcapping", *attn_logit_softcapping),
        maybe("final_logit_softcapping", *final_logit_softcapping),
        number("embedding_multiplier", *embedding_multiplier),
        number("residual_multiplier", *residual_multiplier),
        number("logits_scaling", *logits_scaling),
    ];
    // Of as many layers by now.
    for (i, (window, still)) in windows.iter().zip(no_rope_layers).enumerate() {
        all.push(maybe(&format!("sliding_window in layer {i}"), window.map(|window| window as f64)));
        all.push(word(&format!("rotation in layer {i}"), &!still));
    }
    let none: &[f32] = &[];
    let lists = rope_factors.as_ref().map_or([none; 2], |factors| [&factors.short, &factors.long]);
    for (name, list) in ["short_factor", "long_factor"].into_iter().zip(lists) {
        all.push(size(&format!("length of {name}"), list.len()));
        all.extend(list.iter().enumerate().map(|(i, &x)| number(&format!("{name}[{i}]"), x.into())));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::{Dtype, SafeTensors, serialize, tensor::TensorView};
    use serde_json::{Value, json};
    use std::path::{Path, PathBuf};

    fn tiny(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny").join(name)
    }

    /// A tiny model with other settings, and with tensors more: name, dimensions and the number that fills them.
    fn edited(name: &str, settings: &Value, tensors: &[(&str, &[usize], f32)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let config = std::fs::read(tiny(name).join("config.json")).unwrap();
        let mut config: Value = serde_json::from_slice(&config).unwrap();
        for (field, value) in settings.as_object().unwrap() {
            config[field] = value.clone();
        }
        std::fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
        let file = std::fs::read(tiny(name).join("model.safetensors")).unwrap();
        let bytes: Vec<Vec<u8>> =
            tensors.iter().map(|(_, shape, x)| x.to_le_bytes().repeat(shape.iter().product())).collect();
        let mut all = SafeTensors::deserialize(&file).unwrap().tensors();
        for ((name, shape, _), bytes) in tensors.iter().zip(&bytes) {
            all.push(((*name).to_owned(), TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap()));
        }
        std::fs::write(directory.path().join("model.safetensors"), serialize(all, None).unwrap()).unwrap();
        directory
    }

    fn check(model: &str, settings: &Value, tensors: &[(&str, &[usize], f32)]) -> Result<()> {
        let directory = edited(model, settings, tensors);
        let source = locate(tiny(model).to_str().unwrap()).unwrap();
        let config = Config::open(&source.directory).unwrap();
        let stored = Stored::named(directory.path().to_str().unwrap()).unwrap().unwrap();
        stored.check(&config, &Checkpoint::of(&source).unwrap())
    }

    #[test]
    fn what_is_computed_in_another_way_is_another_model() {
        let long: Vec<f64> = vec![1.1, 1.5, 2.25, 4.0, 9.5, 23.5];
        let short: Vec<f64> = vec![1.0, 1.05, 1.1, 1.3, 1.6, 2.0];
        let factors =
            json!({"rope_scaling": {"type": "longrope", "short_factor": short, "long_factor": long}});
        for (model, settings, problem) in [
            (
                "llama",
                json!({"tie_word_embeddings": true}),
                "its tie_word_embeddings is true, expected the model's, false",
            ),
            ("llama", json!({"rms_norm_eps": 1e-3}), "norm's epsilon"),
            (
                "gemma2",
                json!({"attn_logit_softcapping": null}),
                "its attn_logit_softcapping is none, expected the model's, 3",
            ),
            ("gemma2", json!({"final_logit_softcapping": 7}), "its final_logit_softcapping is 7"),
            (
                "gemma2",
                json!({"query_pre_attn_scalar": 1}),
                "its query_pre_attn_scalar is 1, expected the model's, 24",
            ),
            (
                "gemma2",
                json!({"sliding_window": 2}),
                "its sliding_window in layer 0 is 2, expected the model's, 8",
            ),
            ("mistral", json!({"sliding_window": null}), "its sliding_window in layer 0 is none"),
            ("gemma3", json!({"rope_local_base_freq": 10}), "its rope_local_base_freq is 10"),
            (
                "gpt-neox",
                json!({"hidden_act": "gelu_new"}),
                "its hidden_act is GeluTanh, expected the model's, Gelu",
            ),
            ("gpt-neox", json!({"use_parallel_residual": false}), "its use_parallel_residual is false"),
            (
                "phi3",
                json!({"partial_rotary_factor": 0.5}),
                "its rotated part of a head is 8, expected the model's, 12",
            ),
            ("phi3-long", factors, "its long_factor[5] is 23.5, expected the model's, 23"),
            ("qwen3-moe", json!({"norm_topk_prob": true}), "its norm_topk_prob is true"),
            (
                "qwen3-moe",
                json!({"num_experts_per_tok": 2}),
                "its num_experts_per_tok is 2, expected the model's, 3",
            ),
            ("granite", json!({"logits_scaling": 1.6}), "its logits_scaling is 1.6"),
            ("granite", json!({"attention_multiplier": 0.25}), "its attention_multiplier is 0.25"),
            (
                "smollm3",
                json!({"no_rope_layers": [1, 1]}),
                "its rotation in layer 1 is true, expected the model's, false",
            ),
        ] {
            let error = check(model, &settings, &[]).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(problem), "{model} {settings}: {error}");
        }
    }

    #[test]
    fn what_changes_nothing_is_no_difference() {
        for (model, settings) in [
            ("llama", json!({"rms_norm_eps": 1.000_000_1e-5, "hidden_act": "swish", "eos_token_id": 5})),
            ("llama", json!({"max_position_embeddings": 32, "bos_token_id": null, "model_type": "other"})),
            ("qwen2", json!({"attention_bias": true})),
            ("gpt-neox-serial", json!({"hidden_act": "gelu_fast"})),
        ] {
            check(model, &settings, &[]).unwrap_or_else(|e| panic!("{model} {settings}: {e}"));
        }
    }

    /// What the model does not read would be left out without a word.
    #[test]
    fn tensors_that_nothing_reads_are_refused() {
        let none = json!({});
        for (name, number) in [
            ("model.layers.0.self_attn.q_proj.bias", 0.5),
            ("model.layers.0.self_attn.q_norm.weight", 0.0),
            ("model.layers.2.mlp.up_proj.weight", 1.0),
            ("rope_freqs.weight", 2.0),
        ] {
            let error = check("llama", &none, &[(name, &[8], number)]).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("not among the model's"), "{error}");
        }
        let ignored: [(&str, &[usize], f32); 3] = [
            ("model.layers.0.self_attn.q_proj.bias", &[8], 0.0),
            ("model.layers.0.self_attn.rotary_emb.inv_freq", &[4], 0.5),
            ("model.layers.0.self_attn.masked_bias", &[], -1e9),
        ];
        check("llama", &none, &ignored).unwrap();
        // The embedding is the output matrix, in both.
        check("qwen2", &none, &[("lm_head.weight", &[8, 8], 1.0)]).unwrap();
    }

    #[test]
    fn empty_matrices_have_no_rows_to_read() {
        let directory = edited("llama", &json!({}), &[("empty.weight", &[1 << 40, 0], 0.0)]);
        let source = locate(directory.path().to_str().unwrap()).unwrap();
        let stored = Stored::named(directory.path().to_str().unwrap()).unwrap().unwrap();
        let loss = stored.loss(&Checkpoint::of(&source).unwrap()).unwrap();
        assert!(loss.error == 0.0 && loss.power > 0.0);
    }
}
