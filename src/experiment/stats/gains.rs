//! What thinking gains, and whether it gains less in an arm.

use super::super::random::Random;
use super::{Estimate, mean_interval};

/// Whether a question was answered rightly, with thought and without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thinking {
    /// Reference, with thought.
    pub reference_thought: bool,
    /// Reference, without.
    pub reference_direct: bool,
    /// Arm, with thought.
    pub arm_thought: bool,
    /// Arm, without.
    pub arm_direct: bool,
}

/// Accuracy with thought less accuracy without, as shares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gains {
    /// Of the reference.
    pub reference: Estimate,
    /// Of the arm.
    pub arm: Estimate,
    /// Of the arm less that of the reference: below 0, thinking helps the arm less.
    pub interaction: Estimate,
}

/// Gains of thinking and their difference, paired by question: the difference of differences, with intervals
/// by bootstrap over questions. None for fewer than two questions.
pub fn gains(questions: &[Thinking], random: &mut Random) -> Option<Gains> {
    let gain = |thought: bool, direct: bool| f64::from(u8::from(thought)) - f64::from(u8::from(direct));
    let reference = |q: &Thinking| gain(q.reference_thought, q.reference_direct);
    let arm = |q: &Thinking| gain(q.arm_thought, q.arm_direct);
    let mut estimate = |figure: &dyn Fn(&Thinking) -> f64, most: f64| {
        let values: Vec<f64> = questions.iter().map(figure).collect();
        mean_interval(&values, random).map(|interval| unseen(interval, values.len(), most))
    };
    Some(Gains {
        reference: estimate(&reference, 1.0)?,
        arm: estimate(&arm, 1.0)?,
        interaction: estimate(&|q| arm(q) - reference(q), 2.0)?,
    })
}

/// Questions that all agree make a bootstrap interval without width, however few they are. Then up to
/// 1 − 0.025^(1/n) of all questions may be unlike them (the exact bound behind the rule of three), by as much
/// as figures from −`most` to `most` allow.
fn unseen(interval: Estimate, n: usize, most: f64) -> Estimate {
    if interval.low < interval.high {
        return interval;
    }
    let share = 1.0 - 0.025f64.powf(1.0 / n as f64);
    let value = interval.value;
    Estimate { value, low: value - share * (value + most), high: value + share * (most - value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(bits: u8) -> Thinking {
        let [reference_thought, reference_direct, arm_thought, arm_direct] =
            [8, 4, 2, 1].map(|bit| bits & bit != 0);
        Thinking { reference_thought, reference_direct, arm_thought, arm_direct }
    }

    #[test]
    fn gains_are_differences_of_shares() {
        // of 4: the reference gains 3, the arm 2 and loses 1
        let questions = [0b1010, 0b1010, 0b1001, 0b0000].map(question);
        let gains = gains(&questions, &mut Random::new(1, &["gains"])).unwrap();
        assert_eq!((gains.reference.value, gains.arm.value, gains.interaction.value), (0.75, 0.25, -0.5));
        assert!(super::gains(&questions[..1], &mut Random::new(1, &[])).is_none());
    }

    #[test]
    fn questions_that_agree_prove_no_certainty() {
        let questions = [question(0b1010); 20];
        let gains = gains(&questions, &mut Random::new(1, &["gains"])).unwrap();
        assert_eq!((gains.arm.value, gains.arm.high, gains.interaction.value), (1.0, 1.0, 0.0));
        // 0.025^(1/20) = 0.8316
        assert!((gains.arm.low - (1.0 - 2.0 * 0.1684)).abs() < 1e-3, "{:?}", gains.arm);
        assert!((gains.interaction.high - 2.0 * 0.1684).abs() < 1e-3, "{:?}", gains.interaction);
    }

    /// An arm that thinking helps less, by 20 points: the interval holds the truth and excludes 0.
    #[test]
    fn a_lesser_gain_is_found() {
        let mut random = Random::new(4, &["gains"]);
        let questions: Vec<Thinking> = (0..1500)
            .map(|_| Thinking {
                reference_thought: random.unit() < 0.9,
                reference_direct: random.unit() < 0.4,
                arm_thought: random.unit() < 0.6,
                arm_direct: random.unit() < 0.3,
            })
            .collect();
        let interaction = gains(&questions, &mut random).unwrap().interaction;
        assert!(
            interaction.low < -0.2 && -0.2 < interaction.high && interaction.high < 0.0,
            "{interaction:?}"
        );
    }
}
