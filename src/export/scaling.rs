//! Factors of columns: matrices that read the same activations are multiplied with them, and what those activations are
//! made of is divided by them, so that the model computes what it did.

use super::Recipe;
use crate::checkpoint::{Checkpoint, Dtype, TensorInfo};
use crate::error::Result;
use crate::quantize::{Sample, Zeros};
use crate::recording::Origin;
use half::{bf16, f16};
use std::collections::HashMap;
use std::rc::Rc;

/// Rows of a matrix that factors are chosen by, evenly spread.
const ROWS: usize = 128;

/// Of each column.
type Factors = Rc<Vec<f32>>;

/// What becomes of a model's tensors.
#[derive(Clone, Debug, Default)]
pub struct Scaling {
    /// By matrix, what its columns are multiplied with.
    columns: HashMap<String, Factors>,
    /// By tensor, what its rows or numbers from one on are divided by.
    origins: HashMap<String, Vec<(Origin, Factors)>>,
}

impl Scaling {
    /// Chooses factors for all matrices of `recipe` that have a place for them; the names of the matrices that have none
    /// are the second result; `zeros` tells what can be stored of a grid of so many bits. From then on the calibration's
    /// statistics are those of the divided activations.
    ///
    /// # Errors
    /// As [`Calibration::statistics`](super::Calibration::statistics).
    pub fn find(
        checkpoint: &Checkpoint,
        recipe: &mut Recipe<'_>,
        zeros: &dyn Fn(u32) -> Zeros,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<(Self, Vec<String>)> {
        let (mut scaling, mut without) = (Scaling::default(), Vec::new());
        let Some(choose) = recipe.settings.quantizer.calibrated.as_ref().and_then(|c| c.factors) else {
            return Ok((scaling, without));
        };
        let Some(mut calibration) = recipe.calibration.take() else { return Ok((scaling, without)) };
        let inputs = calibration.inputs().to_vec();
        calibration.plan(inputs.iter().flat_map(|input| input.tensors.iter().map(String::as_str)));
        for (i, input) in inputs.iter().enumerate() {
            let settings = input.tensors.iter().filter_map(|name| recipe.of(name)).next();
            let (Some(settings), Some(first)) = (settings, input.tensors.first()) else { continue };
            let Some(seen) = calibration.statistics(first, interrupted)? else { continue };
            let found = input.origin.iter().all(|origin| checkpoint.get(&origin.tensor).is_some());
            let factors = match found && !input.origin.is_empty() {
                true => {
                    let samples = samples(checkpoint, &input.tensors)?;
                    let factors = choose(&samples, settings.spec(zeros(settings.bits)), seen);
                    kept_exactly(checkpoint, &input.origin, factors)?
                }
                false => {
                    without.extend(input.tensors.iter().cloned());
                    vec![1.0; seen.cols]
                }
            };
            // Rounding needs no more than how large each column is.
            let mut divided = seen.divided(&factors);
            divided.hessian = Vec::new();
            calibration.know(i, divided);
            if factors.iter().any(|&f| f != 1.0) {
                scaling.add(&input.tensors, &input.origin, Rc::new(factors));
            }
        }
        recipe.calibration = Some(calibration);
        Ok((scaling, without))
    }

    fn add(&mut self, tensors: &[String], origins: &[Origin], factors: Factors) {
        for name in tensors {
            self.columns.insert(name.clone(), factors.clone());
        }
        for origin in origins {
            self.origins.entry(origin.tensor.clone()).or_default().push((origin.clone(), factors.clone()));
        }
    }

    /// The numbers of a tensor as they are to be.
    pub fn apply(&self, info: &TensorInfo, values: &mut [f32]) {
        let cols = if info.shape.len() == 2 { info.shape[1].max(1) } else { 1 };
        if let Some(factors) = self.columns.get(&info.name) {
            for row in values.chunks_exact_mut(cols) {
                row.iter_mut().zip(factors.iter()).for_each(|(w, f)| *w *= f);
            }
        }
        for (origin, factors) in self.origins.get(&info.name).into_iter().flatten() {
            for (row, &f) in values.chunks_exact_mut(cols).skip(origin.first).zip(factors.iter()) {
                row.iter_mut().for_each(|w| *w = divided(*w, f, origin.one_plus));
            }
        }
    }
}

fn divided(w: f32, factor: f32, one_plus: bool) -> f32 {
    if one_plus { (1.0 + w) / factor - 1.0 } else { w / factor }
}

/// The factors as they are once a norm's weight is divided by them and rounded to the type that it is stored in, so that
/// nothing is lost there. (Matrices are rounded anyway, row by row, whatever their rows are divided by.)
fn kept_exactly(checkpoint: &Checkpoint, origins: &[Origin], mut factors: Vec<f32>) -> Result<Vec<f32>> {
    for origin in origins {
        let Some(info) = checkpoint.get(&origin.tensor).filter(|info| info.shape.len() == 1) else {
            continue;
        };
        // A bias follows the weight's factors.
        if !origin.tensor.ends_with(".weight") {
            continue;
        }
        let mut weights = vec![0.0; info.elements];
        checkpoint.tensor(&info.name, &info.shape)?.read_f32(0..info.elements, &mut weights);
        for (factor, &w) in factors.iter_mut().zip(weights.iter().skip(origin.first)) {
            let stored = stored(divided(w, *factor, origin.one_plus), info.dtype());
            let whole = |w: f32| if origin.one_plus { 1.0 + w } else { w };
            let exact = whole(w) / whole(stored);
            *factor = if exact.is_finite() && exact > 0.0 { exact } else { 1.0 };
        }
    }
    Ok(factors)
}

/// A number as a tensor of that type has it.
fn stored(w: f32, dtype: Option<Dtype>) -> f32 {
    match dtype {
        Some(Dtype::BF16) => bf16::from_f32(w).to_f32(),
        Some(Dtype::F32) => w,
        _ => f16::from_f32(w).to_f32(),
    }
}

/// Rows of matrices, evenly spread.
fn samples(checkpoint: &Checkpoint, tensors: &[String]) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for name in tensors {
        let Some(info) = checkpoint.get(name) else { continue };
        let &[rows, cols] = info.shape.as_slice() else { continue };
        let tensor = checkpoint.tensor(name, &info.shape)?;
        let count = rows.min(ROWS);
        let mut weights = vec![0.0; count * cols];
        for (i, out) in weights.chunks_exact_mut(cols.max(1)).enumerate() {
            let row = i * rows / count;
            tensor.read_f32(row * cols..(row + 1) * cols, out);
        }
        samples.push(Sample { weights, share: rows as f64 / count.max(1) as f64 });
    }
    Ok(samples)
}
