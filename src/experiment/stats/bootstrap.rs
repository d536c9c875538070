//! Intervals by drawing the units again: questions or documents, never tokens, since the tokens of a text
//! depend on each other.

use super::super::random::Random;
use super::{Estimate, quantile};

/// Resamples of an interval: its ends then differ between seeds by less than a tenth of a standard error.
pub const RESAMPLES: usize = 2000;

/// A statistic of all units with its percentile bootstrap 95% interval, in the statistic's unit (Efron and
/// Tibshirani, "An introduction to the bootstrap", 1993, chapter 13). The statistic gets the indices of the
/// units it is to be computed of. None for fewer than two units, where the statistic of all of them does not
/// exist, or where that of more than a tenth of the resamples does not.
pub fn bootstrap(
    units: usize,
    resamples: usize,
    random: &mut Random,
    statistic: impl Fn(&[usize]) -> Option<f64>,
) -> Option<Estimate> {
    let all: Vec<usize> = (0..units).collect();
    let value = statistic(&all).filter(|v| v.is_finite())?;
    percentiles(value, &resample(units, resamples, random, statistic), resamples)
}

/// The statistic of each resample in which it exists, ascending; nothing for fewer than two units.
pub(super) fn resample(
    units: usize,
    resamples: usize,
    random: &mut Random,
    statistic: impl Fn(&[usize]) -> Option<f64>,
) -> Vec<f64> {
    if units < 2 {
        return Vec::new();
    }
    let mut indices = vec![0; units];
    let mut values = Vec::with_capacity(resamples);
    for _ in 0..resamples {
        indices.fill_with(|| random.below(units));
        values.extend(statistic(&indices).filter(|v| v.is_finite()));
    }
    values.sort_unstable_by(f64::total_cmp);
    values
}

/// The interval of `value` that the statistics of the resamples make, ascending; it never leaves `value` out.
pub(super) fn percentiles(value: f64, ascending: &[f64], resamples: usize) -> Option<Estimate> {
    if ascending.len() * 10 < resamples * 9 {
        return None;
    }
    let (low, high) = (quantile(ascending, 0.025)?, quantile(ascending, 0.975)?);
    Some(Estimate { value, low: low.min(value), high: high.max(value) })
}

/// The mean of a figure that each unit has, with its bootstrap interval, in the figure's unit: how estimates of
/// information are averaged, say, from each question's bits. None for fewer than two units, or where one is
/// not finite.
pub fn mean_interval(values: &[f64], random: &mut Random) -> Option<Estimate> {
    let mean =
        |indices: &[usize]| Some(indices.iter().map(|&i| values[i]).sum::<f64>() / indices.len() as f64);
    values.iter().all(|v| v.is_finite()).then(|| bootstrap(values.len(), RESAMPLES, random, mean))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_exist_has_no_interval() {
        let mut random = Random::new(1, &["none"]);
        assert_eq!(mean_interval(&[], &mut random), None);
        assert_eq!(mean_interval(&[1.0], &mut random), None);
        assert_eq!(mean_interval(&[1.0, f64::NAN], &mut random), None);
        let rarely = |indices: &[usize]| (indices[0] == 0).then_some(1.0);
        assert_eq!(bootstrap(5, 200, &mut random, rarely), None);
    }

    /// Skewed data (exponential): the interval holds the true mean, 1, and the true median, ln 2, as often as
    /// it says, give or take three binomial errors and the two points that a bootstrap lacks at 80 units.
    #[test]
    fn intervals_hold_the_truth_in_95_of_100() {
        let mut random = Random::new(2, &["coverage"]);
        let runs = 500;
        let mut held = [0; 2];
        for _ in 0..runs {
            let values: Vec<f64> = (0..80).map(|_| -(1.0 - random.unit()).ln()).collect();
            let mean = |indices: &[usize]| Some(indices.iter().map(|&i| values[i]).sum::<f64>() / 80.0);
            let median = |indices: &[usize]| {
                let mut drawn: Vec<f64> = indices.iter().map(|&i| values[i]).collect();
                drawn.sort_unstable_by(f64::total_cmp);
                quantile(&drawn, 0.5)
            };
            let intervals = [bootstrap(80, 300, &mut random, mean), bootstrap(80, 300, &mut random, median)];
            for ((held, interval), truth) in held.iter_mut().zip(intervals).zip([1.0, 2f64.ln()]) {
                let interval = interval.unwrap();
                *held += usize::from(interval.low <= truth && truth <= interval.high);
            }
        }
        let error = 3.0 * (0.05 * 0.95 / f64::from(runs)).sqrt();
        for held in held {
            let share = held as f64 / f64::from(runs);
            assert!((0.93 - error..=0.95 + error).contains(&share), "{share}");
        }
    }

    #[test]
    fn the_width_is_that_of_the_standard_error() {
        let mut random = Random::new(3, &["width"]);
        let values: Vec<f64> = (0..400).map(|_| random.normal()).collect();
        let interval = mean_interval(&values, &mut random).unwrap();
        let mean = values.iter().sum::<f64>() / 400.0;
        let error = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 400.0).sqrt() / 20.0;
        assert!((interval.value - mean).abs() < 1e-12);
        assert!(
            ((interval.high - interval.low) / (2.0 * 1.96 * error) - 1.0).abs() < 0.1,
            "{interval:?} {error}"
        );
        assert!(interval.low < mean && mean < interval.high);
    }
}
