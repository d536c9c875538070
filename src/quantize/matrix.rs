//! A whole matrix as codes, as files have it.

use super::{Flaw, Line, Quantizer, Spec, Statistics};
use crate::format::Form;
use half::f16;
use rayon::prelude::*;

/// Rows that a thread quantizes at a time.
const ROWS: usize = 16;

/// A matrix `[rows, cols]` as codes on evenly spaced grids, each for a group of neighbours of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Coded {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Bits of a code, at most 8.
    pub bits: u32,
    /// Columns of a group; a row's last one may be shorter.
    pub group: usize,
    /// What codes are counted from.
    pub form: Form,
    /// `[rows, cols]`
    pub codes: Vec<u8>,
    /// `[rows, groups]`
    pub scales: Vec<f16>,
    /// `[rows, groups]`: zeros, offsets, or nothing that counts.
    pub zeros: Vec<f16>,
}

impl Coded {
    /// A matrix of zeros.
    pub(super) fn new([rows, cols]: [usize; 2], Spec { bits, group, zeros, .. }: Spec) -> Self {
        let groups = cols.div_ceil(group);
        Coded {
            rows,
            cols,
            bits,
            group,
            form: zeros.form(),
            codes: vec![0; rows * cols],
            scales: vec![f16::ZERO; rows * groups],
            zeros: vec![f16::ZERO; rows * groups],
        }
    }

    /// Groups of a row.
    pub fn groups(&self) -> usize {
        self.cols.div_ceil(self.group)
    }

    /// The number that a code stands for.
    pub fn value(&self, row: usize, col: usize) -> f32 {
        let group = row * self.groups() + col / self.group;
        let constants = [self.scales[group].to_f32(), self.zeros[group].to_f32()];
        self.form.value(self.bits, f32::from(self.codes[row * self.cols + col]), constants)
    }

    /// Σ (w − ŵ)² over the matrix, ŵ being the numbers that the codes of `weights` `[rows, cols]` stand for.
    pub fn squared_error(&self, weights: &[f32]) -> f64 {
        let row = |(row, weights): (usize, &[f32])| {
            let off = |(col, &w): (usize, &f32)| (f64::from(w) - f64::from(self.value(row, col))).powi(2);
            weights.iter().enumerate().map(off).sum::<f64>()
        };
        // Added up in order, so that the sum is the same on any number of threads.
        let rows: Vec<f64> = weights.par_chunks(self.cols.max(1)).enumerate().map(row).collect();
        rows.iter().sum()
    }
}

impl Quantizer {
    /// Quantizes a matrix `[rows, cols]` by what it is multiplied with, where that is known and the quantizer looks at it.
    ///
    /// # Errors
    /// As [`quantize_matrix`](Self::quantize_matrix).
    ///
    /// # Panics
    /// As [`quantize_matrix`](Self::quantize_matrix).
    pub fn quantize_seen(
        &self,
        weights: &[f32],
        shape: [usize; 2],
        spec: Spec,
        seen: Option<&Statistics>,
    ) -> Result<Coded, Flaw> {
        match (&self.calibrated, seen.filter(|seen| seen.cols == shape[1])) {
            (Some(calibrated), Some(seen)) => (calibrated.round)(weights, shape, spec, seen),
            _ => self.quantize_matrix(weights, shape, spec),
        }
    }

    /// Quantizes a matrix `[rows, cols]`.
    ///
    /// # Errors
    /// Row and column of a weight that is not finite, or of a group whose constants are beyond f16.
    ///
    /// # Panics
    /// If the weights are not that many, or the group is 0.
    pub fn quantize_matrix(
        &self,
        weights: &[f32],
        [rows, cols]: [usize; 2],
        spec: Spec,
    ) -> Result<Coded, Flaw> {
        assert_eq!(weights.len(), rows * cols, "a matrix of that shape");
        let mut out = Coded::new([rows, cols], spec);
        let (width, groups) = ((ROWS * cols).max(1), (ROWS * out.groups()).max(1));
        let constants = out.scales.par_chunks_mut(groups).zip(out.zeros.par_chunks_mut(groups));
        let parts = out.codes.par_chunks_mut(width).zip(weights.par_chunks(width)).zip(constants);
        parts.enumerate().try_for_each(|(i, ((codes, weights), (scales, zeros)))| {
            self.quantize_rows(weights, cols, spec, Line { codes, scales, zeros })
                .map_err(|flaw| Flaw { row: i * ROWS + flaw.row, ..flaw })
        })?;
        Ok(out)
    }
}
