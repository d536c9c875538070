//! How much a model minds the rounding of its parts, and a budget of bits spent by that.
//!
//! A part is the matrices that read the same activations: programs that run them as one want them stored alike. Each part
//! is rounded by itself, the rest left as it is, and the mean KL divergence of the model's predictions measured. What other
//! ways of storing it would cost is taken to be in proportion to the squared errors that they leave in its weights, and
//! parts' costs are taken to add up.

use super::budget::{Price, spend};
use super::{Calibration, Recipe, Stored, Use, numbers, tensors};
use crate::checkpoint::Checkpoint;
use crate::engine::Text;
use crate::error::{Error, Result};
use crate::model::{Treat, Weights};
use crate::quantize::{QUANTIZERS, Spec, Treatment, Zeros};
use pollster::block_on;
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Tokens on which the divergence is measured, at most.
const TOKENS: usize = 512;

/// A part of a model.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// Its matrices.
    pub matrices: Vec<String>,
    /// Weights in them.
    pub weights: u64,
    /// Mean KL in nats where it alone is rounded to 16 states in groups of 128.
    pub kl: f64,
    /// How it is stored.
    pub bits: u32,
    /// Columns that share a scale.
    pub group: usize,
}

/// What may be chosen, and what it costs.
pub struct Budget<'a> {
    /// Bits of a weight on average over all matrices that can become codes.
    pub average: f64,
    /// Ways to store a part.
    pub ways: &'a [Stored],
    /// Bytes that a matrix `[rows, cols]` takes, stored so; none where it cannot be.
    pub bytes: &'a dyn Fn(Stored, [usize; 2]) -> Option<u64>,
    /// What can be stored of a grid.
    pub zeros: &'a dyn Fn(Stored) -> Zeros,
}

/// Chooses how each part is stored, and notes it in the recipe. `progress` is told when a part is measured.
///
/// # Errors
/// When not even the smallest way fits, the device fails, or the user interrupts.
pub fn choose(
    checkpoint: &Checkpoint,
    recipe: &mut Recipe<'_>,
    budget: &Budget<'_>,
    progress: &mut dyn FnMut(),
    interrupted: &dyn Fn() -> bool,
) -> Result<Vec<Part>> {
    let Some(mut calibration) = recipe.calibration.take() else { return Ok(Vec::new()) };
    // What cannot become codes in any way is not counted.
    let coded = |part: &Part| {
        let shapes = part.matrices.iter().filter_map(|name| checkpoint.get(name));
        let mut shapes = shapes.filter_map(|info| <[usize; 2]>::try_from(info.shape.as_slice()).ok());
        shapes
            .all(|shape| budget.ways.iter().any(|&way| way.bits < 16 && (budget.bytes)(way, shape).is_some()))
    };
    let mut parts: Vec<Part> = parts(checkpoint, &calibration)?.into_iter().filter(coded).collect();
    let texts = texts(&calibration);
    let arm = calibration.engine().add_arm(checkpoint, &Weights::F16, &mut |_| {})?;
    let treatment = Treatment::parse("q4:128").map_err(Error::Usage)?;
    let mut prices = Vec::with_capacity(parts.len());
    for part in &mut parts {
        let own = shares(checkpoint, part, budget)?;
        let names: HashSet<String> = part.matrices.iter().cloned().collect();
        let treat: Treat = Rc::new(move |name| treatment.filter(|_| names.contains(name)));
        let weights = Weights { treatment: Some(treat), ..Weights::F16 };
        calibration.engine().replace_arm(arm, checkpoint, &weights, &mut |_| {})?;
        let found = block_on(calibration.engine().compare(&texts))?;
        let all = found.get(arm).into_iter().flatten().flatten().map(|d| f64::from(d.kl));
        let (sum, count) = all.fold((0.0, 0usize), |(sum, count), kl| (sum + kl, count + 1));
        part.kl = (sum / count.max(1) as f64).max(0.0);
        prices.push(own.into_iter().map(|price| Price { loss: price.loss * part.kl, ..price }).collect());
        progress();
        if interrupted() {
            return Err(super::interrupted());
        }
    }
    let weights: u64 = parts.iter().map(|part| part.weights).sum();
    let choice = spend(&prices, budget.average * weights as f64).ok_or_else(|| {
        let least = |prices: &Vec<Price>| prices.iter().map(|p| p.bits).fold(f64::INFINITY, f64::min);
        let least = prices.iter().map(least).sum::<f64>() / weights.max(1) as f64;
        let found = budget.average;
        Error::Usage(format!(
            "--auto-bits is {found}, the least that can be stored is {least:.3} bits a weight"
        ))
    })?;
    for (part, way) in parts.iter_mut().zip(choice) {
        let stored = budget.ways[way];
        (part.bits, part.group) = (stored.bits, stored.group);
        let usual = Stored { bits: recipe.settings.bits, group: recipe.settings.group };
        for name in part.matrices.iter().filter(|_| stored != usual) {
            recipe.stored.insert(name.clone(), stored);
        }
    }
    recipe.calibration = Some(calibration);
    Ok(parts)
}

/// Matrices by the activations that they read; those that cannot be observed by the layer whose experts they belong to.
fn parts(checkpoint: &Checkpoint, calibration: &Calibration<'_>) -> Result<Vec<Part>> {
    let mut parts: Vec<Part> = Vec::new();
    let mut at: HashMap<(Option<usize>, &str), usize> = HashMap::new();
    for (info, _) in tensors(checkpoint)?.into_iter().filter(|(_, of)| *of == Use::Quantize) {
        let key = match calibration.input(&info.name) {
            Some(input) => (Some(input), ""),
            None => (None, info.name.split(".experts.").next().unwrap_or(&info.name)),
        };
        let place = *at.entry(key).or_insert(parts.len());
        if place == parts.len() {
            parts.push(Part { matrices: Vec::new(), weights: 0, kl: 0.0, bits: 0, group: 0 });
        }
        parts[place].matrices.push(info.name.clone());
        parts[place].weights += info.elements as u64;
    }
    Ok(parts)
}

/// The first so many tokens of the text, all but the first predicted.
fn texts(calibration: &Calibration<'_>) -> Vec<Text> {
    let mut left = TOKENS;
    let mut texts = Vec::new();
    for tokens in calibration.texts() {
        let tokens: Vec<u32> = tokens.iter().copied().take(left + 1).collect();
        if tokens.len() > 1 {
            left -= tokens.len() - 1;
            texts.push(Text { tokens, from: 1 });
        }
        if left == 0 {
            break;
        }
    }
    texts
}

/// What each way of storing a part takes, and what it loses by what was measured.
fn shares(checkpoint: &Checkpoint, part: &Part, budget: &Budget<'_>) -> Result<Vec<Price>> {
    let measured = Spec::new(4, 128, Zeros::Free);
    let (mut errors, mut bits) = (vec![0.0; budget.ways.len()], vec![0.0; budget.ways.len()]);
    let mut reference = 0.0;
    for name in &part.matrices {
        let Some(info) = checkpoint.get(name) else { continue };
        let &[rows, cols] = info.shape.as_slice() else { continue };
        let values = numbers(checkpoint, info)?;
        let error = |spec: Spec| {
            let coded = QUANTIZERS[0].quantize_matrix(&values, [rows, cols], spec);
            coded.map(|coded| coded.squared_error(&values)).map_err(|flaw| super::flawed(info, flaw))
        };
        reference += error(measured)?;
        for ((sum, bits), &way) in errors.iter_mut().zip(&mut bits).zip(budget.ways) {
            *bits += (budget.bytes)(way, [rows, cols]).map_or(f64::INFINITY, |bytes| bytes as f64 * 8.0);
            // Floats leave nothing to speak of.
            if way.bits < 16 {
                *sum += error(Spec::new(way.bits, way.group, (budget.zeros)(way)))?;
            }
        }
    }
    let loss = |error: f64| if reference > 0.0 { error / reference } else { 0.0 };
    Ok(bits.into_iter().zip(errors).map(|(bits, error)| Price { bits, loss: loss(error) }).collect())
}
