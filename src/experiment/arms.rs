//! Arms: one model with its weights treated in several ways, and nothing else changed.

use super::results::ArmInfo;
use super::stored::Stored;
use crate::checkpoint::{Checkpoint, Config};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::format::{Format, Packing};
use crate::model::{PackedOn, Weights};
use crate::quantize::{Disturb, Granularity, Loss, QUANTIZERS, Scheme, Treatment};
use std::rc::Rc;

/// The name of the arm that is the reference once more.
pub const AGAIN: &str = "f16-again";

/// Why an arm is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What the others are compared with.
    Reference,
    /// The user asked for it.
    Asked,
    /// Its result is known beforehand: where it does not come out, nothing else can be believed.
    Control,
}

impl Role {
    /// As it stands in the results.
    pub fn name(self) -> &'static str {
        match self {
            Role::Reference => "reference",
            Role::Asked => "asked",
            Role::Control => "control",
        }
    }
}

/// An arm.
#[derive(Clone, Debug)]
pub struct Arm {
    /// Its name, unique in a run.
    pub name: String,
    /// Why it is there.
    pub role: Role,
    /// What its weights go through; none for 16-bit floats.
    pub treatment: Option<Treatment>,
    /// Whether the embedding and the output matrix are treated too.
    pub embedding: bool,
    /// Whose codes they are; none where the model's numbers are treated.
    pub stored: Option<Stored>,
}

/// The arms of a run: those asked for, the first being the reference, and the controls.
///
/// # Errors
/// When a name is neither an arm's nor that of a model that is there, or there are fewer than two.
pub fn arms(names: &[String], controls: bool, embedding: bool) -> Result<Vec<Arm>> {
    let mut arms: Vec<Arm> = Vec::new();
    let mut add = |name: &str, role: Role| -> Result<()> {
        let parsed = Treatment::parse(if name == AGAIN { "f16" } else { name });
        // What is no name of states may be that of a file.
        let stored = if parsed.is_err() { Stored::named(name)? } else { None };
        let treatment = if stored.is_some() { None } else { parsed.map_err(Error::Usage)? };
        let name = match &treatment {
            Some(treatment) => treatment.name(),
            None if stored.is_some() => name.to_owned(),
            None if role == Role::Control => AGAIN.to_owned(),
            None => "f16".to_owned(),
        };
        if arms.iter().any(|arm| arm.name == name) {
            return match role {
                Role::Control => Ok(()),
                _ => Err(Error::Usage(format!("--arms names {name} twice"))),
            };
        }
        arms.push(Arm { name, role, treatment, embedding, stored });
        Ok(())
    };
    for (i, name) in names.iter().enumerate() {
        add(name.trim(), if i == 0 { Role::Reference } else { Role::Asked })?;
    }
    if names.len() < 2 {
        return Err(Error::Usage("--arms needs at least two arms, such as f16,q4".to_owned()));
    }
    // The reference against itself costs little and is never left out.
    if names[0].trim() == "f16" {
        add(AGAIN, Role::Control)?;
    }
    if controls {
        ["q8:32", "noise:32", "broken:32"].into_iter().try_for_each(|name| add(name, Role::Control))?;
    }
    Ok(arms)
}

impl Arm {
    /// How its weights are stored. 16 and 256 evenly spaced states in short groups run in their packed format; all
    /// else as 16-bit floats that hold what its states hold.
    pub fn weights(&self) -> Weights {
        let packing = self.treatment.as_ref().and_then(packed).unwrap_or(Packing::F16);
        let quantizer = self.treatment.as_ref().map_or(QUANTIZERS[0], Treatment::quantizer);
        let (treatment, all) = (self.treatment, self.embedding);
        Weights {
            linear: packing,
            embedding: if all { packing } else { Packing::F16 },
            stored: self.stored.is_some(),
            quantizer,
            treatment: Some(Rc::new(move |name: &str| treatment.filter(|_| all || !is_embedding(name)))),
            packed_on: PackedOn::Fastest,
        }
    }

    /// The weights that it is loaded from, `model` being those of the model that is asked about.
    pub fn checkpoint<'a>(&'a self, model: &'a Checkpoint) -> &'a Checkpoint {
        self.stored.as_ref().map_or(model, |stored| stored.checkpoint(model))
    }

    /// Checks that it can be an arm of the model.
    ///
    /// # Errors
    /// When its weights are those of another model, or codes that are not there.
    pub fn check(&self, config: &Config, model: &Checkpoint) -> Result<()> {
        self.stored.as_ref().map_or(Ok(()), |stored| stored.check(config, model))
    }

    /// In words.
    pub fn description(&self, model: &Checkpoint) -> String {
        if let Some(stored) = &self.stored {
            return stored.description(model);
        }
        match &self.treatment {
            Some(treatment) => treatment.description(),
            None if self.role == Role::Control => "16-bit floats once more, loaded apart".to_owned(),
            None => "16-bit floats".to_owned(),
        }
    }
}

/// What is told of arms, in the order in which the engine has them.
///
/// # Errors
/// When an arm's weights cannot be read.
pub fn infos(arms: &[Arm], engine: &Engine, checkpoint: &Checkpoint) -> Result<Vec<ArmInfo>> {
    let shapes = matrices(checkpoint);
    let weights: f64 = shapes.iter().map(|(_, rows, cols)| (rows * cols) as f64).sum();
    let infos = arms.iter().zip(engine.arms()).map(|(arm, loaded)| {
        let bits = |name: &str, rows, cols| match &arm.treatment {
            Some(treatment) if arm.embedding || !is_embedding(name) => treatment.bits_per_weight(rows, cols),
            _ => 16.0,
        };
        let bits: f64 =
            shapes.iter().map(|&(name, rows, cols)| bits(name, rows, cols) * (rows * cols) as f64).sum();
        let sum = |of: fn(&Loss) -> f64| loaded.losses.iter().map(|(_, loss)| of(loss)).sum::<f64>();
        let (error, power) = match &arm.stored {
            Some(stored) => stored.loss(checkpoint).map(|loss| (loss.error, loss.power))?,
            None => (sum(|loss| loss.error), sum(|loss| loss.power)),
        };
        let own = arm.checkpoint(checkpoint);
        let distinct = match loaded.losses.len() {
            0 => shapes.iter().map(|s| distinct(own, s)).sum::<f64>() / shapes.len().max(1) as f64,
            n => sum(|loss| loss.distinct as f64) / n as f64,
        };
        Ok(ArmInfo {
            name: arm.name.clone(),
            description: arm.description(checkpoint),
            role: arm.role.name().to_owned(),
            states: match &arm.stored {
                Some(stored) => stored.states(checkpoint),
                None => arm.treatment.and_then(|t| t.states()).map(|states| states as usize),
            },
            distinct,
            bits: match &arm.stored {
                Some(stored) => stored.bits(checkpoint),
                None => bits / weights.max(1.0),
            },
            relative_error: if power > 0.0 { error / power } else { 0.0 },
            embedding: arm.embedding && arm.treatment.is_some(),
        })
    });
    infos.collect()
}

/// Names, rows and columns.
fn matrices(checkpoint: &Checkpoint) -> Vec<(&str, usize, usize)> {
    // An empty one may claim any number of rows.
    let all = checkpoint.tensors().filter(|info| info.elements > 0);
    all.filter_map(|info| match info.shape[..] {
        [rows, cols] => Some((info.name.as_str(), rows, cols)),
        _ => None,
    })
    .collect()
}

/// Different numbers of a tensor as 16-bit floats.
fn distinct(checkpoint: &Checkpoint, (name, rows, cols): &(&str, usize, usize)) -> f64 {
    let Ok(tensor) = checkpoint.tensor(name, &[*rows, *cols]) else { return 0.0 };
    let mut seen = vec![false; 1 << 16];
    let mut row = vec![0.0; *cols];
    for r in 0..*rows {
        tensor.read_f32(r * cols..(r + 1) * cols, &mut row);
        row.iter().for_each(|&w| seen[half::f16::from_f32(w).to_bits() as usize] = true);
    }
    seen.iter().filter(|&&seen| seen).count() as f64
}

/// States that are few enough for [`rounded_before`] to mean something.
pub const FEW: u32 = 32;

/// Whether a model had been rounded before: few states hardly change its layers. What they do to a model that was
/// never rounded cannot be told from it.
pub fn rounded_before(losses: &[(String, Loss)]) -> bool {
    let inner = losses.iter().filter(|(name, _)| !is_embedding(name));
    let (error, power) = inner.fold((0.0, 0.0), |(e, p), (_, loss)| (e + loss.error, p + loss.power));
    power > 0.0 && error / power < 1e-4
}

/// Whether a tensor is the embedding or the output matrix.
pub fn is_embedding(tensor: &str) -> bool {
    // Llama's and most others', GPT-NeoX's, GPT-2's.
    ["embed_tokens", "lm_head", "embed_in", "embed_out", "wte"].iter().any(|name| tensor.contains(name))
}

/// The packed format that holds exactly what a treatment leaves.
fn packed(treatment: &Treatment) -> Option<Packing> {
    let format = match (treatment.scheme, treatment.disturb) {
        (Scheme::Uniform { states: 16 }, Disturb::None) => Format::named("q4")?,
        (Scheme::Uniform { states: 256 }, Disturb::None) => Format::named("q8")?,
        _ => return None,
    };
    match treatment.granularity {
        Granularity::Group(group) => Some(Packing { format, group }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(asked: &[&str], controls: bool) -> Result<Vec<String>> {
        let asked: Vec<String> = asked.iter().map(|s| (*s).to_owned()).collect();
        Ok(arms(&asked, controls, true)?.into_iter().map(|arm| arm.name).collect())
    }

    #[test]
    fn controls_join_those_asked_for() {
        assert_eq!(names(&["f16", "q4"], false).unwrap(), ["f16", "q4:32", AGAIN]);
        let all = names(&["f16", "q8", "q4"], true).unwrap();
        assert_eq!(all, ["f16", "q8:32", "q4:32", AGAIN, "noise:32", "broken:32"]);
    }

    #[test]
    fn arms_that_are_none_are_refused() {
        for bad in [&["f16"][..], &["f16", "q5000"], &["f16", "f16"], &["f16", ""], &["f16", "q4", "q4:32"]] {
            assert_eq!(names(bad, true).unwrap_err().exit_code(), 2, "{bad:?}");
        }
    }

    #[test]
    fn empty_matrices_are_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.safetensors");
        let header = r#"{"empty.weight":{"dtype":"F16","shape":[1099511627776,0],"data_offsets":[0,0]},
            "w":{"dtype":"F16","shape":[1,1],"data_offsets":[0,2]}}"#;
        let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0, 0]].concat();
        std::fs::write(&path, file).unwrap();
        assert_eq!(matrices(&Checkpoint::open(&path).unwrap()), [("w", 1, 1)]);
    }

    #[test]
    fn packed_formats_serve_where_they_hold_the_same() {
        let run = |name: &str| arms(&["f16".to_owned(), name.to_owned()], false, true).unwrap()[1].weights();
        assert_eq!(run("q4:64").linear.name(), "q4/64");
        assert_eq!(run("q8").linear.name(), "q8/32");
        for floats in ["q4:tensor", "nf4", "noise", "broken", "u15:32"] {
            assert_eq!(run(floats).linear.name(), "f16", "{floats}");
        }
    }
}
