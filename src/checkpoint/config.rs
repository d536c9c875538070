//! A model's `config.json`.
//!
//! Keys that mean nothing here are skipped. Those that mean something must have a value that the forward
//! pass can honour: a setting that it would silently ignore is an error. Whether the architecture itself
//! is one that can run is for `crate::model` to say.

use super::{Directory, MAX_JSON, MESSAGE, QUOTE, clip};
use crate::error::{Error, Result};
use serde_json::{Map, Value};

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
    /// Width inside the MLP.
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
    /// What is added under the root of an RMS norm.
    pub rms_norm_eps: f32,
    /// Base of the rotary embedding.
    pub rope_theta: f64,
    /// How the rotary embedding is stretched.
    pub rope_scaling: RopeScaling,
    /// Longest text that the model is made for.
    pub max_position_embeddings: usize,
    /// Whether the output matrix is the embedding.
    pub tie_word_embeddings: bool,
    /// Whether the attention's projections have biases (where the architecture leaves that open).
    pub attention_bias: bool,
    /// Whether the MLP's projections have biases.
    pub mlp_bias: bool,
    /// How many positions attention looks back, itself included, in every layer; none for all.
    pub sliding_window: Option<usize>,
    /// The token that begins a text.
    pub bos_token_id: Option<u32>,
    /// The tokens that end a text, each once.
    pub eos_token_ids: Vec<u32>,
}

/// How the rotary embedding's frequencies are changed for texts longer than those first trained on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    #[default]
    None,
    /// Every frequency is divided by `factor`.
    Linear {
        /// At least 1.
        factor: f64,
    },
    /// Low frequencies are divided by `factor`, high ones kept, those between blended, as in Llama 3.1.
    Llama3 {
        /// At least 1.
        factor: f64,
        /// Wavelengths longer than the original length over this are low frequencies.
        low_freq_factor: f64,
        /// Wavelengths shorter than the original length over this are high ones; above `low_freq_factor`.
        high_freq_factor: f64,
        /// The original length.
        original_max_position_embeddings: usize,
    },
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
        let object = parse_object(json)?;
        let fields = Fields(&object);
        let model_type = fields.text("model_type", "")?.to_owned();
        let architecture = match fields.get("architectures") {
            Some(names) => match names.get(0).and_then(Value::as_str) {
                Some(name) => name.to_owned(),
                None => return Err(found("architectures", Some(names), "a list of names")),
            },
            None if model_type.is_empty() => return Err(found("architectures", None, "a list of names")),
            None => model_type.clone(),
        };
        // A model of another kind may lack a field that the known ones have; then its kind is what matters.
        Config::of(&fields, &architecture, model_type)
            .map_err(|problem| clip(&format!("{problem} (architecture {architecture:?})"), MESSAGE))
    }

    fn of(fields: &Fields, architecture: &str, model_type: String) -> Result<Config, String> {
        let hidden_size = fields.size("hidden_size", 1 << 17, None)?;
        let intermediate_size = fields.size("intermediate_size", 1 << 20, None)?;
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
        if fields.text("hidden_act", "silu")? != "silu" {
            return Err(found("hidden_act", fields.get("hidden_act"), "\"silu\", the only one supported"));
        }
        let (rope_theta, rope_scaling) = rope(fields)?;
        Ok(Config {
            architecture: architecture.to_owned(),
            hidden_size,
            intermediate_size,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            vocab_size,
            rms_norm_eps: fields.number("rms_norm_eps", 1e-12, 0.1, None)? as f32,
            rope_theta,
            rope_scaling,
            max_position_embeddings: fields.size("max_position_embeddings", MAX_POSITIONS, None)?,
            tie_word_embeddings: fields.flag("tie_word_embeddings", false)?,
            attention_bias: fields.flag("attention_bias", false)?,
            mlp_bias: fields.flag("mlp_bias", false)?,
            sliding_window: sliding_window(fields, &model_type, num_hidden_layers)?,
            bos_token_id: fields.tokens("bos_token_id", vocab_size)?.first().copied(),
            eos_token_ids: fields.tokens("eos_token_id", vocab_size)?,
            model_type,
        })
    }

    /// Adds the tokens that end a text according to the text of a `generation_config.json`.
    pub fn merge_generation(&mut self, json: &str) -> Result<(), String> {
        let object = parse_object(json)?;
        for token in Fields(&object).tokens("eos_token_id", self.vocab_size).map_err(|e| clip(&e, MESSAGE))? {
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

/// `rope_theta` and the scaling, which older configurations keep apart (`rope_theta`, `rope_scaling`) and
/// newer ones together (`rope_parameters`).
fn rope(fields: &Fields) -> Result<(f64, RopeScaling), String> {
    let (older, newer) = (fields.get("rope_scaling"), fields.get("rope_parameters"));
    if older.is_some() && newer.is_some() && older != newer {
        return Err("rope_scaling and rope_parameters differ, expected one of them".into());
    }
    let none = Map::new();
    let scaling = match newer.or(older) {
        None => &none,
        Some(Value::Object(object)) => object,
        Some(other) => return Err(found("rope_scaling", Some(other), "an object")),
    };
    let scaling = Fields(scaling);
    for fields in [fields, &scaling] {
        if fields.number("partial_rotary_factor", 0.0, 1.0, Some(1.0))? != 1.0 {
            return Err(found("partial_rotary_factor", fields.get("partial_rotary_factor"), "1"));
        }
    }
    // Some models have one such object for each kind of layer.
    if let Some((name, value)) = scaling.0.iter().find(|(_, value)| value.is_object()) {
        return Err(found(&format!("{name} in the rope parameters"), Some(value), "one set for all layers"));
    }
    let apart = fields.number("rope_theta", 1.0, 1e12, Some(10_000.0))?;
    let rope_theta = scaling.number("rope_theta", 1.0, 1e12, Some(apart))?;
    if rope_theta != apart && fields.get("rope_theta").is_some() {
        return Err(format!("rope_theta is {apart}, and {rope_theta} with the scaling, expected the same"));
    }

    let without = if scaling.get("factor").is_none() { "default" } else { "" };
    let kind = scaling.text("rope_type", scaling.text("type", without)?)?;
    let factor = || scaling.number("factor", 1.0, 1e6, None);
    let rope_scaling = match kind {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: factor()? },
        "llama3" => {
            let low_freq_factor = scaling.number("low_freq_factor", 1e-3, 1e6, None)?;
            let high_freq_factor = scaling.number("high_freq_factor", 1e-3, 1e6, None)?;
            if low_freq_factor >= high_freq_factor {
                let above = format!("more than low_freq_factor ({low_freq_factor})");
                return Err(found("high_freq_factor", scaling.get("high_freq_factor"), &above));
            }
            let original_max_position_embeddings =
                scaling.size("original_max_position_embeddings", MAX_POSITIONS, None)?;
            let factor = factor()?;
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            }
        }
        other => {
            return Err(format!("rope_type is {other:?}, expected \"default\", \"linear\" or \"llama3\""));
        }
    };
    Ok((rope_theta, rope_scaling))
}

/// The window of every layer. Models that mix layers with and without one are refused.
fn sliding_window(fields: &Fields, model_type: &str, layers: usize) -> Result<Option<usize>, String> {
    let window = fields.get("sliding_window").map(|_| fields.size("sliding_window", MAX_POSITIONS, None));
    let window = window.transpose()?;
    // Mistral's configurations have no such switch; Qwen's have, and it is off if left out.
    let in_use = fields.flag("use_sliding_window", !model_type.starts_with("qwen"))?;
    let mixed = |key, expected| Err(found(key, fields.get(key), expected));
    if let Some(kinds) = fields.get("layer_types") {
        let kinds = kinds.as_array().filter(|kinds| kinds.len() == layers);
        let is = |kind: &str| kinds.is_some_and(|kinds| kinds.iter().all(|k| k == kind));
        return match window.filter(|_| in_use) {
            _ if is("full_attention") => Ok(None),
            Some(window) if is("sliding_attention") => Ok(Some(window)),
            _ => mixed("layer_types", "\"full_attention\" for every layer, or \"sliding_attention\""),
        };
    }
    match window.filter(|_| in_use) {
        // In Qwen's, this many layers, from the first on, have no window after all.
        Some(window) if fields.get("max_window_layers").is_some() => {
            match fields.get("max_window_layers").and_then(Value::as_u64) {
                Some(0) => Ok(Some(window)),
                Some(full) if full >= layers as u64 => Ok(None),
                _ => mixed("max_window_layers", "0 or the number of layers: layers must not differ"),
            }
        }
        window => Ok(window),
    }
}

/// "`name` is this, expected that."
fn found(name: &str, value: Option<&Value>, expected: &str) -> String {
    match value {
        Some(value) => format!("{name} is {}, expected {expected}", clip(&value.to_string(), QUOTE)),
        None => format!("{name} is missing, expected {expected}"),
    }
}

/// The fields of an object, `null` being as good as absent.
struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// The field as `read` has it, or `default`; if there is none of either, or of another kind, an error.
    fn read<'a, T>(
        &'a self,
        name: &str,
        default: Option<T>,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T, String> {
        match (self.get(name), default) {
            (None, Some(default)) => Ok(default),
            (value, _) => value.and_then(read).ok_or_else(|| found(name, value, expected)),
        }
    }

    fn size(&self, name: &str, max: usize, default: Option<usize>) -> Result<usize, String> {
        let in_range =
            |value: &Value| usize::try_from(value.as_u64()?).ok().filter(|n| (1..=max).contains(n));
        self.read(name, default, &format!("an integer from 1 to {max}"), in_range)
    }

    fn number(&self, name: &str, min: f64, max: f64, default: Option<f64>) -> Result<f64, String> {
        let in_range = |value: &Value| value.as_f64().filter(|n| (min..=max).contains(n));
        self.read(name, default, &format!("a number from {min} to {max}"), in_range)
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool, String> {
        self.read(name, Some(default), "true or false", Value::as_bool)
    }

    fn text<'a>(&'a self, name: &str, default: &'a str) -> Result<&'a str, String> {
        self.read(name, Some(default), "a string", Value::as_str)
    }

    /// A token or a list of them, each once.
    fn tokens(&self, name: &str, vocab_size: usize) -> Result<Vec<u32>, String> {
        let value = self.get(name);
        let list = match value {
            None => &[],
            Some(Value::Array(list)) => list.as_slice(),
            Some(one) => std::slice::from_ref(one),
        };
        let mut tokens = Vec::new();
        for token in list {
            let id =
                token.as_u64().filter(|&id| id < vocab_size as u64).and_then(|id| u32::try_from(id).ok());
            let Some(id) = id else {
                return Err(found(name, value, &format!("tokens below vocab_size ({vocab_size})")));
            };
            if !tokens.contains(&id) {
                tokens.push(id);
            }
        }
        Ok(tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A small Llama, changed by `changes`; a change to `null` leaves the field in as `null`.
    fn parse(changes: Value) -> Result<Config, String> {
        let mut json = json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 576,
            "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
            "num_key_value_heads": 3, "vocab_size": 49152, "rms_norm_eps": 1e-5, "hidden_act": "silu",
            "max_position_embeddings": 8192, "bos_token_id": 1, "eos_token_id": 2, "anything": {"else": []}
        });
        json.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        Config::parse(&json.to_string())
    }

    #[test]
    fn defaults() {
        let config = parse(json!({"head_dim": null, "rope_scaling": null, "sliding_window": null})).unwrap();
        assert_eq!((config.architecture.as_str(), config.head_dim), ("LlamaForCausalLM", 64));
        assert_eq!((config.rope_theta, config.rope_scaling), (10_000.0, RopeScaling::None));
        assert_eq!((config.bos_token_id, config.eos_token_ids), (Some(1), vec![2]));
        assert!(!config.tie_word_embeddings && !config.attention_bias && !config.mlp_bias);
        assert_eq!(config.sliding_window, None);
        let config =
            parse(json!({"num_key_value_heads": null, "eos_token_id": null, "head_dim": 128})).unwrap();
        assert_eq!((config.num_key_value_heads, config.head_dim), (9, 128));
        assert!(config.eos_token_ids.is_empty());
        assert_eq!(parse(json!({"architectures": null})).unwrap().architecture, "llama");
    }

    #[test]
    fn rope_in_every_spelling() {
        let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
        let older = parse(json!({"rope_theta": 500000, "rope_scaling": llama3})).unwrap();
        let mut newer = llama3.clone();
        newer["rope_theta"] = json!(500000.0);
        let newer = parse(json!({"rope_parameters": newer})).unwrap();
        assert_eq!(older, newer);
        let scaling = "Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, \
            original_max_position_embeddings: 8192 }";
        assert_eq!((older.rope_theta, format!("{:?}", older.rope_scaling).as_str()), (500_000.0, scaling));
        let linear = parse(json!({"rope_scaling": {"type": "linear", "factor": 2}})).unwrap();
        assert_eq!(linear.rope_scaling, RopeScaling::Linear { factor: 2.0 });
        let plain = parse(json!({"rope_parameters": {"rope_type": "default", "rope_theta": 7e5}})).unwrap();
        assert_eq!((plain.rope_theta, plain.rope_scaling), (7e5, RopeScaling::None));
    }

    #[test]
    fn windows() {
        let window = |changes| parse(changes).map(|config| config.sliding_window);
        assert_eq!(window(json!({"sliding_window": 4096})), Ok(Some(4096)));
        assert_eq!(window(json!({"sliding_window": 4096, "use_sliding_window": false})), Ok(None));
        let qwen = |using: Value, full: u32| {
            window(json!({"model_type": "qwen2", "sliding_window": 64, "use_sliding_window": using,
                "max_window_layers": full}))
        };
        assert_eq!(qwen(Value::Null, 0), Ok(None));
        assert_eq!(qwen(json!(true), 0), Ok(Some(64)));
        assert_eq!(qwen(json!(true), 30), Ok(None));
        assert!(qwen(json!(true), 28).unwrap_err().contains("max_window_layers is 28"));
        let kinds = |a: &str, b: &str, n: usize| {
            let mut kinds = vec![a; n];
            kinds[0] = b;
            window(json!({"sliding_window": 64, "layer_types": kinds}))
        };
        assert_eq!(kinds("full_attention", "full_attention", 30), Ok(None));
        assert_eq!(kinds("sliding_attention", "sliding_attention", 30), Ok(Some(64)));
        assert!(kinds("full_attention", "sliding_attention", 30).unwrap_err().contains("every layer"));
        assert!(kinds("full_attention", "full_attention", 29).is_err());
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        let llama3 = json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4,
            "original_max_position_embeddings": 8192});
        for (changes, expected) in [
            (json!({"hidden_size": null}), "hidden_size is missing, expected an integer from 1 to 131072"),
            (json!({"hidden_size": 0}), "hidden_size is 0"),
            (json!({"hidden_size": -576}), "hidden_size is -576"),
            (json!({"hidden_size": 576.0}), "hidden_size is 576.0"),
            (json!({"hidden_size": "576"}), "hidden_size is \"576\""),
            (json!({"hidden_size": 577}), "a multiple of num_attention_heads (9)"),
            (json!({"hidden_size": 9 * 12}), "hidden_size is 108, expected a multiple of 8"),
            (json!({"hidden_size": 72 * 1024}), "is 8192, expected at most 256"),
            (json!({"intermediate_size": 1537}), "intermediate_size is 1537"),
            (json!({"head_dim": 12}), "head_dim is 12"),
            (json!({"head_dim": 264}), "head_dim is 264"),
            (json!({"num_key_value_heads": 2}), "num_key_value_heads is 2"),
            (json!({"num_hidden_layers": 1001}), "from 1 to 1000"),
            (json!({"vocab_size": u64::MAX}), "vocab_size is 18446744073709551615"),
            (json!({"vocab_size": 1000000, "hidden_size": 4608, "head_dim": 64}), "vocab_size × hidden_size"),
            (json!({"rms_norm_eps": 0}), "rms_norm_eps is 0"),
            (json!({"hidden_act": "gelu"}), "hidden_act is \"gelu\", expected \"silu\""),
            (json!({"architectures": []}), "architectures is []"),
            (json!({"tie_word_embeddings": "yes"}), "tie_word_embeddings is \"yes\", expected true or false"),
            (json!({"eos_token_id": [2, 49152]}), "eos_token_id is [2,49152]"),
            (json!({"bos_token_id": -1}), "bos_token_id is -1"),
            (json!({"rope_theta": 0}), "rope_theta is 0"),
            (json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor is 0.5"),
            (json!({"rope_scaling": {"rope_type": "yarn", "factor": 4}}), "\"yarn\""),
            (json!({"rope_scaling": {"factor": 4}}), "rope_type is \"\""),
            (json!({"rope_scaling": {"type": "linear", "factor": 0.5}}), "factor is 0.5"),
            (json!({"rope_scaling": llama3}), "high_freq_factor is 4"),
            (json!({"rope_parameters": {"full_attention": {}}}), "full_attention in the rope parameters"),
            (json!({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 2e4}}), "expected the same"),
            (json!({"rope_scaling": [4]}), "rope_scaling is [4]"),
        ] {
            let problem = parse(changes).unwrap_err();
            assert!(problem.contains(expected), "{problem:?} does not say {expected:?}");
        }
        for text in ["", "[]", "{", "nul", &"[".repeat(10_000), "{}"] {
            Config::parse(text).unwrap_err();
        }
    }

    #[test]
    fn ends_of_text_are_merged() {
        let directory = tempfile::tempdir().unwrap();
        let error = Config::open(&directory.path().into()).unwrap_err().to_string();
        assert!(error.contains("a Hugging Face model directory has one"), "{error}");
        let json = json!({"architectures": ["A"], "hidden_size": 64, "intermediate_size": 64,
            "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 16, "rms_norm_eps": 1e-6,
            "max_position_embeddings": 32, "eos_token_id": 3});
        std::fs::write(directory.path().join("config.json"), json.to_string()).unwrap();
        let generation = directory.path().join("generation_config.json");
        std::fs::write(&generation, r#"{"eos_token_id": [5, 3, 5]}"#).unwrap();
        assert_eq!(Config::open(&directory.path().into()).unwrap().eos_token_ids, [3, 5]);
        std::fs::write(&generation, r#"{"eos_token_id": [16]}"#).unwrap();
        let error = Config::open(&directory.path().into()).unwrap_err().to_string();
        assert!(error.contains("generation_config.json: eos_token_id is [16]"), "{error}");
    }
}
