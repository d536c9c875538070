//! The law of damage over sizes and bits.

use super::{Estimate, student_t};

/// damage = C · N^−a · e^(−bits / γ), fitted; N in parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct DamageLaw {
    /// ln C, damage in its own unit.
    pub ln_c: f64,
    /// a, a pure number: by which power of size damage falls.
    pub a: Estimate,
    /// γ in bits a weight: so many more lessen damage e-fold.
    pub gamma: Estimate,
    /// Share of the variance of ln damage that the fit explains.
    pub r_squared: f64,
    /// For each size, held out: `(parameters, measured, predicted)`, means of ln damage.
    pub held_out: Vec<(u64, f64, f64)>,
}

/// Least squares of y on x and b.
struct Fit {
    intercept: f64,
    slope_x: f64,
    slope_b: f64,
    /// Standard errors of the slopes over that of a residual.
    spread: [f64; 2],
    /// Sum of squared residuals.
    error: f64,
    /// Σ (y − mean)²
    total: f64,
}

/// Fits ln damage = ln C − a·ln N − bits/γ to points `(parameters, bits a weight, damage)` by ordinary least
/// squares over points with damage > 0, with 95% intervals by Student's t with n − 3 degrees of freedom (Draper
/// and Smith, "Applied regression analysis", 1998, chapter 5); γ's is that of 1/γ turned over. The intervals
/// take residuals as independent; those of one model are not quite, so look at `held_out` too: each size's mean
/// ln damage as the others predict it, where two or more others are left.
///
/// None for fewer than four points, for one size or one number of bits, where size and bits cannot be told
/// apart, or where damage does not surely fall with bits (the interval of 1/γ reaches 0, so γ has no upper end).
pub fn law(points: &[(u64, f64, f64)]) -> Option<DamageLaw> {
    let usable = |&(n, bits, damage): &(u64, f64, f64)| {
        let fine = n > 0 && bits.is_finite() && damage > 0.0 && damage.is_finite();
        fine.then(|| (n, [(n as f64).ln(), bits, damage.ln()]))
    };
    let points: Vec<(u64, [f64; 3])> = points.iter().filter_map(usable).collect();
    let rows: Vec<[f64; 3]> = points.iter().map(|p| p.1).collect();
    let t = student_t(rows.len().checked_sub(3)?)?;
    let fit = least_squares(&rows)?;
    let residual = (fit.error / (rows.len() - 3) as f64).sqrt();
    let interval = |slope: f64, spread: f64| {
        let half = t * residual * spread;
        Estimate { value: -slope, low: -slope - half, high: -slope + half }
    };
    let a = interval(fit.slope_x, fit.spread[0]);
    let rate = interval(fit.slope_b, fit.spread[1]);
    if rate.low <= 0.0 {
        return None;
    }
    let mut sizes: Vec<u64> = points.iter().map(|p| p.0).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let held_out = sizes.into_iter().filter_map(|size| {
        let rows =
            |own: bool| points.iter().filter(|p| (p.0 == size) == own).map(|p| p.1).collect::<Vec<_>>();
        let fit = least_squares(&rows(false))?;
        let [x, bits, measured] = means(&rows(true));
        Some((size, measured, fit.intercept + fit.slope_x * x + fit.slope_b * bits))
    });
    Some(DamageLaw {
        ln_c: fit.intercept,
        a,
        gamma: Estimate { value: 1.0 / rate.value, low: 1.0 / rate.high, high: 1.0 / rate.low },
        r_squared: 1.0 - fit.error / fit.total,
        held_out: held_out.collect(),
    })
}

/// By the normal equations of centred columns; none where these depend on each other.
fn least_squares(rows: &[[f64; 3]]) -> Option<Fit> {
    let mean = means(rows);
    let product = |i: usize, j: usize| rows.iter().map(|r| (r[i] - mean[i]) * (r[j] - mean[j])).sum::<f64>();
    let (xx, bb, xb, xy, by) = (product(0, 0), product(1, 1), product(0, 1), product(0, 2), product(1, 2));
    let determinant = xx * bb - xb * xb;
    // rounding leaves about 1e-16 of columns that depend
    if determinant.is_nan() || determinant <= 1e-10 * xx * bb {
        return None;
    }
    let slope_x = (xy * bb - by * xb) / determinant;
    let slope_b = (by * xx - xy * xb) / determinant;
    let intercept = mean[2] - slope_x * mean[0] - slope_b * mean[1];
    let error = rows.iter().map(|r| (r[2] - intercept - slope_x * r[0] - slope_b * r[1]).powi(2)).sum();
    let spread = [(bb / determinant).sqrt(), (xx / determinant).sqrt()];
    Some(Fit { intercept, slope_x, slope_b, spread, error, total: product(2, 2) })
}

fn means(rows: &[[f64; 3]]) -> [f64; 3] {
    [0, 1, 2].map(|i| rows.iter().map(|row| row[i]).sum::<f64>() / rows.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::super::super::random::Random;
    use super::*;

    fn points(noise: f64, random: &mut Random) -> Vec<(u64, f64, f64)> {
        let sizes = [135_000_000u64, 360_000_000, 600_000_000, 1_700_000_000];
        let grid = sizes.iter().flat_map(|&n| [2.0, 3.0, 4.0, 5.0].map(|bits| (n, bits)));
        grid.map(|(n, bits)| {
            (n, bits, (8.0 - 0.4 * (n as f64).ln() - bits / 0.9 + noise * random.normal()).exp())
        })
        .collect()
    }

    #[test]
    fn an_exact_law_is_found() {
        let mut points = points(0.0, &mut Random::new(1, &["law"]));
        points.extend([
            (5, 4.0, 0.0),
            (5, 4.0, -1.0),
            (5, 4.0, f64::NAN),
            (0, 4.0, 1.0),
            (5, f64::INFINITY, 1.0),
        ]);
        let law = law(&points).unwrap();
        for (found, expected) in
            [(law.ln_c, 8.0), (law.a.value, 0.4), (law.gamma.value, 0.9), (law.r_squared, 1.0)]
        {
            assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        }
        assert_eq!(law.held_out.len(), 4);
        assert!(law.held_out.iter().all(|(_, measured, predicted)| (measured - predicted).abs() < 1e-9));
    }

    #[test]
    fn intervals_hold_the_truth_in_95_of_100() {
        let mut random = Random::new(2, &["law"]);
        let runs = 1500;
        let mut held = [0; 2];
        for _ in 0..runs {
            let law = law(&points(0.5, &mut random)).unwrap();
            held[0] += usize::from(law.a.low <= 0.4 && 0.4 <= law.a.high);
            held[1] += usize::from(law.gamma.low <= 0.9 && 0.9 <= law.gamma.high);
        }
        for held in held {
            let share = held as f64 / f64::from(runs);
            assert!((share - 0.95).abs() < 3.0 * (0.05 * 0.95 / f64::from(runs)).sqrt(), "{share}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_not() {
        let all = points(0.1, &mut Random::new(3, &["law"]));
        let one_size: Vec<_> = all.iter().copied().filter(|p| p.0 == all[0].0).collect();
        let one_width: Vec<_> = all.iter().copied().filter(|p| p.1 == 4.0).collect();
        let diagonal: Vec<_> = (1..8).map(|i| (1 << i, f64::from(i), f64::from(i * i + 1).recip())).collect();
        let rising: Vec<_> = all.iter().map(|&(n, bits, damage)| (n, bits, damage.recip())).collect();
        for points in [&one_size, &one_width, &diagonal, &rising, &all[..3].to_vec(), &Vec::new()] {
            assert_eq!(law(points), None, "{points:?}");
        }
    }
}
