//! The page of `infer sweep`.

use super::html::{device, facts, heading, sentences, skeleton, table};
use super::sweep_figures as figures;
use super::text::{NONE, count, escape, fixed, interval, list, number, percent, short, size};
use crate::experiment::results::{Knee, Law, Sweep, SweepPoint};

/// The states that the question is about.
pub(super) const SIXTEEN: usize = 16;

/// A knee counts as below 16 states where so large a share of resamples says so, and as above where so small a one.
const SURE: f64 = 0.95;

/// The granularities in the order in which they were measured.
pub(super) fn granularities(sweep: &Sweep) -> Vec<&str> {
    let mut out: Vec<&str> = vec![];
    for p in sweep.points.iter().filter(|p| p.states > 0) {
        if !out.contains(&p.granularity.as_str()) {
            out.push(&p.granularity);
        }
    }
    out
}

/// The models by name, smallest first; those that only points name come last.
pub(super) fn models(sweep: &Sweep) -> Vec<&str> {
    let mut out: Vec<&str> = vec![];
    for name in sweep.models.iter().map(|m| &m.name).chain(sweep.points.iter().map(|p| &p.model)) {
        if !out.contains(&name.as_str()) {
            out.push(name);
        }
    }
    out
}

/// A granularity in words.
pub(super) fn granularity(g: &str) -> String {
    match g {
        "tensor" | "channel" => format!("one scale a {g}"),
        g if g.parse::<u32>().is_ok() => format!("groups of {g}"),
        g => short(g, 40),
    }
}

/// The point of a model and granularity with so many states.
pub(super) fn point<'a>(
    sweep: &'a Sweep,
    model: &str,
    granularity: &str,
    states: usize,
) -> Option<&'a SweepPoint> {
    sweep
        .points
        .iter()
        .find(|p| p.model == model && p.states == states && (states == 0 || p.granularity == granularity))
}

/// What the knees say, in a sentence. The hypothesis under test is that they lie below 16 states.
pub(super) fn sentence(sweep: &Sweep) -> String {
    let found: Vec<&Knee> = sweep.knees.iter().filter(|k| k.states.is_some()).collect();
    if found.is_empty() {
        return "No knee was found: nowhere does damage set in at a number of states.".into();
    }
    let below = found.iter().filter(|k| k.below_16 >= SURE).count();
    let above = found.iter().filter(|k| k.below_16 <= 1.0 - SURE).count();
    let rest = found.len() - below - above;
    let lie = |n: usize, where_: &str| {
        (n > 0).then(|| format!("{n} {} {where_}", if n == 1 { "is" } else { "are" }))
    };
    let parts = [lie(below, "below 16 states"), lie(above, "above 16"), lie(rest, "too near to 16 to tell")];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let knees = if found.len() == 1 { "knee" } else { "knees" };
    format!("Of {} {knees}, where damage sets in, {}.", found.len(), list(&parts))
}

/// The law with its figures, in words.
pub(super) fn law_told(law: &Law) -> String {
    format!(
        "damage = C · N^−a · e^(−bits/γ) with a = {}, γ = {} bits, ln C = {}; R² = {}",
        interval(&law.a, number),
        interval(&law.gamma, number),
        number(law.ln_c),
        fixed(law.r_squared, 3)
    )
}

/// The page.
pub(super) fn page(sweep: &Sweep) -> String {
    let body = [
        top(sweep),
        knees(sweep),
        run(sweep),
        figures::knees(sweep),
        figures::accuracy(sweep),
        law(sweep),
        figures::sensitivity(sweep),
        method(sweep),
    ];
    skeleton("16 states: where damage begins", &sweep.version, &body.concat())
}

fn top(sweep: &Sweep) -> String {
    format!(
        "<p class=\"kicker\">How many states does a weight need?</p>\n<h1>{}</h1>\n",
        escape(&sentence(sweep))
    )
}

fn knees(sweep: &Sweep) -> String {
    let row = |k: &Knee| {
        let at = |states| point(sweep, &k.model, &k.granularity, states);
        let kl = |states| at(states).map_or(NONE.into(), |p| number(p.kl));
        let right = |states| at(states).map_or(NONE.into(), |p| percent(p.accuracy.value));
        let cells = vec![
            escape(&short(&k.model, 60)),
            escape(&granularity(&k.granularity)),
            k.states.as_ref().map_or("none".into(), |e| interval(e, |v| fixed(v, 1))),
            percent(k.below_16),
            kl(SIXTEEN),
            right(SIXTEEN),
            right(0),
        ];
        ("", cells)
    };
    let rows: Vec<_> = sweep.knees.iter().map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let head = [
        "Model",
        "Granularity",
        "Knee, states",
        "Share below 16",
        "KL at 16",
        "Right at 16",
        "Right with floats",
    ];
    table(
        2,
        &head,
        &rows,
        "The knee is the bend of a line broken once, fitted over log₂ of the states; brackets hold its 95% interval, and the share is of resamples.",
    )
}

fn run(sweep: &Sweep) -> String {
    let models = sweep.models.iter().map(|m| {
        format!(
            "{} ({} parameters, <code>{}</code>)",
            escape(&m.name),
            size(m.parameters),
            escape(&short(&m.weights_hash, 17))
        )
    });
    "<h3>What was run</h3>\n".to_string()
        + &facts(&[
            ("Models", models.collect::<Vec<_>>().join("<br>")),
            ("Device", device(&sweep.device)),
            ("Begun", escape(&sweep.date)),
            ("Plan", format!("<code>{}</code>", escape(&sweep.plan_hash))),
            ("Questions", count(sweep.questions as u64)),
            ("Points", count(sweep.points.len() as u64)),
        ])
}

fn law(sweep: &Sweep) -> String {
    let Some(law) = &sweep.law else { return String::new() };
    let rows: Vec<_> = law
        .held_out
        .iter()
        .map(|&(n, measured, predicted)| {
            ("", vec![size(n), fixed(measured, 2), fixed(predicted, 2), number((predicted - measured).exp())])
        })
        .collect();
    let caption = "Each size held out in turn and foretold from the others: means of ln damage. The last column is how \
                   many times too large the forecast is.";
    let held = if rows.is_empty() {
        String::new()
    } else {
        table(1, &["Size held out", "Measured", "Foretold", "Ratio"], &rows, caption)
    };
    heading("Damage by size and bits")
        + &format!("<p>{} ({}).</p>\n", escape(&law_told(law)), escape(&law.damage))
        + &figures::law(sweep, law)
        + &held
}

fn method(sweep: &Sweep) -> String {
    heading("Method and limits")
        + "<ul><li>Every matrix is rounded to so many states, with one scale for each tensor, channel or \
           group, and nothing else changes. Damage is the mean KL divergence from the reference's next-token \
           distribution on worked solutions.</li>\
           <li>Accuracy is the share of whole worked replies that would have been written token by token. It is \
           stricter than a right answer.</li>\
           <li>The claim under test is that 16 states suffice, so that the knee lies below 16. A knee above it, with \
           its interval, refutes the claim for that model and granularity.</li></ul>\n"
        + &if sweep.limits.is_empty() {
            String::new()
        } else {
            format!("<h3>Limits</h3>\n{}", sentences(&sweep.limits))
        }
}
