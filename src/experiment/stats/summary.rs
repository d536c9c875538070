//! Many numbers in few.

use super::Summary;

/// What finite numbers are like; in their own unit. Numbers that are not finite are left out, and `n` counts
/// the rest. Sorts the list. Quantiles as in [`quantile`].
pub fn summarize(values: &mut [f64]) -> Summary {
    values.sort_unstable_by(f64::total_cmp);
    // total_cmp puts −NaN and −∞ first, +∞ and NaN last
    let first = values.iter().position(|v| v.is_finite()).unwrap_or(values.len());
    let finite = &values[first..];
    let finite = &finite[..finite.iter().rposition(|v| v.is_finite()).map_or(0, |last| last + 1)];
    let (Some(&min), Some(&max)) = (finite.first(), finite.last()) else {
        return Summary::default();
    };
    let mean_of = |f: fn(f64) -> f64| finite.iter().map(|&v| f(v)).sum::<f64>() / finite.len() as f64;
    Summary {
        n: finite.len(),
        mean: mean_of(|v| v),
        rms: mean_of(|v| v * v).sqrt(),
        min,
        quantiles: [0.01, 0.05, 0.5, 0.95, 0.99, 0.999].map(|q| quantile(finite, q).unwrap_or(min)),
        max,
    }
}

/// The `q` quantile, 0 to 1, of an ascending list, between its neighbours by linear interpolation: Hyndman
/// and Fan's type 7 ("Sample quantiles in statistical packages", 1996), numpy's default. None of nothing, or
/// where it is not a number.
pub fn quantile(ascending: &[f64], q: f64) -> Option<f64> {
    let place = q.clamp(0.0, 1.0) * ascending.len().checked_sub(1)? as f64;
    let below = ascending[place as usize];
    let above = ascending[(place.ceil() as usize).min(ascending.len() - 1)];
    Some(below + (above - below) * place.fract()).filter(|value| !value.is_nan())
}

/// How many numbers lie from each edge up to the next; the first bin takes all that is below it too, the last
/// all that is above. One bin fewer than edges; numbers that are NaN are left out.
pub fn histogram(values: &[f64], edges: &[f64]) -> Vec<usize> {
    let mut counts = vec![0; edges.len().saturating_sub(1)];
    if counts.is_empty() {
        return counts;
    }
    let inner = &edges[1..edges.len() - 1];
    for value in values.iter().filter(|v| !v.is_nan()) {
        counts[inner.partition_point(|edge| edge <= value)] += 1;
    }
    counts
}

/// ln of the mean of exp(x): the average of probabilities that are known by their logarithms, in nats. None
/// of nothing, or where the mean is zero or infinite. The greatest is taken out first, so nothing overflows.
pub fn log_mean_exp(logs: &[f64]) -> Option<f64> {
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logs.iter().map(|x| (x - most).exp()).sum();
    Some(most + (sum / logs.len() as f64).ln()).filter(|x| x.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_is_left_out() {
        let mut values = [f64::NAN, 3.0, f64::NEG_INFINITY, -1.0, f64::INFINITY, -f64::NAN];
        let summary = summarize(&mut values);
        assert_eq!((summary.n, summary.mean, summary.min, summary.max), (2, 1.0, -1.0, 3.0));
        assert_eq!(summary.quantiles[2], 1.0);
        assert_eq!(summarize(&mut [f64::NAN, f64::INFINITY]), Summary::default());
        assert_eq!(summarize(&mut []), Summary::default());
        assert_eq!([quantile(&[], 0.5), quantile(&[1.0], f64::NAN)], [None; 2]);
    }

    #[test]
    fn every_number_has_a_bin() {
        let values = [-5.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 99.0, f64::INFINITY, f64::NAN];
        assert_eq!(histogram(&values, &[0.0, 1.0, 2.0, 3.0]), [3, 2, 4]);
        assert_eq!(histogram(&values, &[0.0, 1.0]), [9]);
        assert!(histogram(&values, &[0.0]).is_empty() && histogram(&values, &[]).is_empty());
    }

    #[test]
    fn small_probabilities_are_averaged() {
        let mean = log_mean_exp(&[-1000.0, -1000.0 + 3f64.ln()]).unwrap();
        assert!((mean + 1000.0 - 2f64.ln()).abs() < 1e-12, "{mean}");
        let half = log_mean_exp(&[0.0, f64::NEG_INFINITY]).unwrap();
        assert!((half - 0.5f64.ln()).abs() < 1e-12, "{half}");
        assert_eq!(log_mean_exp(&[]), None);
        assert_eq!(log_mean_exp(&[f64::NEG_INFINITY]), None);
        assert_eq!(log_mean_exp(&[f64::NAN]), None);
    }
}
