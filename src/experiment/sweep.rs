//! The sweep: how many states does a weight need, and where does it break?
//!
//! One arm is loaded again and again, rounded to another number of states each time, and compared with the
//! reference on worked solutions. Work is journaled point by point.

use super::arms::{FEW, rounded_before};
use super::journal::Journal;
use super::random::Random;
use super::results::{Knee, Law, Sensitivity, SweepPoint};
use super::stats::{knee_interval, law, wilson};
use crate::checkpoint::Checkpoint;
use crate::engine::{Engine, Text};
use crate::error::{Error, Result};
use crate::model::{Treat, Weights};
use crate::quantize::Treatment;
use pollster::block_on;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

/// What is varied.
pub struct Grid {
    /// Numbers of states, ascending.
    pub states: Vec<u32>,
    /// `tensor`, `channel`, `128`, `64`, `32`.
    pub granularities: Vec<String>,
    /// `u` for evenly spaced states, `lut` for those that Lloyd-Max places.
    pub scheme: String,
}

/// One model of the sweep.
pub struct Subject<'a> {
    /// Its name in the results.
    pub name: String,
    /// Its parameters.
    pub parameters: u64,
    /// Its weights.
    pub checkpoint: &'a Checkpoint,
    /// The engine, with the reference as arm 0 and an arm 1 in 16-bit floats to be replaced.
    pub engine: &'a mut Engine,
    /// Worked solutions.
    pub texts: &'a [Text],
    /// Where work is kept.
    pub journal: &'a mut Journal,
    /// Is told when a point is done.
    pub progress: &'a mut dyn FnMut(),
    /// Whether to stop.
    pub interrupted: &'a dyn Fn() -> bool,
}

/// What the grid found.
pub struct Swept {
    /// Every point.
    pub points: Vec<SweepPoint>,
    /// Where damage begins, by granularity.
    pub knees: Vec<Knee>,
    /// Whether the model had been rounded before: few states hardly change its layers.
    pub rounded_before: bool,
}

/// What one point found, text by text.
#[derive(Serialize, Deserialize)]
struct Measured {
    bits: f64,
    relative_error: f64,
    /// Whether this treatment found the layers as it leaves them.
    found_rounded: bool,
    /// Mean KL in nats.
    kl: Vec<f64>,
    /// Mean −ln p.
    nll: Vec<f64>,
    /// Whether every token is the arm's likeliest: then it would write the text by itself, greedily.
    exact: Vec<bool>,
    /// The same, reference.
    reference_exact: Vec<bool>,
}

impl Measured {
    /// What is wrong with a point that is to be of so many texts.
    fn misfit(&self, texts: usize) -> Option<String> {
        let lengths = [self.kl.len(), self.nll.len(), self.exact.len(), self.reference_exact.len()];
        let found = lengths.into_iter().find(|&found| found != texts)?;
        Some(format!("it is of {found} texts, expected {texts}"))
    }
}

impl Grid {
    /// Points of a model, the reference included.
    pub fn points(&self) -> usize {
        1 + self.states.len() * self.granularities.len()
    }

    fn treatment(&self, states: u32, granularity: &str) -> Result<Treatment> {
        let name = format!("{}{states}:{granularity}", self.scheme);
        Treatment::parse(&name)
            .map_err(Error::Usage)?
            .ok_or_else(|| Error::Usage(format!("{name:?} is not a treatment")))
    }
}

/// What parts are rounded to.
fn of_parts() -> Result<Option<Treatment>> {
    Treatment::parse("q4:32").map_err(Error::Usage)
}

/// A part of a model: what it is called, and the matrices in it.
pub type Part = (String, Rc<HashSet<String>>);

/// The layer that a matrix is in, if it is in one, and which of the layer's it is: its name from there on, without the numbers
/// of experts.
fn place(matrix: &str) -> (Option<usize>, String) {
    let names: Vec<&str> = matrix.strip_suffix(".weight").unwrap_or(matrix).split('.').collect();
    let number = |name: &str| name.parse::<usize>().ok();
    let layer = names.iter().enumerate().find_map(|(at, name)| Some((at, number(name)?)));
    let own = &names[layer.map_or(0, |(at, _)| at + 1)..];
    let kind: Vec<&str> = own.iter().copied().filter(|name| number(name).is_none()).collect();
    (layer.map(|(_, number)| number), kind.join("."))
}

/// The layers of such matrices, then their kinds, each called by the end of its name where that tells it from others.
fn parts(matrices: &[String]) -> Vec<Part> {
    let mut layers: BTreeMap<usize, HashSet<String>> = BTreeMap::new();
    let mut kinds: Vec<(String, HashSet<String>)> = vec![];
    for matrix in matrices {
        let (layer, kind) = place(matrix);
        if let Some(layer) = layer {
            layers.entry(layer).or_default().insert(matrix.clone());
        }
        match kinds.iter_mut().find(|(name, _)| *name == kind) {
            Some((_, of)) => _ = of.insert(matrix.clone()),
            None => kinds.push((kind, HashSet::from([matrix.clone()]))),
        }
    }
    let end = |kind: &str| kind.rsplit('.').next().unwrap_or_default().to_owned();
    let ends: Vec<String> = kinds.iter().map(|(kind, _)| end(kind)).collect();
    let alone = |name: &String| ends.iter().filter(|end| *end == name).count() == 1;
    let kinds = kinds.into_iter().map(|(kind, of)| (Some(end(&kind)).filter(alone).unwrap_or(kind), of));
    let layers = layers.into_iter().map(|(layer, of)| (format!("layer {layer}"), of));
    layers.chain(kinds).map(|(part, of)| (part, Rc::new(of))).collect()
}

impl Subject<'_> {
    /// Every point of the grid, and where damage begins by granularity.
    ///
    /// # Errors
    /// When the device fails, the journal cannot be written, or the user interrupts.
    pub fn sweep(&mut self, grid: &Grid, seed: u64) -> Result<Swept> {
        let (mut points, mut knees, mut rounded_before) = (Vec::new(), Vec::new(), false);
        let reference = self.measure("reference", Rc::new(|_| None), 16.0)?;
        points.push(self.point("", 0, &reference));
        for granularity in &grid.granularities {
            // By text, by number of states: 1 where the reference would write the text and the arm would not.
            let mut lost = vec![Vec::new(); self.texts.len()];
            for &states in &grid.states {
                let treatment = grid.treatment(states, granularity)?;
                let bits = self.bits(&treatment);
                let treat: Treat = Rc::new(move |_| Some(treatment));
                let found = self.measure(&treatment.name(), treat, bits)?;
                for (lost, (was, is)) in lost.iter_mut().zip(found.reference_exact.iter().zip(&found.exact)) {
                    lost.push(f64::from(u8::from(*was)) - f64::from(u8::from(*is)));
                }
                points.push(self.point(granularity, states as usize, &found));
                rounded_before |= states <= FEW && found.found_rounded;
            }
            let random = &mut Random::new(seed, &["knee", &self.name, granularity]);
            let found = knee(&lost, &grid.states, random);
            knees.push(Knee {
                model: self.name.clone(),
                granularity: granularity.clone(),
                states: found.map(|(states, _)| states),
                below_16: found.map_or(0.0, |(_, below)| below),
            });
        }
        Ok(Swept { points, knees, rounded_before })
    }

    /// The parts whose sensitivity can be told, by the matrices that rounding meets.
    ///
    /// # Errors
    /// When the device fails.
    pub fn parts(&mut self) -> Result<Vec<Part>> {
        let q4 = of_parts()?;
        let weights = Weights { treatment: Some(Rc::new(move |_| q4)), ..Weights::F16 };
        self.engine.replace_arm(1, self.checkpoint, &weights, &mut |_| {})?;
        let met: Vec<String> = self.engine.arms()[1].losses.iter().map(|(name, _)| name.clone()).collect();
        Ok(parts(&met))
    }

    /// One part of the model rounded to 16 states in groups of 32 at a time, and all but one.
    ///
    /// # Errors
    /// As [`sweep`](Self::sweep).
    pub fn sensitivity(&mut self, parts: Vec<Part>) -> Result<Vec<Sensitivity>> {
        let q4 = of_parts()?;
        let mut found = Vec::new();
        for (part, matrices) in parts {
            let mut kl = |only: bool| -> Result<f64> {
                let matrices = matrices.clone();
                let treat: Treat = Rc::new(move |name| q4.filter(|_| matrices.contains(name) == only));
                let unit = format!("{} {part}", if only { "only" } else { "all but" });
                Ok(mean(&self.measure(&unit, treat, 0.0)?.kl))
            };
            let (only, all_but) = (kl(true)?, kl(false)?);
            found.push(Sensitivity { model: self.name.clone(), part, only, all_but });
        }
        Ok(found)
    }

    /// True bits a weight, over all matrices.
    fn bits(&self, treatment: &Treatment) -> f64 {
        let matrices = self.checkpoint.tensors().filter_map(|info| match info.shape[..] {
            [rows, cols] => Some((rows, cols)),
            _ => None,
        });
        let (bits, weights) = matrices.fold((0.0, 0.0), |(bits, weights), (rows, cols)| {
            let n = (rows * cols) as f64;
            (bits + treatment.bits_per_weight(rows, cols) * n, weights + n)
        });
        bits / f64::max(weights, 1.0)
    }

    fn measure(&mut self, unit: &str, treat: Treat, bits: f64) -> Result<Measured> {
        let (engine, checkpoint, texts) = (&mut *self.engine, self.checkpoint, self.texts);
        let unit = format!("{}/{unit}", self.name);
        let found = self.journal.unit(&unit, || {
            let weights = Weights { treatment: Some(treat), ..Weights::F16 };
            engine.replace_arm(1, checkpoint, &weights, &mut |_| {})?;
            let losses = &engine.arms()[1].losses;
            let error = losses.iter().map(|(_, loss)| loss.error).sum::<f64>();
            let power = losses.iter().map(|(_, loss)| loss.power).sum::<f64>();
            let found_rounded = rounded_before(losses);
            engine.select(0);
            engine.forget();
            let arms = block_on(engine.compare(texts))?;
            let by_text = |of: &dyn Fn(&crate::engine::Divergence) -> f64| -> Vec<f64> {
                arms[1].iter().map(|text| mean(&text.iter().map(of).collect::<Vec<_>>())).collect()
            };
            let exact = |of: &dyn Fn(&crate::engine::Divergence) -> f32| -> Vec<bool> {
                arms[1].iter().map(|text| text.iter().all(|d| of(d) > 0.5)).collect()
            };
            Ok(Measured {
                bits,
                relative_error: if power > 0.0 { error / power } else { 0.0 },
                found_rounded,
                kl: by_text(&|d| f64::from(d.kl)),
                nll: by_text(&|d| -f64::from(d.arm)),
                exact: exact(&|d| d.arm_hits),
                reference_exact: exact(&|d| d.reference_hits),
            })
        })?;
        if let Some(problem) = found.misfit(texts.len()) {
            return Err(self.journal.damaged(&unit, &problem));
        }
        (self.progress)();
        match (self.interrupted)() {
            true => Err(Error::Model("interrupted; the same command goes on from here".to_owned())),
            false => Ok(found),
        }
    }

    fn point(&self, granularity: &str, states: usize, found: &Measured) -> SweepPoint {
        let right = found.exact.iter().filter(|&&exact| exact).count();
        SweepPoint {
            model: self.name.clone(),
            parameters: self.parameters,
            granularity: granularity.to_owned(),
            states,
            bits: found.bits,
            relative_error: found.relative_error,
            kl: mean(&found.kl),
            nll: mean(&found.nll),
            accuracy: wilson(right, found.exact.len()),
        }
    }
}

/// Where losses begin. Below the knee they rise until nothing is left to lose: a straight line does not hold there, so
/// of the counts at which (nearly) all is lost only the greatest is fitted.
fn knee(lost: &[Vec<f64>], states: &[u32], random: &mut Random) -> Option<(super::stats::Estimate, f64)> {
    let means: Vec<f64> =
        (0..states.len()).map(|s| mean(&lost.iter().map(|unit| unit[s]).collect::<Vec<_>>())).collect();
    let most = means.iter().copied().fold(0.0, f64::max);
    let first = means.iter().rposition(|&m| m >= 0.95 * most).unwrap_or(0);
    let fitted: Vec<Vec<f64>> = lost.iter().map(|unit| unit[first..].to_vec()).collect();
    let log2: Vec<f64> = states[first..].iter().map(|&s| f64::from(s).log2()).collect();
    knee_interval(&fitted, &log2, random)
}

/// Sizes without which there is nothing to fit, and one to hold out.
const SIZES: usize = 3;

/// The law of damage over sizes, from the points in the shortest groups, where sizes differ; none for fewer than
/// three sizes.
pub fn damage_law(points: &[SweepPoint]) -> Option<Law> {
    let shortest = points.iter().filter_map(|p| p.granularity.parse::<usize>().ok()).min()?.to_string();
    // Fewer states destroy the model, whatever its size; many more leave what rounding to f16 leaves.
    let fits = |p: &&SweepPoint| p.granularity == shortest && (4..=64).contains(&p.states);
    let of: Vec<(u64, f64, f64)> = points.iter().filter(fits).map(|p| (p.parameters, p.bits, p.kl)).collect();
    let sizes: HashSet<u64> = of.iter().map(|p| p.0).collect();
    if sizes.len() < SIZES {
        return None;
    }
    let found = law(&of)?;
    Some(Law {
        damage: "KL in nats".to_owned(),
        ln_c: found.ln_c,
        a: found.a,
        gamma: found.gamma,
        r_squared: found.r_squared,
        held_out: found.held_out,
    })
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Losses that fall linearly in log2 states and end at 12: found from any of the floors before.
    #[test]
    fn a_knee_is_found_below_a_floor() {
        let states = [2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 256];
        let share = |s: u32| ((12f64.log2() - f64::from(s).log2()) / 1.2).clamp(0.0, 1.0);
        let units = 400;
        let lost: Vec<Vec<f64>> = (0..units)
            .map(|u| {
                states
                    .iter()
                    .map(|&s| f64::from(u8::from((f64::from(u) + 0.5) / f64::from(units) < share(s))))
                    .collect()
            })
            .collect();
        let (found, below) = knee(&lost, &states, &mut Random::new(1, &["test"])).unwrap();
        assert!((10.0..14.0).contains(&found.value), "{found:?}");
        assert!(below > 0.9, "{below}");
        // Nothing lost at all has no knee.
        let none = vec![vec![0.0; states.len()]; 50];
        assert!(knee(&none, &states, &mut Random::new(1, &["test"])).is_none());
    }

    /// Damage made by a law is found again, and a single size is no family.
    #[test]
    fn a_law_needs_sizes() {
        let made = |parameters: u64| {
            [4usize, 8, 16, 32, 64].map(|states| {
                let bits = (states as f64).log2() + 1.0;
                let kl = (2.0 - 0.5 * (parameters as f64).ln() - bits / 0.8).exp();
                SweepPoint {
                    model: parameters.to_string(),
                    parameters,
                    granularity: "32".to_owned(),
                    states,
                    bits,
                    relative_error: 0.0,
                    kl,
                    nll: 0.0,
                    accuracy: wilson(1, 2),
                }
            })
        };
        assert!(damage_law(&made(1_000_000)).is_none());
        let family: Vec<SweepPoint> =
            [100_000, 400_000, 1_000_000, 3_000_000].into_iter().flat_map(made).collect();
        let law = damage_law(&family).unwrap();
        assert!((law.a.value - 0.5).abs() < 1e-6 && (law.gamma.value - 0.8).abs() < 1e-6, "{law:?}");
        assert!(law.held_out.iter().all(|(_, measured, predicted)| (measured - predicted).abs() < 1e-6));
    }

    /// Checkpoints name matrices differently; whatever the names, parts are told apart and none is forgotten.
    #[test]
    fn parts_are_told_by_any_names() {
        let parts_of = |names: &[&str]| -> Vec<(String, usize)> {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            parts(&names).into_iter().map(|(part, of)| (part, of.len())).collect()
        };
        let told = |parts: &[(&str, usize)]| -> Vec<(String, usize)> {
            parts.iter().map(|&(part, n)| (part.to_owned(), n)).collect()
        };
        let llama = [
            "model.embed_tokens.weight",
            "model.layers.0.mlp.up_proj.weight",
            "model.layers.10.mlp.up_proj.weight",
        ];
        let expected = [("layer 0", 1), ("layer 10", 1), ("embed_tokens", 1), ("up_proj", 2)];
        assert_eq!(parts_of(&llama), told(&expected));
        // A fused matrix is not one of those in it, and two of GPT-2's end alike.
        let phi3 = ["model.layers.0.self_attn.qkv_proj.weight", "model.layers.0.mlp.gate_up_proj.weight"];
        assert_eq!(parts_of(&phi3), told(&[("layer 0", 2), ("qkv_proj", 1), ("gate_up_proj", 1)]));
        let gpt2 = [
            "transformer.h.0.attn.c_proj.weight",
            "transformer.h.0.mlp.c_proj.weight",
            "transformer.wte.weight",
        ];
        let expected = [("layer 0", 2), ("attn.c_proj", 1), ("mlp.c_proj", 1), ("wte", 1)];
        assert_eq!(parts_of(&gpt2), told(&expected));
        let mixtral = [0, 1].map(|e| format!("model.layers.0.block_sparse_moe.experts.{e}.w1.weight"));
        let mixtral: Vec<&str> = mixtral.iter().map(String::as_str).collect();
        assert_eq!(parts_of(&mixtral), told(&[("layer 0", 2), ("w1", 2)]));
    }

    #[test]
    fn a_point_of_other_texts_is_damaged() {
        let measured = |exact: usize| Measured {
            bits: 4.0,
            relative_error: 0.0,
            found_rounded: false,
            kl: vec![0.0; 2],
            nll: vec![0.0; 2],
            exact: vec![true; exact],
            reference_exact: vec![true; 2],
        };
        assert_eq!(measured(2).misfit(2), None);
        assert_eq!(measured(1).misfit(2).unwrap(), "it is of 1 texts, expected 2");
    }
}
