//! How a model is quantized, matrix by matrix.

use super::{Calibration, Scaling, Summary, Watch, flawed, numbers};
use crate::checkpoint::{Checkpoint, TensorInfo};
use crate::error::Result;
use crate::quantize::{Coded, Quantizer, Spec, Zeros};
use std::collections::BTreeMap;

/// How a matrix is quantized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// What chooses scales and codes.
    pub quantizer: &'static Quantizer,
    /// Bits of a code, 4 or 8.
    pub bits: u32,
    /// Numbers that a group has, at most 2^bits; none for all of them.
    pub states: Option<u32>,
    /// Columns that share a scale.
    pub group: usize,
    /// Whether codes are counted from the middle.
    pub symmetric: bool,
}

impl Settings {
    /// What a matrix is rounded to, when so much can be stored of a grid.
    pub fn spec(&self, zeros: Zeros) -> Spec {
        let all = 1 << self.bits;
        let states = self.states.map_or(all, |states| states.clamp(2, all));
        Spec { states, ..Spec::new(self.bits, self.group, zeros) }
    }
}

/// How a matrix is stored that is not as the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// 4, 8, or 16 for floats.
    pub bits: u32,
    /// Columns that share a scale.
    pub group: usize,
}

/// How a model is quantized.
pub struct Recipe<'a> {
    /// How most matrices are.
    pub settings: Settings,
    /// Those that are stored otherwise, by the names of their tensors.
    pub stored: BTreeMap<String, Stored>,
    /// What matrices are multiplied with, for quantizers that look at it.
    pub calibration: Option<Calibration<'a>>,
    /// What is done to the numbers before.
    pub scaling: Scaling,
    /// Matrices that have no place for factors.
    pub unscaled: Vec<String>,
}

impl Recipe<'_> {
    /// All matrices alike, without activations.
    pub fn plain(settings: Settings) -> Self {
        let (stored, scaling, unscaled) = (BTreeMap::new(), Scaling::default(), Vec::new());
        Recipe { settings, stored, calibration: None, scaling, unscaled }
    }

    /// How a matrix is quantized; none if it stays floats.
    pub fn of(&self, tensor: &str) -> Option<Settings> {
        match self.stored.get(tensor) {
            None => Some(self.settings),
            Some(Stored { bits: 16, .. }) => None,
            // A number of states is one of codes of the usual bits.
            Some(&Stored { bits, group }) => {
                let states = self.settings.states.filter(|_| bits == self.settings.bits);
                Some(Settings { bits, states, group, ..self.settings })
            }
        }
    }

    /// The numbers of a tensor, all of them finite, as they are to be stored.
    pub(super) fn numbers(&self, checkpoint: &Checkpoint, info: &TensorInfo) -> Result<Vec<f32>> {
        let mut values = numbers(checkpoint, info)?;
        self.scaling.apply(info, &mut values);
        Ok(values)
    }

    /// Quantizes a matrix, and counts it.
    pub(super) fn coded(
        &mut self,
        info: &TensorInfo,
        values: &[f32],
        (settings, zeros): (&Settings, Zeros),
        summary: &mut Summary,
        watch: &Watch<'_>,
    ) -> Result<Coded> {
        let &[rows, cols] = info.shape.as_slice() else { unreachable!("only matrices are quantized") };
        let looks = settings.quantizer.calibrated.is_some();
        let seen = match self.calibration.as_mut().filter(|_| looks) {
            Some(calibration) => calibration.statistics(&info.name, watch.interrupted)?,
            None => None,
        };
        if looks && seen.is_none() {
            summary.unseen.push(info.name.clone());
        }
        let coded = settings.quantizer.quantize_seen(values, [rows, cols], settings.spec(zeros), seen);
        let coded = coded.map_err(|flaw| flawed(info, flaw))?;
        summary.add(&info.name, values, &coded);
        Ok(coded)
    }

    /// Says which matrices will be quantized, in which order.
    pub(super) fn plan<'n>(&mut self, tensors: impl Iterator<Item = &'n str>) {
        if let Some(calibration) = &mut self.calibration {
            calibration.plan(tensors);
        }
    }
}

/// The settings, as a model's card has them.
pub(super) fn described(settings: &Settings) -> String {
    let states = settings.states.map_or(String::new(), |states| format!(" ({states} states)"));
    format!(
        "{} bits{states}, {} in groups of {} weights of a row, scales in 16-bit floats, chosen by `{}`",
        settings.bits,
        if settings.symmetric { "codes counted from the middle" } else { "codes counted from a zero" },
        settings.group,
        settings.quantizer.name
    )
}
