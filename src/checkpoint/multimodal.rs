//! Checkpoints of several models, of which the language model is read as if it were alone: its configuration is an object
//! within the whole one, and its tensors have names of their own.

use serde_json::{Map, Value, json};

/// A kind of such checkpoints: one line in [`KINDS`].
pub(super) struct Kind {
    /// As in `architectures`.
    pub name: &'static str,
    /// What tensors of the language model begin with, and what they would alone.
    names: &'static [(&'static str, &'static str)],
    /// What those of the other models begin with.
    others: &'static [&'static str],
    /// What sizes are where the configuration leaves them out.
    defaults: fn() -> Value,
}

const KINDS: &[Kind] = &[Kind {
    name: "Gemma3ForConditionalGeneration",
    // Older files, then newer ones.
    names: &[
        ("language_model.model.", "model."),
        ("language_model.lm_head.", "lm_head."),
        ("model.language_model.", "model."),
    ],
    others: &[
        "vision_tower.",
        "multi_modal_projector.",
        "model.vision_tower.",
        "model.multi_modal_projector.",
    ],
    defaults: || {
        json!({"vocab_size": 262_208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
            "max_position_embeddings": 131_072, "rms_norm_eps": 1e-6, "sliding_window": 4096})
    },
}];

/// What becomes of a tensor.
pub(super) enum Fate {
    /// It belongs to the language model and is called so.
    Text(String),
    /// It belongs to another model.
    Other,
}

impl Kind {
    /// The kind of checkpoint that a configuration says it is, if it is one.
    pub fn of(config: &Map<String, Value>) -> Option<&'static Kind> {
        let name = config.get("architectures")?.get(0)?.as_str()?;
        KINDS.iter().find(|kind| kind.name == name)
    }

    /// The configuration that the language model would have alone. The error is what was found and what was expected.
    pub fn text(&self, config: &Map<String, Value>) -> Result<Map<String, Value>, String> {
        let Some(Value::Object(text)) = config.get("text_config") else {
            return Err(format!("has no object text_config, which {} has", self.name));
        };
        let mut text = text.clone();
        // What ends a text may be said outside.
        for name in ["bos_token_id", "eos_token_id", "tie_word_embeddings"] {
            if let Some(value) = config.get(name).filter(|_| !text.contains_key(name)) {
                text.insert(name.to_owned(), value.clone());
            }
        }
        for (name, value) in (self.defaults)().as_object().into_iter().flatten() {
            text.entry(name.clone()).or_insert_with(|| value.clone());
        }
        text.insert("architectures".to_owned(), json!([self.name]));
        Ok(text)
    }

    /// What becomes of the tensor `name`.
    pub fn fate(&self, name: &str) -> Fate {
        if self.others.iter().any(|other| name.starts_with(other)) {
            return Fate::Other;
        }
        let own = self.names.iter().find_map(|(here, alone)| Some((name.strip_prefix(here)?, alone)));
        Fate::Text(own.map_or_else(|| name.to_owned(), |(rest, alone)| format!("{alone}{rest}")))
    }
}
