//! The rotary embedding of a configuration.

use super::MAX_POSITIONS;
use super::family::Family;
use super::fields::{Fields, found};
use serde_json::{Map, Value};

/// The rotary embedding that layers share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub rope_theta: f64,
    /// How the frequencies are stretched.
    pub rope_scaling: RopeScaling,
    /// Dimensions of a head that rotate, from the first on: `head_dim` × `partial_rotary_factor`, even.
    pub rotary_dim: usize,
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
    /// YaRN (arXiv:2309.00071): much the same with a ramp over dimensions, and sharper attention.
    Yarn {
        /// At least 1.
        factor: f64,
        /// Queries and keys are multiplied with this.
        attention_factor: f64,
        /// Dimensions that turn more often than this over the original length are kept.
        beta_fast: f64,
        /// Those that turn less often than this are divided by `factor`; at most `beta_fast`.
        beta_slow: f64,
        /// The original length.
        original_max_position_embeddings: usize,
    },
    /// LongRoPE (arXiv:2402.13753): each frequency is divided by a number of its own, from one list for texts up to the
    /// original length and from another for longer ones: see [`RopeFactors`].
    LongRope {
        /// Queries and keys are multiplied with this.
        attention_factor: f64,
        /// The original length.
        original_max_position_embeddings: usize,
    },
}

/// What LongRoPE divides frequencies by, a number for each pair of dimensions.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeFactors {
    /// Where no text is longer than the original length.
    pub short: Vec<f32>,
    /// Where texts may be.
    pub long: Vec<f32>,
}

impl RopeFactors {
    /// Reads both lists, which a configuration that was made of a GGUF file does not have: there they are tensors.
    pub(super) fn of(fields: &Fields, rope: Rope) -> Result<Option<RopeFactors>, String> {
        let scaling = fields.get("rope_parameters").or(fields.get("rope_scaling"));
        let (RopeScaling::LongRope { .. }, Some(Value::Object(scaling))) = (rope.rope_scaling, scaling)
        else {
            return Ok(None);
        };
        let (scaling, pairs) = (Fields::plain(scaling), rope.rotary_dim / 2);
        if !scaling.has("short_factor") && !scaling.has("long_factor") {
            return Ok(None);
        }
        let list = |name: &str| -> Result<Vec<f32>, String> {
            let number = |value: &Value| value.as_f64().filter(|n| (1e-3..=1e6).contains(n));
            let list = scaling.get(name).and_then(Value::as_array).filter(|list| list.len() == pairs);
            let list = list.and_then(|list| list.iter().map(|n| Some(number(n)? as f32)).collect());
            list.ok_or_else(|| scaling.wrong(name, &format!("{pairs} numbers from 0.001 to 1000000")))
        };
        Ok(Some(RopeFactors { short: list("short_factor")?, long: list("long_factor")? }))
    }
}

impl Rope {
    /// Reads `rope_theta` and the scaling, which older configurations keep apart (`rope_theta`, `rope_scaling`) and
    /// newer ones together (`rope_parameters`); and the base of layers with a window, where those have their own.
    pub(super) fn of(
        fields: &Fields,
        family: &Family,
        head_dim: usize,
    ) -> Result<(Rope, Option<f64>), String> {
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
        let local = family.number(fields, "rope_local_base_freq", [1.0, 1e12])?;
        // Some models have one such object for each kind of layer.
        if let (Some(full), Some(sliding), Some(local)) =
            (scaling.get("full_attention"), scaling.get("sliding_attention"), local)
        {
            let object = |name, value: &Value| match value.as_object() {
                Some(object) => Ok(object.clone()),
                None => Err(found(name, Some(value), "an object")),
            };
            let (full, sliding) = (object("full_attention", full)?, object("sliding_attention", sliding)?);
            let sliding = Fields::plain(&sliding);
            if sliding.text("rope_type", "default")? != "default" {
                return Err(found(
                    "rope_type",
                    sliding.get("rope_type"),
                    "\"default\" in layers with a window",
                ));
            }
            let local = sliding.number("rope_theta", 1.0, 1e12, Some(local))?;
            return Ok((Rope::one(fields, &Fields::plain(&full), family, head_dim)?, Some(local)));
        }
        Ok((Rope::one(fields, &Fields::plain(scaling), family, head_dim)?, local))
    }

    fn one(fields: &Fields, scaling: &Fields, family: &Family, head_dim: usize) -> Result<Rope, String> {
        if let Some((name, value)) = scaling.object.iter().find(|(_, value)| value.is_object()) {
            return Err(found(
                &format!("{name} in the rope parameters"),
                Some(value),
                "one set for all layers",
            ));
        }
        let partial = family.number(fields, "partial_rotary_factor", [0.0, 1.0])?.unwrap_or(1.0);
        let partial = scaling.number("partial_rotary_factor", 0.0, 1.0, Some(partial))?;
        if !family.honours.contains(&"partial_rotary_factor") && partial != 1.0 {
            return Err(found("partial_rotary_factor", scaling.get("partial_rotary_factor"), "1"));
        }
        let rotary_dim = (head_dim as f64 * partial) as usize;
        if rotary_dim == 0 || !rotary_dim.is_multiple_of(2) {
            let part = format!("{rotary_dim} of a head's {head_dim} dimensions");
            return Err(format!("partial_rotary_factor is {partial}: {part}, expected an even number"));
        }
        let apart = fields.number("rope_theta", 1.0, 1e12, Some(family.rope_theta))?;
        let rope_theta = scaling.number("rope_theta", 1.0, 1e12, Some(apart))?;
        if rope_theta != apart && fields.get("rope_theta").is_some() {
            return Err(format!(
                "rope_theta is {apart}, and {rope_theta} with the scaling, expected the same"
            ));
        }
        let rope_scaling = RopeScaling::of(scaling, fields)?;
        if matches!(rope_scaling, RopeScaling::Yarn { .. }) && rope_theta == 1.0 {
            return Err(found("rope_theta", fields.get("rope_theta"), "more than 1 with \"yarn\""));
        }
        Ok(Rope { rope_theta, rope_scaling, rotary_dim })
    }
}

impl RopeScaling {
    fn of(scaling: &Fields, fields: &Fields) -> Result<RopeScaling, String> {
        let without = if scaling.get("factor").is_none() { "default" } else { "" };
        let kind = scaling.text("rope_type", scaling.text("type", without)?)?;
        let factor = || scaling.number("factor", 1.0, 1e6, None);
        Ok(match kind {
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
            "yarn" => {
                // DeepSeek's, and a ramp between fractions of dimensions.
                let other = ["mscale", "mscale_all_dim", "truncate"].map(|name| (name, scaling.get(name)));
                if let Some((name, value)) = other.iter().find(|(_, v)| v.is_some_and(|v| *v != true)) {
                    return Err(found(name, *value, "no such field with \"yarn\""));
                }
                let longest = fields.size("max_position_embeddings", MAX_POSITIONS, None)?;
                let original_max_position_embeddings =
                    scaling.size("original_max_position_embeddings", MAX_POSITIONS, Some(longest))?;
                let factor = factor()?;
                let beta_fast = scaling.number("beta_fast", 1e-3, 1e6, Some(32.0))?;
                let beta_slow = scaling.number("beta_slow", 1e-3, 1e6, Some(1.0))?;
                if beta_slow > beta_fast {
                    let most = format!("at most beta_fast ({beta_fast})");
                    return Err(found("beta_slow", scaling.get("beta_slow"), &most));
                }
                // The paper's fit, section 3.4.
                let sharper = 0.1 * factor.ln() + 1.0;
                let attention_factor = scaling.number("attention_factor", 1e-3, 1e3, Some(sharper))?;
                RopeScaling::Yarn {
                    factor,
                    attention_factor,
                    beta_fast,
                    beta_slow,
                    original_max_position_embeddings,
                }
            }
            "longrope" | "su" => {
                // Those of Phi-3.5-MoE.
                let other = ["short_mscale", "long_mscale"].map(|name| (name, scaling.get(name)));
                if let Some((name, value)) = other.iter().find(|(_, value)| value.is_some()) {
                    return Err(found(name, *value, "no such field with \"longrope\""));
                }
                let longest = fields.size("max_position_embeddings", MAX_POSITIONS, None)?;
                let name = "original_max_position_embeddings";
                let within = if scaling.get(name).is_some() { scaling } else { fields };
                let original = within.size(name, MAX_POSITIONS, Some(longest))?;
                let factor = match within.get(name) {
                    Some(_) => longest as f64 / original as f64,
                    None => factor()?,
                };
                // The paper's fit for the entropy of attention.
                let ratio = 1.0 + factor.max(1.0).ln() / (original.max(2) as f64).ln();
                RopeScaling::LongRope {
                    attention_factor: scaling.number("attention_factor", 1e-3, 1e3, Some(ratio.sqrt()))?,
                    original_max_position_embeddings: original,
                }
            }
            other => {
                let kinds = "expected \"default\", \"linear\", \"llama3\", \"yarn\" or \"longrope\"";
                return Err(format!("rope_type is {other:?}, {kinds}"));
            }
        })
    }
}
