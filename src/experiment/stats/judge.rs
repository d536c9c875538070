//! Verdicts, and the sentence that tells one.

use super::super::random::Random;
use super::{Estimate, Judgement, Paired, RESAMPLES, Verdict, bootstrap, wilson};

/// What became of one question in the reference and in the arm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Whether the reference answered rightly.
    pub reference: bool,
    /// Whether the arm answered rightly.
    pub arm: bool,
    /// Whether both gave the same answer.
    pub same: bool,
    /// Probability that a guess is right, 0 to 1.
    pub chance: f64,
}

/// Judges an arm by its answers to the reference's questions; shares throughout. In this order:
///
/// 1. INCONCLUSIVE where the lower end of the reference's interval (Wilson) is not above chance, or where there
///    are no questions: there is nothing to preserve.
/// 2. CATASTROPHIC where the upper end of the interval of retention R = (arm − chance) / (reference − chance)
///    is below 0.5 and the drop is significant (McNemar's p < 0.05), which three questions are not, even if
///    all of them were lost.
/// 3. PRESERVED where the arm is non-inferior at `margin`. With many questions a drop can be significant and
///    within the margin; the margin was fixed beforehand as what does not matter, so it has the last word, and
///    p stands beside it.
/// 4. DEGRADED where the arm is worse and the drop significant.
/// 5. INCONCLUSIVE otherwise.
///
/// Retention has a bootstrap interval over questions, the same for the same `seed` and `what`. Where the arm
/// has all questions right or all wrong, resamples know nothing of its error, and Wilson's interval of the arm
/// is added.
pub fn judge(what: &str, outcomes: &[Outcome], margin: f64, seed: u64) -> Judgement {
    let paired = Paired::new(outcomes.iter().map(|o| (o.reference, o.arm, o.same)));
    let every: Vec<usize> = (0..outcomes.len()).collect();
    let [_, _, chance] = means(outcomes, &every);
    let reference = paired.reference();
    let retention =
        (reference.low > chance).then(|| retention(what, outcomes, &paired, chance, seed)).flatten();
    let (p, difference) = (paired.mcnemar(), paired.difference());
    let worse = p < 0.05 && difference.value < 0.0;
    let verdict = if reference.low <= chance || outcomes.is_empty() {
        Verdict::Inconclusive
    } else if worse && retention.is_some_and(|r| r.high < 0.5) {
        Verdict::Catastrophic
    } else if paired.non_inferior(margin) {
        Verdict::Preserved
    } else if worse {
        Verdict::Degraded
    } else {
        Verdict::Inconclusive
    };
    Judgement {
        what: what.to_owned(),
        verdict,
        n: paired.n(),
        reference,
        arm: paired.arm(),
        chance,
        difference,
        lost: paired.lost,
        won: paired.won,
        changed: paired.changed,
        p,
        retention,
        margin,
        lower_bound: paired.lower_bound(),
        smallest_visible: paired.smallest_visible(),
    }
}

/// Shares of right answers of the reference and of the arm, and of right guesses, among some questions. A chance
/// that is no probability counts as the nearest that is, NaN as 0.
fn means(outcomes: &[Outcome], indices: &[usize]) -> [f64; 3] {
    let mut sums = [0.0; 3];
    for outcome in indices.iter().map(|&i| &outcomes[i]) {
        sums[0] += f64::from(u8::from(outcome.reference));
        sums[1] += f64::from(u8::from(outcome.arm));
        sums[2] += if outcome.chance.is_nan() { 0.0 } else { outcome.chance.clamp(0.0, 1.0) };
    }
    sums.map(|sum| sum / indices.len().max(1) as f64)
}

fn retention(what: &str, outcomes: &[Outcome], paired: &Paired, chance: f64, seed: u64) -> Option<Estimate> {
    let statistic = |indices: &[usize]| {
        let [reference, arm, chance] = means(outcomes, indices);
        (reference > chance).then(|| (arm - chance) / (reference - chance))
    };
    let mut random = Random::new(seed, &["retention", what]);
    let mut interval = bootstrap(outcomes.len(), RESAMPLES, &mut random, statistic)?;
    let right = paired.both + paired.won;
    if right == 0 || right == paired.n() {
        let (arm, beyond) = (wilson(right, paired.n()), paired.reference().value - chance);
        interval.low = interval.low.min((arm.low - chance) / beyond);
        interval.high = interval.high.max((arm.high - chance) / beyond);
    }
    Some(interval)
}

/// One sentence to quote: the verdict, the difference in points with its 95% interval, the number of questions,
/// the margin, and the smallest drop that would have been seen, if any.
pub fn sentence(judgement: &Judgement, arm: &str, reference: &str) -> String {
    let j = judgement;
    let what = if j.what == "overall" { "reasoning" } else { &j.what };
    let claim = match j.verdict {
        Verdict::Preserved => format!("{arm} PRESERVED {what}"),
        Verdict::Degraded => format!("{arm} DEGRADED {what}"),
        Verdict::Catastrophic => format!("{arm} was CATASTROPHIC for {what}"),
        Verdict::Inconclusive => format!("{arm} is INCONCLUSIVE on {what}"),
    };
    if j.n == 0 {
        return format!("{claim}: there were no questions.");
    }
    let mut notes = vec![format!("margin {} points", plain(j.margin))];
    if j.reference.low <= j.chance {
        notes.push(format!("{reference} itself is not above chance, {}%", plain(j.chance)));
    } else if let (Verdict::Catastrophic, Some(r)) = (j.verdict, j.retention) {
        notes.push(format!(
            "{}% of what {reference} has beyond chance is left, at most {}%",
            plain(r.value),
            plain(r.high)
        ));
    }
    notes.push(match j.smallest_visible {
        Some(drop) => format!("a drop of {:.1} points would have been seen", 100.0 * drop),
        None => "no drop could have been seen".to_owned(),
    });
    format!(
        "{claim}: {:.1}% right against {reference}'s {:.1}% on {} question{} ({} points, 95% interval {} to {}; {}).",
        100.0 * j.arm.value,
        100.0 * j.reference.value,
        j.n,
        if j.n == 1 { "" } else { "s" },
        points(j.difference.value),
        points(j.difference.low),
        points(j.difference.high),
        notes.join("; "),
    )
}

/// A share in points with its sign, as in −0.6.
fn points(share: f64) -> String {
    let tenths = (1000.0 * share).round();
    let sign = if tenths < 0.0 {
        "−"
    } else if tenths > 0.0 {
        "+"
    } else {
        ""
    };
    format!("{sign}{:.1}", tenths.abs() / 10.0)
}

/// A share in hundredths, to a tenth, without a zero at the end: 3, 2.5, −1.
fn plain(share: f64) -> String {
    let tenths = (1000.0 * share).round() / 10.0 + 0.0;
    format!("{}{}", if tenths < 0.0 { "−" } else { "" }, tenths.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Questions by kind: both right, lost, won, both wrong.
    fn outcomes(both: usize, lost: usize, won: usize, neither: usize, chance: f64) -> Vec<Outcome> {
        [(both, true, true), (lost, true, false), (won, false, true), (neither, false, false)]
            .into_iter()
            .flat_map(|(n, reference, arm)| {
                vec![Outcome { reference, arm, same: reference == arm, chance }; n]
            })
            .collect()
    }

    fn verdict(questions: &[Outcome]) -> Verdict {
        judge("overall", questions, 0.03, 7).verdict
    }

    #[test]
    fn each_verdict_is_given() {
        assert_eq!(verdict(&outcomes(300, 3, 3, 22, 0.1)), Verdict::Preserved);
        assert_eq!(verdict(&outcomes(240, 60, 5, 23, 0.1)), Verdict::Degraded);
        assert_eq!(verdict(&outcomes(30, 270, 3, 25, 0.1)), Verdict::Catastrophic);
        assert_eq!(verdict(&outcomes(25, 3, 2, 10, 0.1)), Verdict::Inconclusive);
    }

    #[test]
    fn nothing_can_be_lost_where_nothing_was() {
        for questions in [outcomes(20, 10, 0, 70, 0.25), outcomes(0, 0, 0, 300, 0.0), Vec::new()] {
            let judgement = judge("overall", &questions, 0.5, 7);
            assert_eq!((judgement.verdict, judgement.retention), (Verdict::Inconclusive, None));
        }
    }

    /// 15 of 4000 lost and none won is significant, and far within 3 points.
    #[test]
    fn the_margin_outranks_significance() {
        let judgement = judge("overall", &outcomes(3900, 15, 0, 85, 0.0), 0.03, 7);
        assert!(judgement.p < 0.001, "{judgement:?}");
        assert_eq!(judgement.verdict, Verdict::Preserved);
    }

    /// A reference that is little above chance, and an arm at chance: all that there was is lost, though the
    /// drop is within the margin.
    #[test]
    fn a_catastrophe_outranks_the_margin() {
        let judgement = judge("overall", &outcomes(3960, 240, 60, 3740, 0.5), 0.05, 7);
        assert!(judgement.lower_bound > -0.05, "{judgement:?}");
        assert_eq!(judgement.verdict, Verdict::Catastrophic);
    }

    #[test]
    fn few_questions_are_no_catastrophe() {
        assert_eq!(verdict(&outcomes(0, 3, 0, 0, 0.0)), Verdict::Inconclusive);
        assert_eq!(verdict(&outcomes(0, 5, 0, 1, 0.0)), Verdict::Inconclusive);
        assert_eq!(verdict(&outcomes(0, 12, 0, 0, 0.0)), Verdict::Catastrophic);
    }

    /// Less than half is left, but half cannot be ruled out.
    #[test]
    fn a_catastrophe_must_be_sure() {
        let judgement = judge("overall", &outcomes(42, 48, 0, 10, 0.0), 0.03, 7);
        let retention = judgement.retention.unwrap();
        assert!(retention.value < 0.5 && retention.high > 0.5, "{retention:?}");
        assert_eq!(judgement.verdict, Verdict::Degraded);
    }

    /// 12 wrong answers of 12 leave up to what Wilson's interval leaves.
    #[test]
    fn no_right_answers_prove_no_certainty() {
        let retention = judge("overall", &outcomes(0, 12, 0, 0, 0.0), 0.03, 7).retention.unwrap();
        assert_eq!((retention.value, retention.high), (0.0, wilson(0, 12).high));
    }

    #[test]
    fn retention_is_what_is_left_beyond_chance() {
        // reference 90%, arm 50%, chance 10%: half
        let judgement = judge("sums", &outcomes(480, 420, 20, 80, 0.1), 0.03, 7);
        let retention = judgement.retention.unwrap();
        assert!((retention.value - 0.5).abs() < 1e-12);
        // delta method: the residuals arm − R·reference have mean square 480/4 + 420/4 + 20 of 1000 less their mean²
        let error = ((0.48 * 0.25 + 0.42 * 0.25 + 0.02 - 0.05f64.powi(2)) / 1000.0).sqrt() / 0.8;
        assert!(
            ((retention.high - retention.low) / (2.0 * 1.96 * error) - 1.0).abs() < 0.1,
            "{retention:?} {error}"
        );
        assert_eq!(judgement, judge("sums", &outcomes(480, 420, 20, 80, 0.1), 0.03, 7));
    }

    /// An arm of no loss keeps a retention of 1, and odd chances do no harm.
    #[test]
    fn odd_chances_are_probabilities() {
        let mut questions = outcomes(90, 0, 0, 10, -3.0);
        questions[0].chance = f64::NAN;
        let judgement = judge("overall", &questions, 0.03, 7);
        assert_eq!((judgement.chance, judgement.retention.unwrap().value), (0.0, 1.0));
        assert_eq!((judgement.lost, judgement.won, judgement.changed, judgement.n), (0, 0, 0, 100));
    }

    #[test]
    fn a_sentence_says_it_all() {
        let mut judgement = judge("overall", &outcomes(317, 4, 2, 5, 0.1), 0.03, 7);
        assert_eq!(
            sentence(&judgement, "q4:32", "f16"),
            "q4:32 PRESERVED reasoning: 97.3% right against f16's 97.9% on 328 questions (−0.6 points, 95% interval \
             −2.3 to +1.1; margin 3 points; a drop of 2.4 points would have been seen)."
        );
        judgement = judge("sums", &outcomes(30, 270, 3, 25, 0.1), 0.025, 7);
        let text = sentence(&judgement, "q2:32", "f16");
        assert!(
            text.starts_with("q2:32 was CATASTROPHIC for sums: 10.1% right against f16's 91.5%"),
            "{text}"
        );
        assert!(
            text.contains("; margin 2.5 points; 0.1% of what f16 has beyond chance is left, at most "),
            "{text}"
        );
        judgement = judge("sums", &outcomes(0, 0, 0, 1, 0.5), 0.03, 7);
        assert_eq!(
            sentence(&judgement, "q4", "f16"),
            "q4 is INCONCLUSIVE on sums: 0.0% right against f16's 0.0% on 1 question (0.0 points, 95% interval −97.5 \
             to +97.5; margin 3 points; f16 itself is not above chance, 50%; no drop could have been seen)."
        );
        judgement = judge("sums", &[], 0.03, 7);
        assert_eq!(sentence(&judgement, "q4", "f16"), "q4 is INCONCLUSIVE on sums: there were no questions.");
    }
}
