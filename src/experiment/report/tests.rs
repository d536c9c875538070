//! Reports of good findings and of impossible ones.

use super::fixture::{self, HOSTILE, about};
use super::table::WIDTH;
use super::text::NONE;
use super::{html, sweep_html, sweep_table, table};
use crate::experiment::results::{Results, Sweep};
use crate::experiment::stats::Verdict;
use serde_json::{Value, json};

/// Every tag is closed, in order, and every attribute quoted.
fn well_formed(page: &str) {
    let mut open: Vec<&str> = vec![];
    let body = page.split_once("<html").map(|(_, rest)| format!("<html{rest}")).expect("no page");
    let mut rest = body.as_str();
    while let Some(at) = rest.find('<') {
        assert!(!rest[..at].contains('\0'), "a control character");
        let end = at + rest[at..].find('>').expect("an open tag");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if tag.starts_with("style") {
            rest = &rest[rest.find("</style>").expect("open style")..];
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "<{tag}>");
        let name = tag.split([' ', '/']).next().unwrap_or_default();
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed), "</{closed}> near {:?}", rest.get(..80));
        } else if !tag.ends_with('/') && !["meta", "br"].contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

fn harmless(page: &str) {
    well_formed(page);
    let low = page.to_lowercase();
    for bad in [
        "<script", "<img", "<link", "src=", "href=", "url(", "\u{202e}", "\x1b", "\0", "nan", "inf\"",
        "infinity",
    ] {
        // Hostile words may stand in the page as text, never as markup.
        let allowed = low.matches(bad).count() == low.matches(&format!("&lt;img {bad}x")).count();
        assert!(allowed, "the page holds {bad:?}");
    }
    assert!(page.contains("default-src 'none'"));
    assert!(page.matches("<svg role=\"img\"").count() <= page.matches("<title>").count());
}

fn narrow(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= WIDTH, "{} columns: {line}", line.chars().count());
        assert!(!line.contains('\x1b') && !line.ends_with(' '), "{line:?}");
    }
}

fn check(results: &Results) {
    harmless(&html(results));
    narrow(&table(results, false));
    let _ = table(results, true);
}

fn check_sweep(sweep: &Sweep) {
    harmless(&sweep_html(sweep));
    narrow(&sweep_table(sweep, false));
    let _ = sweep_table(sweep, true);
}

/// Changes every leaf of plain data.
fn each(value: &mut Value, change: &impl Fn(&mut Value)) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(|v| each(v, change)),
        Value::Object(all) => all.iter_mut().for_each(|(_, v)| each(v, change)),
        leaf => change(leaf),
    }
}

fn changed<T: serde::Serialize + serde::de::DeserializeOwned>(of: &T, change: impl Fn(&mut Value)) -> T {
    let mut value = serde_json::to_value(of).expect("plain data");
    each(&mut value, &change);
    serde_json::from_value(value).expect("still of its form")
}

fn empty() -> Results {
    let mut r = fixture::results();
    (r.arms, r.cells, r.comparisons, r.limits, r.plan.tasks) = (vec![], vec![], vec![], vec![], vec![]);
    r
}

#[test]
fn plausible_findings() {
    let results = fixture::results();
    check(&results);
    check_sweep(&fixture::sweep());
    let page = html(&results);
    for c in results.comparisons.iter().filter(|c| c.arm.starts_with("q4")) {
        assert!(page.contains(&c.sentence));
    }
    assert!(page.contains("<mark>2"), "where texts part is marked");
    assert!(
        page.contains("Where q4:32's texts part, the reference's")
            && !page.contains("parts from the reference's")
    );
    let mut same = results.clone();
    same.comparisons.iter_mut().for_each(|c| c.free_running.margin_at_divergence.n = 0);
    assert!(html(&same).contains("No text of q4:32 parts from the reference's."));
    let text = table(&results, false);
    assert!(text.contains("✓ f16 again: 0 flips, KL 0") && text.contains("✓ broken: CATASTROPHIC"), "{text}");
    assert!(table(&results, true).contains("\x1b[1;31mCATASTROPHIC\x1b[0m"));
}

#[test]
fn a_failed_control_is_told() {
    let mut results = fixture::results();
    results.comparisons[5].overall.verdict = Verdict::Preserved;
    assert!(table(&results, false).contains("✗ broken"));
    assert!(table(&results, false).contains("cannot be relied on"));
    assert!(html(&results).contains("cannot be relied on"));
}

#[test]
fn a_drop_that_nothing_shows_is_a_dash() {
    let mut results = fixture::results();
    let of = |r: &Results| (table(r, false).matches(NONE).count(), html(r).matches(NONE).count());
    let before = of(&results);
    results.comparisons[0].tasks[0].smallest_visible = None;
    let after = of(&results);
    assert_eq!((after.0 - before.0, after.1 - before.1), (1, 1));
    assert!(serde_json::to_string(&results).unwrap().contains("\"smallest_visible\":null"));
    check(&changed(&results, |_| {}));
}

/// A text is predicted, and nothing is asked: nothing is right, lost or judged.
#[test]
fn without_questions_there_is_no_verdict() {
    let mut results = fixture::results();
    (results.cells, results.plan.tasks, results.plan.questions) = (vec![], vec![], 0);
    for c in &mut results.comparisons {
        (c.overall, c.tasks, c.direct) = (fixture::judgement("overall", 0, 0.0), vec![], vec![]);
        (c.overall.verdict, c.overall.lost) = (Verdict::Inconclusive, 0);
        (c.flips, c.crossover, c.information) = (vec![], None, None);
        (c.sentence, c.free_running) = (format!("mean KL of {}", c.arm), Default::default());
    }
    check(&results);
    let shown = table(&results, false);
    let head: Vec<&str> = shown.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(head, ["arm", "states", "bits", "error", "KL", "top"]);
    for text in [shown, html(&results)] {
        let told = text.split_once("</style>").map_or(text.as_str(), |(_, told)| told);
        for word in
            ["INCONCLUSIVE", "PRESERVED", "Right,", "Δ points", "Verdict", "ost/won", "flips", "argin"]
        {
            assert!(!told.contains(word), "{word}");
        }
        assert!(told.contains("mean KL of q4:32") && told.contains("broken"));
    }
}

#[test]
fn empty_findings() {
    check(&empty());
    let mut results = fixture::results();
    results.comparisons.clear();
    check(&results);
    let mut results = fixture::results();
    for c in &mut results.comparisons {
        (c.tasks, c.direct, c.attention, c.flips) = (vec![], vec![], vec![], vec![]);
        (c.crossover, c.information) = (None, None);
        (c.teacher_forced, c.free_running) = Default::default();
    }
    check(&results);
    let mut results = fixture::results();
    results.arms.truncate(1);
    check(&results);

    let mut sweep = fixture::sweep();
    sweep.knees.clear();
    sweep.law = None;
    check_sweep(&sweep);
    sweep.points.clear();
    sweep.models.clear();
    sweep.sensitivity.clear();
    check_sweep(&sweep);
}

#[test]
fn zeros_and_giants() {
    for n in [0u64, 1, 1 << 40] {
        let set = |v: &mut Value| {
            if v.is_u64() {
                *v = json!(n);
            }
        };
        check(&changed(&fixture::results(), set));
        check_sweep(&changed(&fixture::sweep(), set));
    }
    for x in [0.0, -1.0, 1e300, -1e300, 1e-300] {
        let set = |v: &mut Value| {
            if v.is_f64() {
                *v = json!(x);
            }
        };
        check(&changed(&fixture::results(), set));
        check_sweep(&changed(&fixture::sweep(), set));
    }
}

#[test]
fn figures_that_are_none() {
    for x in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let e = about(x, x);
        let mut results = fixture::results();
        results.seconds = x;
        results.plan.margin = x;
        for a in &mut results.arms {
            (a.bits, a.relative_error, a.distinct) = (x, x, x);
        }
        for c in &mut results.cells {
            (c.accuracy, c.chance) = (e, x);
        }
        for c in &mut results.comparisons {
            for j in std::iter::once(&mut c.overall).chain(&mut c.tasks).chain(&mut c.direct) {
                (j.difference, j.arm, j.reference, j.p, j.margin) = (e, e, e, x, x);
                (j.retention, j.smallest_visible) = (Some(e), Some(x));
            }
            (c.teacher_forced.kl.mean, c.teacher_forced.same_top) = (x, x);
            c.teacher_forced.kl_histogram.edges.fill(x);
            c.free_running.survival.fill((3, x));
            c.free_running.interaction = Some(e);
            if let Some(i) = &mut c.information {
                i.answer_given_thought = [[e; 2]; 2];
            }
            if let Some(cross) = &mut c.crossover {
                cross.accuracy = [[e; 2]; 2];
            }
            c.attention.iter_mut().skip(3).for_each(|d| d.distance = x);
        }
        check(&results);
        let mut sweep = fixture::sweep();
        for p in sweep.points.iter_mut().skip(4) {
            (p.kl, p.bits, p.accuracy) = (x, x, e);
        }
        for k in &mut sweep.knees {
            (k.states, k.below_16) = (Some(e), x);
        }
        sweep.law.as_mut().expect("a law").gamma = e;
        sweep.sensitivity.iter_mut().for_each(|s| s.only = x);
        check_sweep(&sweep);
    }
}

#[test]
fn hostile_texts() {
    let giant = format!("{HOSTILE}{}", "é".repeat(100_000));
    for text in [HOSTILE, "", "\n", "é", giant.as_str()] {
        let set = |v: &mut Value| {
            // Verdicts are no texts.
            let word = v.as_str().is_some_and(|s| s.chars().all(|c| c.is_ascii_uppercase()));
            if v.is_string() && !word {
                *v = json!(text);
            }
        };
        let results = changed(&fixture::results(), set);
        check(&results);
        assert!(html(&results).len() < 3_000_000, "clipped");
        let mut one = fixture::results();
        // Texts alone, so that roles and tasks still lead to every part of the page.
        for c in &mut one.comparisons {
            c.sentence = text.into();
            for (i, f) in c.flips.iter_mut().enumerate() {
                (f.prompt, f.reference, f.arm, f.target) =
                    (text.into(), text.into(), text.into(), text.into());
                // In the midst of a letter, or far beyond the end.
                f.common = [0, 1, HOSTILE.len() + 1, usize::MAX][i % 4];
            }
        }
        check(&one);
        check_sweep(&changed(&fixture::sweep(), set));
    }
}

#[test]
fn many_arms_with_long_names() {
    let mut results = fixture::results();
    for i in 0..5 {
        let (mut arm, mut c) = (results.arms[1].clone(), results.comparisons[0].clone());
        arm.name = format!("q4:32 with an uncommonly long name, number {i}, that nobody would type");
        c.arm = arm.name.clone();
        (c.overall.lost, c.overall.won) = (123_456, 98_765);
        c.overall.difference = about(-0.123, 0.0456);
        c.overall.verdict = Verdict::Inconclusive;
        results.arms.push(arm);
        results.comparisons.push(c);
    }
    assert_eq!(results.arms.len(), 12);
    check(&results);
}
