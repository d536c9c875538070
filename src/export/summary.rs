//! What is told of a model that was written.

use super::numbered;
use crate::quantize::Coded;
use serde::Serialize;
use std::collections::BTreeMap;

/// What became of a model.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Matrices that are codes now.
    pub matrices: usize,
    /// Matrices that are 16-bit floats.
    pub kept: Vec<String>,
    /// Those among them that were to be codes, and whose rows are not whole groups.
    pub uneven: Vec<String>,
    /// Bytes of the weights before.
    pub bytes_before: u64,
    /// Bytes of the weights now, headers included.
    pub bytes: u64,
    /// Bits of a weight of the quantized matrices and of those that are floats by choice, scales and zeros included.
    pub bits_per_weight: f64,
    /// Σ (w − ŵ)² / Σ w² over the quantized matrices.
    pub relative_error: f64,
    /// The same by kinds of matrix, in the order of their names.
    pub kinds: Vec<Kind>,
    /// Matrices by how they are stored, as `4 bits / 32`.
    pub stored: BTreeMap<String, usize>,
    /// Matrices that were rounded without looking at activations, though the quantizer would have.
    pub unseen: Vec<String>,
    /// Matrices whose columns have no place for factors, though the quantizer would have chosen some.
    pub unscaled: Vec<String>,
    /// Weights that are floats by choice.
    #[serde(skip)]
    pub(super) floats: u64,
}

/// Matrices of one kind, as `mlp.up_proj`, over all layers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Kind {
    /// The end of their names.
    pub kind: String,
    /// How many there are.
    pub matrices: usize,
    /// Weights in all of them.
    pub weights: u64,
    /// Σ (w − ŵ)² / Σ w²
    pub relative_error: f64,
    #[serde(skip)]
    error: f64,
    #[serde(skip)]
    power: f64,
}

impl Summary {
    /// Counts a quantized matrix.
    pub(super) fn add(&mut self, name: &str, weights: &[f32], coded: &Coded) {
        let stem = name.strip_suffix(".weight").unwrap_or(name);
        // All that comes after the number of the layer, and of an expert if there is one.
        let kind = stem.rsplit('.').take_while(|part| !numbered(part)).collect::<Vec<_>>();
        let kind = kind.into_iter().rev().collect::<Vec<_>>().join(".");
        let place = self.kinds.binary_search_by(|k| k.kind.as_str().cmp(&kind)).unwrap_or_else(|place| {
            self.kinds.insert(place, Kind { kind, ..Kind::default() });
            place
        });
        let kind = &mut self.kinds[place];
        kind.matrices += 1;
        kind.weights += weights.len() as u64;
        kind.error += coded.squared_error(weights);
        kind.power += weights.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>();
        self.matrices += 1;
        *self.stored.entry(format!("{} bits / {}", coded.bits, coded.group)).or_default() += 1;
    }

    /// Works out what is told of all.
    pub(super) fn finish(&mut self, coded_bytes: u64) {
        let ratio = |error: f64, power: f64| if power > 0.0 { error / power } else { 0.0 };
        self.kinds.iter_mut().for_each(|kind| kind.relative_error = ratio(kind.error, kind.power));
        let sum = |of: fn(&Kind) -> f64| self.kinds.iter().map(of).sum::<f64>();
        self.relative_error = ratio(sum(|k| k.error), sum(|k| k.power));
        let weights = sum(|k| k.weights as f64) + self.floats as f64;
        self.bits_per_weight = (coded_bytes + 2 * self.floats) as f64 * 8.0 / weights.max(1.0);
    }
}
