//! Where damage begins: the bend of a line that falls and then is flat.

use super::super::random::Random;
use super::bootstrap::{percentiles, resample};
use super::{Estimate, RESAMPLES};

/// The best y = level + slope·max(0, knee − x) of one knee.
pub(super) struct Hinge {
    pub(super) knee: f64,
    /// Sum of squared residuals.
    pub(super) error: f64,
}

/// The least squares hinge of all with slope > 0, found exactly (Hudson, "Fitting segmented curves whose join
/// points have to be estimated", 1966): the best bend lies on a point, or between two points where the line
/// through those left of it meets the mean of those right of it. So these are all the bends to try. Bends left
/// of the second point fit as well as one on it, which stands for them.
pub(super) fn hinge(ascending: &[(f64, f64)]) -> Option<Hinge> {
    let mut knots: Vec<f64> = ascending.iter().map(|p| p.0).collect();
    knots.dedup();
    let between = knots.windows(2).skip(1).filter_map(|pair| {
        let (left, right) = ascending.split_at(ascending.partition_point(|p| p.0 <= pair[0]));
        let ((x, y), level) = (means(left), means(right).1);
        let slope = covariance(left, |p| p.0) / left.iter().map(|p| (p.0 - x).powi(2)).sum::<f64>();
        Some(x + (level - y) / slope).filter(|bend| pair[0] < *bend && *bend < pair[1])
    });
    let bends: Vec<f64> = knots.iter().skip(1).copied().chain(between).collect();
    let fits = bends.into_iter().filter_map(|bend| fit(ascending, bend));
    fits.min_by(|a, b| a.error.total_cmp(&b.error))
}

/// The least squares hinge with its bend at `knee`, none unless it falls.
fn fit(points: &[(f64, f64)], knee: f64) -> Option<Hinge> {
    let rise = |p: &(f64, f64)| (knee - p.0).max(0.0);
    let (n, y) = (points.len() as f64, means(points).1);
    let mean = points.iter().map(rise).sum::<f64>() / n;
    let slope = covariance(points, rise) / points.iter().map(|p| (rise(p) - mean).powi(2)).sum::<f64>();
    let level = y - slope * mean;
    let error = points.iter().map(|p| (p.1 - level - slope * rise(p)).powi(2)).sum();
    (slope > 0.0 && slope.is_finite()).then_some(Hinge { knee, error })
}

fn means(points: &[(f64, f64)]) -> (f64, f64) {
    let (x, y) = points.iter().fold((0.0, 0.0), |sum, p| (sum.0 + p.0, sum.1 + p.1));
    (x / points.len() as f64, y / points.len() as f64)
}

/// Σ (f − mean f)·y
fn covariance(points: &[(f64, f64)], f: impl Fn(&(f64, f64)) -> f64) -> f64 {
    let y = means(points).1;
    points.iter().map(|p| f(p) * (p.1 - y)).sum()
}

/// The knee in log2 states of damage that falls and then is flat, from points `(log2 states, damage)` in any
/// order: y = c + s·max(0, t − x) with s > 0 by least squares over c, s and t.
///
/// None for fewer than four different x; where damage still falls at the last point; and where the hinge does
/// not beat a constant: by the F test of two parameters more at the 1% level, whose tail has the closed form
/// (SSE / SSE₀)^((n − 3)/2). That t is searched for makes the test nominal, hence 1% and not 5%.
pub fn knee(points: &[(f64, f64)]) -> Option<f64> {
    let mut points: Vec<_> = points.iter().copied().filter(|p| p.0.is_finite() && p.1.is_finite()).collect();
    points.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let last = points.last()?.0;
    if points.chunk_by(|a, b| a.0 == b.0).count() < 4 {
        return None;
    }
    let level = means(&points).1;
    let flat: f64 = points.iter().map(|p| (p.1 - level).powi(2)).sum();
    // what rounding alone makes of a constant
    if flat <= 1e-24 * points.iter().map(|p| p.1 * p.1).sum::<f64>() {
        return None;
    }
    let hinge = hinge(&points)?;
    let p = (hinge.error / flat).powf(0.5 * (points.len() - 3) as f64);
    (p < 0.01 && hinge.knee < last - 1e-9).then_some(hinge.knee)
}

/// The knee in states, not in their logarithm, with its bootstrap 95% interval over units (questions or texts),
/// and the share of resamples whose knee lies below 16 states. `per_unit` holds each unit's damage at each of
/// `log2_states`; the knee is that of the mean over units. None where the mean has no knee, where over a tenth
/// of the resamples have none, for fewer than two units, or for rows of another length than `log2_states`.
pub fn knee_interval(
    per_unit: &[Vec<f64>],
    log2_states: &[f64],
    random: &mut Random,
) -> Option<(Estimate, f64)> {
    if per_unit.iter().any(|row| row.len() != log2_states.len()) {
        return None;
    }
    let statistic = |units: &[usize]| {
        let mean = |at: usize| units.iter().map(|&unit| per_unit[unit][at]).sum::<f64>() / units.len() as f64;
        let points: Vec<(f64, f64)> = log2_states.iter().enumerate().map(|(at, &x)| (x, mean(at))).collect();
        knee(&points).map(f64::exp2)
    };
    let all: Vec<usize> = (0..per_unit.len()).collect();
    let value = statistic(&all)?;
    let resampled = resample(per_unit.len(), RESAMPLES, random, statistic);
    let interval = percentiles(value, &resampled, RESAMPLES)?;
    Some((interval, resampled.partition_point(|&states| states < 16.0) as f64 / resampled.len() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [f64; 11] = [2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0, 256.0];

    fn curve(bend: f64, noise: f64, random: &mut Random) -> Vec<(f64, f64)> {
        let y = |x: f64| 0.1 + 1.5 * (bend - x).max(0.0);
        STATES.map(|s: f64| (s.log2(), y(s.log2()) + noise * random.normal())).to_vec()
    }

    /// In exact data each knee is found exactly, on a point and between points.
    #[test]
    fn exact_knees_are_found() {
        let mut random = Random::new(1, &["knee"]);
        for bend in [1.7, 2.0, 2.3, 3.0, 3.4, 4.0, 4.7, 6.5, 7.9] {
            let mut points = curve(bend, 0.0, &mut random);
            random.shuffle(&mut points);
            let found = knee(&points).unwrap();
            assert!((found - bend).abs() < 1e-9, "{bend}: {found}");
        }
    }

    /// No hinge with its bend on a fine grid is better.
    #[test]
    fn the_fit_is_the_best() {
        let mut random = Random::new(2, &["knee"]);
        for _ in 0..200 {
            let bend = 2.0 + 6.0 * random.unit();
            let points = curve(bend, 0.5, &mut random);
            let Some(best) = hinge(&points) else { panic!("no hinge at {bend}") };
            let grid = (0..=700).filter_map(|i| fit(&points, 1.01 + 0.01 * f64::from(i)));
            let least = grid.map(|h| h.error).fold(f64::INFINITY, f64::min);
            assert!(best.error <= least * (1.0 + 1e-9), "{bend}: {} {least}", best.error);
        }
    }

    #[test]
    fn no_knee_where_there_is_none() {
        let line: Vec<_> = (0..8).map(|x| (f64::from(x), 10.0 - f64::from(x))).collect();
        let rising: Vec<_> = line.iter().map(|&(x, y)| (x, -y)).collect();
        let flat: Vec<_> = line.iter().map(|&(x, _)| (x, 0.3)).collect();
        let holes: Vec<_> = line.iter().map(|&(x, _)| (x, f64::NAN)).collect();
        for points in [&line, &rising, &flat, &holes, &line[..3].to_vec(), &Vec::new()] {
            assert_eq!(knee(points), None, "{points:?}");
        }
    }

    /// Noise alone is seldom taken for a knee.
    #[test]
    fn noise_has_no_knee() {
        let mut random = Random::new(3, &["knee"]);
        let noise = |random: &mut Random| STATES.map(|s| (s.log2(), random.normal()));
        let found = (0..2000).filter(|_| knee(&noise(&mut random)).is_some()).count();
        assert!(found < 60, "{found} of 2000");
    }

    /// Simulated questions with their own slopes and noise: intervals hold the true knee about as often as they
    /// say, and tell a knee below 16 states from one above.
    #[test]
    fn intervals_hold_the_true_knee() {
        let log2 = STATES.map(f64::log2);
        let mut random = Random::new(4, &["knee"]);
        for bend in [3.2, 4.8] {
            let mut held = 0;
            for _ in 0..12 {
                let unit = |random: &mut Random| {
                    let slope = 1.0 + 0.3 * random.normal();
                    log2.map(|x| 0.1 + slope * (bend - x).max(0.0) + 0.3 * random.normal()).to_vec()
                };
                let units: Vec<Vec<f64>> = (0..60).map(|_| unit(&mut random)).collect();
                let (states, below) = knee_interval(&units, &log2, &mut random).unwrap();
                held += usize::from(states.low <= bend.exp2() && bend.exp2() <= states.high);
                assert!((states.value.log2() - bend).abs() < 0.3, "{bend}: {states:?}");
                assert_eq!(below > 0.5, bend < 4.0, "{bend}: {below}");
            }
            // of 12 intervals at 93%, 8 or fewer hold in one of 1000 runs
            assert!(held >= 9, "{bend}: {held} of 12");
        }
    }

    #[test]
    fn odd_units_have_no_interval() {
        let mut random = Random::new(5, &["knee"]);
        let row: Vec<f64> = curve(4.0, 0.0, &mut random).iter().map(|p| p.1).collect();
        let log2 = STATES.map(f64::log2);
        assert!(knee_interval(&[], &log2, &mut random).is_none());
        assert!(knee_interval(std::slice::from_ref(&row), &log2, &mut random).is_none());
        assert!(knee_interval(&[row.clone(), vec![1.0]], &log2, &mut random).is_none());
        assert!(knee_interval(&[row.clone(), row], &log2, &mut random).is_some());
    }
}
