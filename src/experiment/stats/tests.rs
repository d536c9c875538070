//! Against scipy and numpy: `tests/data/statistics.json`, made by `models/train/statistics.py`.

use super::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Facts {
    ln_gamma: Vec<(f64, f64)>,
    student_t: Vec<(usize, f64)>,
    binomial: Vec<(usize, usize, f64, f64)>,
    mcnemar: Vec<(usize, usize, f64)>,
    wilson: Vec<(usize, usize, f64, f64)>,
    summaries: Vec<SummaryFact>,
    paired: Vec<PairedFact>,
    hinges: Vec<HingeFact>,
    laws: Vec<LawFact>,
    step_errors: Vec<StepFact>,
    survivals: Vec<SurvivalFact>,
}

#[derive(Deserialize)]
struct SummaryFact {
    values: Vec<f64>,
    mean: f64,
    rms: f64,
    quantiles: [f64; 8],
}

#[derive(Deserialize)]
struct PairedFact {
    n: usize,
    lost: usize,
    won: usize,
    error: f64,
    difference: [f64; 3],
    lower_bound: f64,
    plain_lower_bound: f64,
}

#[derive(Deserialize)]
struct HingeFact {
    x: Vec<f64>,
    y: Vec<f64>,
    knee: f64,
    error: f64,
}

#[derive(Deserialize)]
struct LawFact {
    points: Vec<(u64, f64, f64)>,
    ln_c: f64,
    a: [f64; 3],
    gamma: [f64; 3],
    r_squared: f64,
    held_out: Vec<(u64, f64, f64)>,
}

#[derive(Deserialize)]
struct StepFact {
    cells: Vec<(usize, usize, usize)>,
    error: [f64; 3],
}

#[derive(Deserialize)]
struct SurvivalFact {
    texts: Vec<(Option<usize>, usize)>,
    falls: Vec<(usize, f64)>,
}

fn facts() -> Facts {
    serde_json::from_str(include_str!("../../../tests/data/statistics.json")).unwrap()
}

/// Holds two numbers equal to a part of the greater of 1 and the expected one.
#[track_caller]
fn close(found: f64, expected: f64, part: f64) {
    assert!((found - expected).abs() <= part * expected.abs().max(1.0), "{found} is not {expected}");
}

#[track_caller]
fn close_estimate(found: Estimate, expected: [f64; 3], part: f64) {
    close(found.value, expected[0], part);
    close(found.low, expected[1], part);
    close(found.high, expected[2], part);
}

#[test]
fn special_functions_are_scipys() {
    let facts = facts();
    facts.ln_gamma.iter().for_each(|&(x, y)| close(ln_gamma(x), y, 1e-13));
    facts.student_t.iter().for_each(|&(freedom, t)| close(student_t(freedom).unwrap(), t, 1e-10));
    assert!(facts.binomial.len() > 50);
    for (k, n, p, expected) in facts.binomial {
        let found = binomial_cdf(k, n, p);
        close(found, expected, 1e-11);
        // far tails too, down to where one term is not an f64 any more
        assert!(
            expected < 1e-290 || (found / expected - 1.0).abs() < 1e-9,
            "{k} {n} {p}: {found} {expected}"
        );
    }
}

#[test]
fn mcnemar_and_wilson_are_scipys() {
    let facts = facts();
    assert!(facts.mcnemar.len() > 100 && facts.wilson.len() > 30);
    for (lost, won, p) in facts.mcnemar {
        close(Paired { lost, won, ..Paired::default() }.mcnemar(), p, 1e-11);
    }
    for (right, n, low, high) in facts.wilson {
        close_estimate(wilson(right, n), [right as f64 / n as f64, low, high], 1e-7);
    }
}

#[test]
fn summaries_are_numpys() {
    for fact in facts().summaries {
        let mut values = fact.values.clone();
        let found = summarize(&mut values);
        assert_eq!(found.n, fact.values.len());
        close(found.mean, fact.mean, 1e-13);
        close(found.rms, fact.rms, 1e-13);
        let [min, inner @ .., max] = fact.quantiles;
        assert_eq!((found.min, found.max), (min, max));
        found.quantiles.iter().zip(inner).for_each(|(&found, expected)| close(found, expected, 1e-13));
    }
}

#[test]
fn paired_differences_are_numpys() {
    for fact in facts().paired {
        let both = fact.n - fact.lost - fact.won;
        let paired = Paired { both, lost: fact.lost, won: fact.won, ..Paired::default() };
        close(paired.standard_error(), fact.error, 1e-12);
        close_estimate(paired.difference(), fact.difference, 1e-12);
        close(paired.lower_bound(), fact.lower_bound, 1e-12);
        // the guard makes the definition stricter, never laxer, and hardly matters where flips are many
        assert!(paired.lower_bound() <= fact.plain_lower_bound + 1e-12 || paired.lower_bound() == -1.0);
        if fact.lost.min(fact.won) > 15 {
            close(paired.lower_bound(), fact.plain_lower_bound, 1e-3);
        }
        for margin in [0.01, 0.03, 0.1] {
            assert_eq!(paired.non_inferior(margin), fact.lower_bound > -margin, "{} {}", fact.n, fact.lost);
        }
    }
}

#[test]
fn knees_are_scipys() {
    for fact in facts().hinges {
        let points: Vec<(f64, f64)> = fact.x.into_iter().zip(fact.y).collect();
        let found = super::knee::hinge(&points).unwrap();
        // a general optimizer stops a little short of the least; ours may only be better
        assert!(found.error <= fact.error * (1.0 + 1e-9), "{} {}", found.error, fact.error);
        close(found.error, fact.error, 1e-6);
        close(found.knee, fact.knee, 1e-4);
    }
}

#[test]
fn laws_are_numpys() {
    for fact in facts().laws {
        let found = law(&fact.points).unwrap();
        close(found.ln_c, fact.ln_c, 1e-8);
        close_estimate(found.a, fact.a, 1e-8);
        close_estimate(found.gamma, fact.gamma, 1e-8);
        close(found.r_squared, fact.r_squared, 1e-10);
        assert_eq!(found.held_out.len(), fact.held_out.len());
        for (found, expected) in found.held_out.iter().zip(fact.held_out) {
            assert_eq!(found.0, expected.0);
            close(found.1, expected.1, 1e-10);
            close(found.2, expected.2, 1e-8);
        }
    }
}

#[test]
fn errors_a_step_are_scipys() {
    for fact in facts().step_errors {
        close_estimate(step_error(&fact.cells).unwrap(), fact.error, 1e-6);
    }
}

#[test]
fn survival_is_scipys() {
    for fact in facts().survivals {
        let longest = fact.texts.iter().map(|t| t.0.map_or(t.1, |at| at + 1)).max().unwrap();
        let mut expected = vec![(0, 1.0)];
        expected.extend(&fact.falls);
        expected.extend(expected.last().filter(|l| l.0 < longest).map(|l| (longest, l.1)));
        let found = survival(&fact.texts);
        assert_eq!(found.len(), expected.len(), "{found:?} {expected:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(found.0, expected.0);
            close(found.1, expected.1, 1e-12);
        }
    }
}
