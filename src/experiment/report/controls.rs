//! Whether the controls came out as they must. An experiment whose controls fail has shown nothing.

use super::Arm;
use super::text::{number, percent, verdict};
use crate::experiment::stats::Verdict;

/// What a control was to show, and whether it did.
pub(super) struct Control {
    /// The arm.
    pub arm: String,
    /// What came of it, in words.
    pub told: String,
    /// Whether it came out as it should; none where it only gives a scale.
    pub held: Option<bool>,
}

/// States from which rounding should leave next to nothing to see.
const FINE: usize = 128;

/// The greatest mean KL, in nats, that counts as next to nothing; 8 bits in llama.cpp have 0.0014.
const FAINT: f64 = 0.01;

/// All controls in their order.
pub(super) fn controls(arms: &[Arm]) -> Vec<Control> {
    arms.iter().filter(|a| a.info.role == "control").filter_map(|a| control(a, arms)).collect()
}

fn control(arm: &Arm, arms: &[Arm]) -> Option<Control> {
    let comparison = arm.comparison?;
    let (overall, kl) = (&comparison.overall, comparison.teacher_forced.kl.mean);
    let name = arm.name().to_lowercase();
    let flips = overall.lost + overall.won;
    let judged = |held| (overall.n > 0).then_some(held);
    // Without questions there is no verdict, and KL alone gives the scale.
    let word = if overall.n > 0 { format!("{}, ", verdict(overall.verdict)) } else { String::new() };
    let (told, held) = if overall.n > 0 && (name.contains("broken") || name.contains("shuffle")) {
        (format!("{word}must be CATASTROPHIC"), judged(overall.verdict == Verdict::Catastrophic))
    } else if name.contains("noise") {
        // The noise has the error of one of the asked arms; which one shows in the error.
        let error = |a: &Arm| a.info.relative_error.max(1e-12).ln();
        let apart = |a: &Arm| (error(a) - error(arm)).abs();
        let twin = arms.iter().filter(|a| a.asked).min_by(|a, b| apart(a).total_cmp(&apart(b)));
        let beside = twin.and_then(|t| Some((t.name(), t.comparison?.teacher_forced.kl.mean)));
        let beside = beside.map_or(String::new(), |(name, kl)| format!(", {name} has {}", number(kl)));
        (format!("{word}KL {}{beside}", number(kl)), None)
    } else if arm.info.relative_error == 0.0 && overall.n == 0 {
        (format!("KL {}, must be 0", number(kl)), None)
    } else if arm.info.relative_error == 0.0 {
        let held = flips + overall.changed == 0 && kl.abs() < 1e-9;
        (format!("{flips} flips, KL {}, must be 0 and 0", number(kl)), judged(held))
    } else if arm.info.states.is_some_and(|states| states >= FINE) {
        let told = format!(
            "{word}KL {}, same top token {}",
            number(kl),
            percent(comparison.teacher_forced.same_top)
        );
        (told, judged(overall.verdict == Verdict::Preserved && kl < FAINT))
    } else {
        (format!("{word}KL {}", number(kl)), None)
    };
    Some(Control { arm: arm.name().into(), told, held })
}
