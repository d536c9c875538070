//! Shares of right answers, and how two arms differ on the same questions.

use super::special::binomial_cdf;
use super::{Estimate, Z_80, Z_95, Z_975};

/// The share `right` of `n` with its 95% interval (Wilson, "Probable inference, the law of succession, and
/// statistical inference", 1927). Of no questions nothing is known: 0, from 0 to 1.
pub fn wilson(right: usize, n: usize) -> Estimate {
    if n == 0 {
        return Estimate { value: 0.0, low: 0.0, high: 1.0 };
    }
    let (right, count, z2) = (right.min(n), n as f64, Z_975 * Z_975);
    let value = right as f64 / count;
    let middle = value + z2 / (2.0 * count);
    let half = Z_975 * (value * (1.0 - value) / count + z2 / (4.0 * count * count)).sqrt();
    let scale = 1.0 + z2 / count;
    // the ends are 0 and 1 in exact arithmetic too
    let low = if right == 0 { 0.0 } else { (middle - half) / scale };
    let high = if right == n { 1.0 } else { (middle + half) / scale };
    Estimate { value, low, high }
}

/// Questions by what two arms made of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paired {
    /// Both right.
    pub both: usize,
    /// Reference right, arm wrong.
    pub lost: usize,
    /// Reference wrong, arm right.
    pub won: usize,
    /// Both wrong with the same answer.
    pub neither_same: usize,
    /// Both wrong with different answers.
    pub changed: usize,
}

impl Paired {
    /// Counts questions: `(reference right, arm right, same answer)`.
    pub fn new(pairs: impl IntoIterator<Item = (bool, bool, bool)>) -> Self {
        let mut paired = Self::default();
        for pair in pairs {
            *match pair {
                (true, true, _) => &mut paired.both,
                (true, false, _) => &mut paired.lost,
                (false, true, _) => &mut paired.won,
                (false, false, true) => &mut paired.neither_same,
                (false, false, false) => &mut paired.changed,
            } += 1;
        }
        paired
    }

    /// Questions.
    pub fn n(&self) -> usize {
        self.both + self.lost + self.won + self.neither_same + self.changed
    }

    /// Share of questions that the reference answers rightly, with its interval.
    pub fn reference(&self) -> Estimate {
        wilson(self.both + self.lost, self.n())
    }

    /// Share of questions that the arm answers rightly, with its interval.
    pub fn arm(&self) -> Estimate {
        wilson(self.both + self.won, self.n())
    }

    /// Share of questions that turned from right to wrong or from wrong to right.
    pub fn flip_rate(&self) -> f64 {
        (self.lost + self.won) as f64 / self.n().max(1) as f64
    }

    /// Standard error of the difference, as a share: √((b + c) − (b − c)²/n) / n (McNemar, "Note on the
    /// sampling error of the difference between correlated proportions or percentages", 1947). It is 0
    /// without flips; the intervals below are guarded against that.
    pub fn standard_error(&self) -> f64 {
        let (n, flips, difference) = self.counts();
        (flips - difference * difference / n).max(0.0).sqrt() / n
    }

    /// Right answers of the arm less those of the reference, as a share, with a two-sided 95% interval; its
    /// ends are guarded as [`Paired::lower_bound`] is.
    pub fn difference(&self) -> Estimate {
        let (n, _, difference) = self.counts();
        let mirror = Self { lost: self.won, won: self.lost, ..*self };
        Estimate { value: difference / n, low: self.bound(Z_975, 0.025), high: -mirror.bound(Z_975, 0.025) }
    }

    /// Exact McNemar test, two-sided: the probability that fair coins in place of flips are as lopsided,
    /// p = min(1, 2·BinomCDF(min(b, c); b + c, ½)).
    pub fn mcnemar(&self) -> f64 {
        (2.0 * binomial_cdf(self.lost.min(self.won), self.lost + self.won, 0.5)).min(1.0)
    }

    /// Lower end of the one-sided 95% interval of the difference, as a share.
    ///
    /// It is Δ − 1.645·SE, but Wald's formula promises too much where flips are few: with one lost answer in
    /// a hundred it puts the bound at −2.6 points, though a fifth of all runs with 3 points of true loss look
    /// as good. So the bound is the least of
    /// - Δ − 1.645·SE;
    /// - the same with one more question lost and one more won, which is close to its nominal level from few
    ///   flips on (Bonett and Price, "Adjusted Wald confidence interval for a difference of binomial
    ///   proportions based on paired data", 2012) and never claims a smaller SE than one flip has;
    /// - without flips, −(1 − 0.05^(1/n)), the exact bound that the rule of three (−3/n) stands for.
    ///
    /// With many flips the three agree.
    pub fn lower_bound(&self) -> f64 {
        self.bound(Z_95, 0.05)
    }

    /// Whether the arm is no worse by `margin`, a share: [`Paired::lower_bound`] > −margin.
    pub fn non_inferior(&self, margin: f64) -> bool {
        self.n() > 0 && self.lower_bound() > -margin
    }

    /// The smallest drop, as a share, that so many questions show with 80% power at the two-sided 5% level:
    /// δ = (z.975 + z.8)·√(flip rate / n) (Connor, "Sample size for testing differences in proportions for
    /// the paired-sample design", 1987). A drop of δ flips a share of δ by itself, so the flip rate is no
    /// less than δ, and δ no less than (z.975 + z.8)²/n. With 6 or 7 questions, that is all of them. None where the
    /// reference has fewer right answers than McNemar's test needs: if all of them were lost, p would still be 2·½⁵.
    pub fn smallest_visible(&self) -> Option<f64> {
        let (n, z) = (self.n().max(1) as f64, Z_975 + Z_80);
        let drop = (z * (self.flip_rate() / n).sqrt()).max(z * z / n).min(1.0);
        (self.both + self.lost >= 6).then_some(drop)
    }

    /// Questions (at least 1), flips, and questions won less questions lost.
    fn counts(&self) -> (f64, f64, f64) {
        (self.n().max(1) as f64, (self.lost + self.won) as f64, self.won as f64 - self.lost as f64)
    }

    /// The least of three lower bounds; `z` is the normal quantile that leaves out `tail`.
    fn bound(&self, z: f64, tail: f64) -> f64 {
        if self.n() == 0 {
            return -1.0;
        }
        let (n, _, difference) = self.counts();
        let wald = |paired: &Self, n: f64| difference / n - z * paired.standard_error();
        let more = Self { lost: self.lost + 1, won: self.won + 1, ..*self };
        let unseen = if self.lost + self.won == 0 { tail.powf(1.0 / n) - 1.0 } else { f64::INFINITY };
        wald(self, n).min(wald(&more, n + 2.0)).min(unseen).max(-1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flipped(n: usize, lost: usize, won: usize) -> Paired {
        Paired { both: n - lost - won, lost, won, ..Paired::default() }
    }

    #[test]
    fn questions_are_counted_by_kind() {
        let (t, f) = (true, false);
        let paired =
            Paired::new([(t, t, t), (t, f, f), (f, t, f), (f, f, t), (f, f, f), (f, f, f), (t, f, f)]);
        assert_eq!(paired, Paired { both: 1, lost: 2, won: 1, neither_same: 1, changed: 2 });
        assert_eq!((paired.n(), paired.reference().value, paired.arm().value), (7, 3.0 / 7.0, 2.0 / 7.0));
        assert_eq!(paired.flip_rate(), 3.0 / 7.0);
    }

    #[test]
    fn no_questions_tell_nothing() {
        let none = Paired::default();
        assert_eq!(none.difference(), Estimate { value: 0.0, low: -1.0, high: 1.0 });
        assert_eq!((none.mcnemar(), none.lower_bound(), none.smallest_visible()), (1.0, -1.0, None));
        assert!(!none.non_inferior(2.0));
        assert_eq!(wilson(0, 0), Estimate { value: 0.0, low: 0.0, high: 1.0 });
    }

    /// 98 questions without a flip do not show that less than 3 points were lost; 99 do.
    #[test]
    fn no_flips_are_no_proof_in_few_questions() {
        assert!(!flipped(98, 0, 0).non_inferior(0.03));
        assert!(flipped(99, 0, 0).non_inferior(0.03));
        assert!((flipped(1, 0, 0).lower_bound() + 0.95).abs() < 1e-12);
    }

    #[test]
    fn more_losses_and_fewer_wins_lower_the_bound() {
        for n in [20, 100, 1000] {
            for (lost, won) in (0..8).flat_map(|lost| (0..8).map(move |won| (lost, won))) {
                let bound = flipped(n, lost, won).lower_bound();
                assert!(flipped(n, lost + 1, won).lower_bound() < bound, "{n} {lost} {won}");
                assert!(flipped(n, lost, won + 1).lower_bound() > bound, "{n} {lost} {won}");
                let difference = flipped(n, lost, won).difference();
                assert!(difference.low < difference.value && difference.value < difference.high);
            }
        }
    }

    /// Sums probability over all outcomes of n questions that are lost and won at the given rates.
    fn probability(n: usize, lost: f64, won: f64, holds: impl Fn(Paired) -> bool) -> f64 {
        let ln: Vec<f64> = (0..=n).map(|k| super::super::ln_gamma(k as f64 + 1.0)).collect();
        let power = |rate: f64, k: usize| if k == 0 { 0.0 } else { k as f64 * rate.ln() };
        let mut sum = 0.0;
        for (b, c) in (0..=n).flat_map(|b| (0..=n - b).map(move |c| (b, c))) {
            let rest = n - b - c;
            let ways = ln[n] - ln[b] - ln[c] - ln[rest];
            let p = (ways + power(lost, b) + power(won, c) + power(1.0 - lost - won, rest)).exp();
            sum += if p > 1e-12 && holds(flipped(n, b, c)) { p } else { 0.0 };
        }
        sum
    }

    /// An arm that is worse by just the margin passes in about one of twenty runs, by exact enumeration.
    #[test]
    fn non_inferiority_errs_in_one_of_twenty() {
        for (n, margin, won) in [
            (100, 0.03, 0.0),
            (150, 0.03, 0.01),
            (200, 0.03, 0.05),
            (300, 0.03, 0.0),
            (300, 0.05, 0.1),
            (60, 0.1, 0.1),
        ] {
            let error = probability(n, won + margin, won, |paired| paired.non_inferior(margin));
            assert!((0.005..0.06).contains(&error), "{n} {margin} {won}: {error}");
        }
    }

    /// The two-sided interval holds the true difference in at least about 95% of runs.
    #[test]
    fn the_interval_of_the_difference_covers() {
        for (n, lost, won) in [(50, 0.02, 0.02), (100, 0.05, 0.0), (200, 0.1, 0.05), (200, 0.01, 0.01)] {
            let holds = |paired: Paired| {
                let interval = paired.difference();
                interval.low <= won - lost && won - lost <= interval.high
            };
            let covered = probability(n, lost, won, holds);
            assert!(covered > 0.935, "{n} {lost} {won}: {covered}");
        }
    }

    /// A drop is called visible where McNemar's test speaks up if all that can be lost is lost, and nowhere else.
    #[test]
    fn no_drop_is_seen_in_few_right_answers() {
        for n in 1..20 {
            for right in 0..=n {
                let same = Paired { both: right, neither_same: n - right, ..Paired::default() };
                let lost = Paired { lost: right, neither_same: n - right, ..Paired::default() };
                assert_eq!(same.smallest_visible().is_some(), lost.mcnemar() < 0.05, "{right} of {n}");
                assert_eq!(lost.smallest_visible().is_some(), lost.mcnemar() < 0.05, "{right} of {n}");
            }
        }
    }

    /// The drop that is called visible makes McNemar's test speak up in about 80% of runs.
    #[test]
    fn a_visible_drop_is_seen() {
        for (n, background) in [(200, 0.0), (300, 0.05)] {
            let flips = (background * n as f64) as usize;
            let drop = flipped(n, flips / 2, flips - flips / 2).smallest_visible().unwrap();
            let won = ((background - drop) / 2.0).max(0.0);
            let power =
                probability(n, won + drop, won, |paired| paired.mcnemar() < 0.05 && paired.lost > paired.won);
            assert!((0.72..0.9).contains(&power), "{n} {background}: {drop} {power}");
        }
    }
}
