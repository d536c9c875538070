//! How reasoning wears off along its way: errors by step, and divergence by token.

use super::Estimate;

/// −ln(1 − ε) above which ε is 1 in an f64.
const CERTAIN: f64 = 40.0;
/// Half the 95% quantile of χ² with one degree of freedom.
const LIKELIHOOD_DROP: f64 = 3.841_459 / 2.0;
/// Points of a survival curve at most: as many as a figure shows.
const CURVE_POINTS: usize = 64;

/// Error a step, ε as a share, by maximum likelihood in accuracy = (1 − ε)^k of independent questions, given as
/// `(steps k, right, questions)`; interval by profile likelihood (Wilks, "The large-sample distribution of the
/// likelihood ratio for testing composite hypotheses", 1938): all ε whose ln likelihood is at most χ²/2 = 1.92
/// below its peak. Cells without questions or steps are left out; none if no cell is left.
pub fn step_error(cells: &[(usize, usize, usize)]) -> Option<Estimate> {
    let cells: Vec<(f64, f64, f64)> = cells
        .iter()
        .filter(|&&(steps, _, n)| steps > 0 && n > 0)
        .map(|&(steps, right, n)| (steps as f64, right.min(n) as f64, n.saturating_sub(right) as f64))
        .collect();
    if cells.is_empty() {
        return None;
    }
    // in s = −ln(1 − ε) the ln likelihood is Σ wrong·ln(1 − e^−ks) − right·ks, which is concave
    let likelihood = |s: f64| {
        let of = |&(k, right, wrong): &(f64, f64, f64)| {
            let missed = if wrong > 0.0 { wrong * (-(-k * s).exp_m1()).ln() } else { 0.0 };
            missed - right * k * s
        };
        cells.iter().map(of).sum::<f64>()
    };
    let falls = |s: f64| {
        cells.iter().map(|(k, right, wrong)| k * (wrong / (k * s).exp_m1() - right)).sum::<f64>() < 0.0
    };
    let best = match (cells.iter().any(|c| c.1 > 0.0), cells.iter().any(|c| c.2 > 0.0)) {
        (_, false) => 0.0,
        (false, _) => CERTAIN,
        _ => bisect(0.0, CERTAIN, falls),
    };
    let floor = likelihood(best) - LIKELIHOOD_DROP;
    let low = if best > 0.0 { bisect(0.0, best, |s| likelihood(s) > floor) } else { 0.0 };
    let high = bisect(best, CERTAIN, |s| likelihood(s) < floor);
    let error = |s: f64| -(-s).exp_m1();
    Some(Estimate { value: error(best), low: error(low), high: error(high) })
}

/// Where `holds` begins to hold between two ends, to the last digit.
fn bisect(mut low: f64, mut high: f64, holds: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..120 {
        let middle = 0.5 * (low + high);
        if holds(middle) { high = middle } else { low = middle }
    }
    high
}

/// Share of texts that still are the reference's after so many tokens, as `(tokens, share)`, by Kaplan and Meier
/// ("Nonparametric estimation from incomplete observations", 1958). Texts are given as `(index of the first
/// token that differs, tokens compared)`: one that differs at token d is the reference's for d tokens and no
/// longer after d + 1; one that ended without differing is known only as far as its length, and counts until
/// there. The curve starts at (0, 1), has a point for each fall and one for the longest text, and is thinned to
/// 64 points. Nothing of nothing.
pub fn survival(texts: &[(Option<usize>, usize)]) -> Vec<(usize, f64)> {
    // the last token count at which a text was seen, and whether it fell there
    let mut seen: Vec<(usize, bool)> = texts
        .iter()
        .map(|&(diverged, length)| diverged.map_or((length, false), |at| (at.saturating_add(1), true)))
        .collect();
    seen.sort_unstable();
    let Some(&(longest, _)) = seen.last() else {
        return Vec::new();
    };
    let (mut curve, mut share, mut at_risk) = (vec![(0, 1.0)], 1.0, seen.len());
    for same in seen.chunk_by(|a, b| a.0 == b.0) {
        let fell = same.iter().filter(|(_, fell)| *fell).count();
        if fell > 0 {
            share *= (at_risk - fell) as f64 / at_risk as f64;
            curve.push((same[0].0, share));
        }
        at_risk -= same.len();
    }
    if curve.last().is_some_and(|&(tokens, _)| tokens < longest) {
        curve.push((longest, share));
    }
    let last = curve.len() - 1;
    if last < CURVE_POINTS {
        return curve;
    }
    (0..CURVE_POINTS).map(|i| curve[i * last / (CURVE_POINTS - 1)]).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::random::Random;
    use super::*;

    #[test]
    fn nothing_has_no_error() {
        assert_eq!(step_error(&[]), None);
        assert_eq!(step_error(&[(0, 3, 4), (2, 0, 0)]), None);
    }

    /// Without errors in n steps in all, the upper end is where (1 − ε)^n = e^−1.92.
    #[test]
    fn ends_of_the_scale_have_intervals() {
        let all = step_error(&[(2, 30, 30), (4, 10, 10)]).unwrap();
        assert_eq!((all.value, all.low), (0.0, 0.0));
        assert!((all.high - (1.0 - (-LIKELIHOOD_DROP / 100.0).exp())).abs() < 1e-9, "{all:?}");
        let none = step_error(&[(1, 0, 30), (3, 0, 5)]).unwrap();
        assert_eq!((none.value, none.high), (1.0, 1.0));
        assert!(none.low > 0.8 && none.low < 1.0, "{none:?}");
        // more right than there are: all are right
        assert_eq!(step_error(&[(1, 9, 5)]).unwrap().value, 0.0);
    }

    #[test]
    fn the_interval_covers_the_truth() {
        let mut random = Random::new(5, &["steps"]);
        let runs = 1000;
        let mut held = 0;
        for _ in 0..runs {
            let right =
                |k: i32, random: &mut Random| (0..40).filter(|_| random.unit() < 0.95f64.powi(k)).count();
            let cells: Vec<_> = (1..=8).map(|k| (k as usize, right(k, &mut random), 40)).collect();
            let error = step_error(&cells).unwrap();
            held += i32::from(error.low <= 0.05 && 0.05 <= error.high);
        }
        let share = f64::from(held) / f64::from(runs);
        assert!((share - 0.95).abs() < 3.0 * (0.05 * 0.95 / f64::from(runs)).sqrt(), "{share}");
    }

    #[test]
    fn texts_that_end_count_until_they_end() {
        // of 4 one falls after token 2, one ends at 2, one of the 2 left falls after token 5, one ends at 9
        let curve = survival(&[(Some(1), 8), (None, 2), (Some(4), 8), (None, 9)]);
        assert_eq!(curve, [(0, 1.0), (2, 0.75), (5, 0.375), (9, 0.375)]);
        assert_eq!(survival(&[(Some(0), 4)]), [(0, 1.0), (1, 0.0)]);
        assert_eq!(survival(&[(None, 4), (None, 7)]), [(0, 1.0), (7, 1.0)]);
        assert_eq!(survival(&[]), []);
    }

    #[test]
    fn a_long_curve_is_thinned() {
        let texts: Vec<_> = (0..1000).map(|i| (Some(i), 1000)).collect();
        let curve = survival(&texts);
        assert_eq!((curve.len(), curve[0], curve[63]), (64, (0, 1.0), (1000, 0.0)));
        for pair in curve.windows(2) {
            assert!(pair[0].0 < pair[1].0 && pair[0].1 > pair[1].1);
            assert!((pair[0].1 - (1.0 - pair[0].0 as f64 / 1000.0)).abs() < 1e-9);
        }
    }
}
