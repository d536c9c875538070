//! The statistics of the experiment. Every formula names its source, and is checked against an outside
//! implementation (`tests/data/statistics.json`, made by `models/train/statistics.py` with scipy).

mod bootstrap;
mod gains;
mod judge;
mod knee;
mod law;
mod paired;
mod special;
mod steps;
mod summary;
#[cfg(test)]
mod tests;

pub use bootstrap::{RESAMPLES, bootstrap, mean_interval};
pub use gains::{Gains, Thinking, gains};
pub use judge::{Outcome, judge, sentence};
pub use knee::{knee, knee_interval};
pub use law::{DamageLaw, law};
pub use paired::{Paired, wilson};
pub use special::{binomial_cdf, ln_binomial, ln_gamma, student_t};
pub use steps::{step_error, survival};
pub use summary::{histogram, log_mean_exp, quantile, summarize};

use serde::{Deserialize, Serialize};

/// 97.5% quantile of the standard normal distribution: two-sided 95% intervals.
const Z_975: f64 = 1.959_964;
/// Its 95% quantile: one-sided 95% intervals.
const Z_95: f64 = 1.644_854;
/// Its 80% quantile: 80% power.
const Z_80: f64 = 0.841_621;

/// A value with the interval that holds it with 95% confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// What many numbers are like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many.
    pub n: usize,
    /// Their mean.
    pub mean: f64,
    /// Square root of the mean square.
    pub rms: f64,
    /// Least.
    pub min: f64,
    /// Quantiles: 1%, 5%, 50%, 95%, 99%, 99.9%.
    pub quantiles: [f64; 6],
    /// Greatest.
    pub max: f64,
}

/// What became of reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// No worse than the reference by the margin.
    Preserved,
    /// Worse, and more than half of what the reference has beyond guessing is left.
    Degraded,
    /// Less than half is left.
    Catastrophic,
    /// There were too few questions to tell.
    Inconclusive,
}

/// A verdict with the figures that it rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// What was judged: a task, or "overall".
    pub what: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Questions.
    pub n: usize,
    /// Share that the reference answers rightly.
    pub reference: Estimate,
    /// Share that the arm answers rightly.
    pub arm: Estimate,
    /// Share of right guesses.
    pub chance: f64,
    /// arm − reference, by the standard error of paired differences.
    pub difference: Estimate,
    /// Right became wrong.
    pub lost: usize,
    /// Wrong became right.
    pub won: usize,
    /// A wrong answer became another wrong one.
    pub changed: usize,
    /// Exact McNemar test, two-sided.
    pub p: f64,
    /// (arm − chance) / (reference − chance), none where the reference is at chance.
    pub retention: Option<Estimate>,
    /// Margin of non-inferiority.
    pub margin: f64,
    /// Lower end of the one-sided 95% interval of the difference; non-inferior if above −margin.
    pub lower_bound: f64,
    /// The smallest drop that so many questions show with 80% power; none where they show no drop at all.
    pub smallest_visible: Option<f64>,
}
