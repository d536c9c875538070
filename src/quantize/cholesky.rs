//! What a symmetric positive matrix is the square of, in f64.

use rayon::prelude::*;

/// Columns that are worked through together.
const PANEL: usize = 32;

/// The upper triangle U `[n, n]`, row by row, with Uᵀ U = H⁻¹, for a symmetric H `[n, n]`; none where H is not positive
/// definite.
///
/// With the order of rows and columns reversed, H = L Lᵀ with L lower triangular; reversed again, H = M Mᵀ with M upper
/// triangular, and U = M⁻¹.
pub fn inverse_root(h: &[f64], n: usize) -> Option<Vec<f32>> {
    let mut lower: Vec<f64> = h.iter().rev().copied().collect();
    factor(&mut lower, n)?;
    // Column j of L⁻¹ solves L x = e_j: it begins at j.
    let columns: Vec<Vec<f64>> = (0..n)
        .into_par_iter()
        .map(|j| {
            let mut x = vec![0.0; n - j];
            for i in j..n {
                let row = &lower[i * n..][j..=i];
                let before = dot(&row[..i - j], &x[..i - j]);
                let unit = if i == j { 1.0 } else { 0.0 };
                x[i - j] = (unit - before) / row[i - j];
            }
            x
        })
        .collect();
    // U[a][b] = L⁻¹[n−1−a][n−1−b]
    let mut upper = vec![0.0f32; n * n];
    upper.par_chunks_mut(n.max(1)).enumerate().for_each(|(a, row)| {
        let i = n - 1 - a;
        for (j, u) in row[a..].iter_mut().rev().enumerate() {
            *u = columns[j][i - j] as f32;
        }
    });
    upper.iter().all(|u| u.is_finite()).then_some(upper)
}

/// Replaces the lower triangle of `a` by L with L Lᵀ = A; none where there is none.
fn factor(a: &mut [f64], n: usize) -> Option<()> {
    for first in (0..n).step_by(PANEL) {
        let end = (first + PANEL).min(n);
        // What the columns before take away, in all rows from here on.
        let below = &mut a[first * n..];
        let done: Vec<Vec<f64>> = (0..end - first).map(|j| below[j * n..][..first].to_vec()).collect();
        below.par_chunks_mut(n).for_each(|row| {
            let (before, panel) = row.split_at_mut(first);
            panel.iter_mut().zip(&done).for_each(|(value, other)| *value -= dot(before, other));
        });
        // The panel's own triangle, then the rows below it.
        for j in first..end {
            let (head, tail) = a.split_at_mut((j + 1) * n);
            let row = &mut head[j * n..];
            let pivot = row[j] - dot(&row[first..j], &row[first..j]);
            if pivot.is_nan() || pivot <= 0.0 {
                return None;
            }
            let root = pivot.sqrt();
            row[j] = root;
            let row = &row[..];
            let update = |other: &mut [f64]| {
                other[j] = (other[j] - dot(&other[first..j], &row[first..j])) / root;
            };
            tail[..(end - j - 1) * n].chunks_mut(n).for_each(update);
        }
        let (head, tail) = a.split_at_mut(end * n);
        let panel = &head[first * n..];
        tail.par_chunks_mut(n).for_each(|row| {
            for j in first..end {
                let other = &panel[(j - first) * n..][..n];
                row[j] = (row[j] - dot(&row[first..j], &other[first..j])) / other[j];
            }
        });
    }
    Some(())
}

/// In four partial sums, so that compilers can use vector registers.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a4, b4) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    let mut sums = [0.0f64; 4];
    for (a, b) in a4.0.iter().zip(b4.0) {
        (0..4).for_each(|i| sums[i] += a[i] * b[i]);
    }
    let rest: f64 = a4.1.iter().zip(b4.1).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::statistics::tests::activations;

    /// Uᵀ U · H is the unit matrix, for sizes within a panel, at its edge and beyond.
    #[test]
    fn the_root_is_that_of_the_inverse() {
        for n in [1, 2, 31, 32, 33, 100] {
            let x = activations(n + 8, n, n as u64);
            let mut h = vec![0.0f64; n * n];
            for row in x.chunks(n) {
                for i in 0..n {
                    for j in 0..n {
                        h[i * n + j] += f64::from(row[i]) * f64::from(row[j]);
                    }
                }
            }
            (0..n).for_each(|i| h[i * n + i] += 1.0);
            let u: Vec<f64> = inverse_root(&h, n).unwrap().iter().map(|&u| f64::from(u)).collect();
            for a in 0..n {
                assert!(u[a * n..][..a].iter().all(|&below| below == 0.0));
                for b in 0..n {
                    let inverse = |i: usize| (0..n).map(|k| u[k * n + a] * u[k * n + i]).sum::<f64>();
                    let found: f64 = (0..n).map(|i| inverse(i) * h[i * n + b]).sum();
                    let expected = if a == b { 1.0 } else { 0.0 };
                    assert!((found - expected).abs() < 2e-3, "{n}: [{a}, {b}] is {found}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_positive_is_refused() {
        assert_eq!(inverse_root(&[0.0], 1), None);
        assert_eq!(inverse_root(&[1.0, 2.0, 2.0, 1.0], 2), None);
        assert_eq!(inverse_root(&[f64::NAN], 1), None);
    }
}
