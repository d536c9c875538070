//! What is known of the activations that a matrix is multiplied with.

use rayon::prelude::*;

/// Sums over the rows x `[cols]` that were seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Numbers of a row.
    pub cols: usize,
    /// Rows that were seen.
    pub rows: u64,
    /// Σ |x|, `[cols]`.
    pub magnitudes: Vec<f64>,
    /// Σ x², `[cols]`.
    pub squares: Vec<f64>,
    /// H = Σ x xᵀ, `[cols, cols]`, of which up to [`symmetric`](Self::symmetric) only what is on and below the diagonal
    /// counts. Twice this is the Hessian of ‖(W − Ŵ) x‖² by each row of Ŵ. Empty where it was not asked for.
    pub hessian: Vec<f32>,
}

/// Rows that go through the matrix together.
const TOGETHER: usize = 4;

impl Statistics {
    /// Nothing seen yet; with the Hessian or without.
    pub fn new(cols: usize, hessian: bool) -> Self {
        let len = if hessian { cols * cols } else { 0 };
        let zeros = vec![0.0; cols];
        Statistics { cols, rows: 0, magnitudes: zeros.clone(), squares: zeros, hessian: vec![0.0; len] }
    }

    /// Bytes that the Hessian of so many columns takes.
    pub fn bytes(cols: usize) -> u64 {
        4 * (cols as u64).saturating_mul(cols as u64)
    }

    /// Adds rows `[n, cols]`. The order of adding up does not depend on the number of threads.
    pub fn add(&mut self, values: &[f32]) {
        let cols = self.cols.max(1);
        for row in values.chunks_exact(cols) {
            self.rows += 1;
            for ((magnitude, square), &x) in self.magnitudes.iter_mut().zip(&mut self.squares).zip(row) {
                *magnitude += f64::from(x).abs();
                *square += f64::from(x) * f64::from(x);
            }
        }
        self.hessian.par_chunks_mut(cols).enumerate().for_each(|(i, sums)| {
            let sums = &mut sums[..=i];
            for rows in values.chunks(TOGETHER * cols) {
                let row = |t: usize| rows.get(t * cols..).filter(|row| !row.is_empty());
                if let [Some(a), Some(b), Some(c), Some(d)] = [0, 1, 2, 3].map(row) {
                    let (fa, fb, fc, fd) = (a[i], b[i], c[i], d[i]);
                    for ((((sum, a), b), c), d) in sums.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                        *sum += (fa * a + fb * b) + (fc * c + fd * d);
                    }
                    continue;
                }
                for row in rows.chunks_exact(cols) {
                    let factor = row[i];
                    sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += factor * x);
                }
            }
        });
    }

    /// Fills in what lies above the diagonal: the statistics are complete.
    pub fn symmetric(mut self) -> Self {
        if !self.hessian.is_empty() {
            for i in 0..self.cols {
                for j in 0..i {
                    self.hessian[j * self.cols + i] = self.hessian[i * self.cols + j];
                }
            }
        }
        self
    }

    /// The same of activations whose columns are divided by `factors`.
    pub fn divided(&self, factors: &[f32]) -> Self {
        let by = |values: &[f64], power: i32| -> Vec<f64> {
            values.iter().zip(factors).map(|(v, &f)| v / f64::from(f).powi(power)).collect()
        };
        let mut hessian = self.hessian.clone();
        for (row, &f) in hessian.chunks_exact_mut(self.cols.max(1)).zip(factors) {
            row.iter_mut().zip(factors).for_each(|(h, &g)| *h /= f * g);
        }
        let (magnitudes, squares) = (by(&self.magnitudes, 1), by(&self.squares, 2));
        Statistics { magnitudes, squares, hessian, ..*self }
    }

    /// How much each column's error counts: mean x², in units of its mean over the columns.
    pub fn importance(&self) -> Vec<f32> {
        let mean = self.squares.iter().sum::<f64>() / self.cols.max(1) as f64;
        let share = |&square: &f64| if mean > 0.0 { (square / mean) as f32 } else { 1.0 };
        self.squares.iter().map(share).collect()
    }

    /// Σ ‖E x‖² over the rows seen, for errors E `[rows, cols]`: the trace of E H Eᵀ.
    pub fn output_error(&self, errors: &[f32]) -> f64 {
        /// Rows of E for which a row of H is read once.
        const ROWS: usize = 8;
        let cols = self.cols.max(1);
        let of = |errors: &[f32]| -> f64 {
            let mut products = vec![0.0f32; errors.len()]; // E H
            for (j, h) in self.hessian.chunks_exact(cols).enumerate() {
                for (products, errors) in products.chunks_exact_mut(cols).zip(errors.chunks_exact(cols)) {
                    let e = errors[j];
                    if e != 0.0 {
                        products.iter_mut().zip(h).for_each(|(p, h)| *p += e * h);
                    }
                }
            }
            errors.iter().zip(&products).map(|(&e, &p)| f64::from(e) * f64::from(p)).sum()
        };
        let parts: Vec<f64> = errors.par_chunks(ROWS * cols).map(of).collect();
        parts.iter().sum::<f64>().max(0.0)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Rows of correlated numbers: a few directions and a little noise, some columns large.
    pub fn activations(rows: usize, cols: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        let directions: Vec<f32> = (0..8 * cols).map(|_| next()).collect();
        let mut values = Vec::with_capacity(rows * cols);
        for _ in 0..rows {
            let amounts: Vec<f32> = (0..8).map(|_| next()).collect();
            for col in 0..cols {
                let common: f32 = (0..8).map(|d| amounts[d] * directions[d * cols + col]).sum();
                let size = if col % 16 == 3 { 8.0 } else { 1.0 };
                values.push((common + 0.3 * next()) * size);
            }
        }
        values
    }

    /// Against plain sums, for numbers of rows that do and do not come in fours.
    #[test]
    fn sums_are_those_of_the_rows() {
        for rows in [1, 4, 7, 64] {
            let cols = 24;
            let x = activations(rows, cols, rows as u64);
            let mut found = Statistics::new(cols, true);
            let cut = (rows / 2) * cols;
            found.add(&x[..cut]);
            found.add(&x[cut..]);
            let found = found.symmetric();
            assert_eq!(found.rows, rows as u64);
            for i in 0..cols {
                let column = |j: usize| x.iter().skip(j).step_by(cols).map(|&x| f64::from(x));
                assert!((found.magnitudes[i] - column(i).map(f64::abs).sum::<f64>()).abs() < 1e-4);
                for j in 0..cols {
                    let sum: f64 = column(i).zip(column(j)).map(|(a, b)| a * b).sum();
                    assert!(
                        (f64::from(found.hessian[i * cols + j]) - sum).abs() < 1e-2 * sum.abs().max(1e-2)
                    );
                }
            }
            // ‖E x‖², row by row.
            let errors = activations(3, cols, 99);
            let expected: f64 = (errors.chunks(cols))
                .flat_map(|e| x.chunks(cols).map(move |x| (e, x)))
                .map(|(e, x)| {
                    e.iter().zip(x).map(|(&e, &x)| f64::from(e) * f64::from(x)).sum::<f64>().powi(2)
                })
                .sum();
            assert!((found.output_error(&errors) - expected).abs() < 1e-3 * expected);
            // Dividing the rows or the statistics comes to the same.
            let factors: Vec<f32> = (0..cols).map(|i| 0.5 + i as f32 / 8.0).collect();
            let mut divided = Statistics::new(cols, true);
            let rows: Vec<f32> = x.iter().zip(factors.iter().cycle()).map(|(x, f)| x / f).collect();
            divided.add(&rows);
            let (a, b) =
                (divided.symmetric().output_error(&errors), found.divided(&factors).output_error(&errors));
            assert!((a - b).abs() < 1e-3 * a, "{a} {b}");
        }
    }
}
