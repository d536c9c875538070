//! The plots of `infer sweep`.

use super::figures::rows;
use super::html::{figure, heading};
use super::svg::{Plot, Scale, Shape, Style, Unit, legend};
use super::sweep::{SIXTEEN, granularities, granularity, models};
use super::text::short;
use crate::experiment::results::{Law, Sensitivity, Sweep, SweepPoint};

const SMALL: (f64, f64) = (460.0, 310.0);
const MARGINS: [f64; 4] = [54.0, 14.0, 48.0, 42.0];

/// Points of one line, by states.
fn series<'a>(sweep: &'a Sweep, model: &str, granularity: &str) -> Vec<&'a SweepPoint> {
    let own = |p: &&SweepPoint| p.states > 0 && p.model == model && p.granularity == granularity;
    let mut out: Vec<_> = sweep.points.iter().filter(own).collect();
    out.sort_by_key(|p| p.states);
    out
}

fn states_scale(sweep: &Sweep) -> Scale {
    Scale::log2(sweep.points.iter().map(|p| p.states as f64).chain([2.0, 32.0]))
}

fn granularity_legend(sweep: &Sweep) -> String {
    let entries =
        granularities(sweep).into_iter().enumerate().map(|(i, g)| (Style::nth(i), granularity(g), true));
    legend(&entries.collect::<Vec<_>>())
}

/// Damage by states, with the knees beneath.
pub(super) fn knees(sweep: &Sweep) -> String {
    let kinds = granularities(sweep);
    let plot = |model: &str| -> Option<String> {
        let all = || sweep.points.iter().filter(|p| p.states > 0);
        all().find(|p| p.model == model)?;
        let y = Scale::log10(all().map(|p| p.kl));
        // A strip for each knee below the curves.
        let strip = 12.0 * kinds.len() as f64 + 8.0;
        let size = (SMALL.0, SMALL.1 + strip);
        let [left, right, top, bottom] = MARGINS;
        let title = format!("Damage by number of states, {}", short(model, 60));
        let mut plot = Plot::new(&title, size, [left, right, top, bottom + strip], states_scale(sweep), y);
        plot.text(2.0, 14.0, "start", "heading", model);
        plot.y_axis("mean KL, nats", 7);
        plot.upright_line(SIXTEEN as f64, "margin", "16");
        for (i, kind) in kinds.iter().enumerate() {
            let style = Style::nth(i);
            let own = series(sweep, model, kind);
            plot.line(&own.iter().map(|p| (p.states as f64, p.kl)).collect::<Vec<_>>(), 0.0, style);
            own.iter().for_each(|p| plot.dot(p.states as f64, p.kl, 0.0, style));
        }
        plot.lower(strip);
        for (i, kind) in kinds.iter().enumerate() {
            let knee = sweep.knees.iter().find(|k| k.model == model && k.granularity == *kind);
            let Some(knee) = knee.and_then(|k| k.states.as_ref()) else { continue };
            let y = size.1 - bottom - strip + 10.0 + 12.0 * i as f64;
            plot.strip(knee, y, Style::nth(i).shaped(Shape::Diamond));
        }
        plot.x_axis("states", 9, false);
        Some(plot.finish())
    };
    let plots: Vec<_> = models(sweep).into_iter().filter_map(plot).collect();
    if plots.is_empty() {
        return String::new();
    }
    let caption = "Damage against the number of states, both logarithmic, one plot a model, one line a granularity. \
                   Diamonds below mark each line's knee, where damage sets in, and bars its 95% interval; the dashed line \
                   marks 16 states. The claim is that diamonds lie left of it.";
    heading("Where damage begins") + &figure(&plots, &granularity_legend(sweep), caption)
}

/// Accuracy by states.
pub(super) fn accuracy(sweep: &Sweep) -> String {
    let kinds = granularities(sweep);
    let plot = |model: &str| -> Option<String> {
        sweep.points.iter().find(|p| p.model == model && p.states > 0)?;
        let title = format!("Accuracy by number of states, {}", short(model, 60));
        let y = Scale::fixed(0.0, 1.0, Unit::Percent);
        let mut plot = Plot::new(&title, SMALL, MARGINS, states_scale(sweep), y);
        plot.text(2.0, 14.0, "start", "heading", model);
        plot.y_axis("replies written as worked", 5);
        plot.upright_line(SIXTEEN as f64, "margin", "16");
        if let Some(reference) = sweep.points.iter().find(|p| p.model == model && p.states == 0) {
            plot.level(reference.accuracy.value, "chance");
        }
        for (i, kind) in kinds.iter().enumerate() {
            let (style, shift) = (Style::nth(i), (i as f64 - (kinds.len() as f64 - 1.0) / 2.0) * 2.5);
            let own = series(sweep, model, kind);
            plot.line(
                &own.iter().map(|p| (p.states as f64, p.accuracy.value)).collect::<Vec<_>>(),
                shift,
                style,
            );
            for p in own {
                plot.upright(p.states as f64, &p.accuracy, shift, style);
                plot.dot(p.states as f64, p.accuracy.value, shift, style);
            }
        }
        plot.x_axis("states", 9, false);
        Some(plot.finish())
    };
    let plots: Vec<_> = models(sweep).into_iter().filter_map(plot).collect();
    if plots.is_empty() {
        return String::new();
    }
    let caption = "Share of worked replies that the model would have written token by token. Bars are 95% intervals; \
                   the dotted line is the model with floats.";
    figure(&plots, &granularity_legend(sweep), caption)
}

/// Damage by bits and size, with the law's lines.
pub(super) fn law(sweep: &Sweep, law: &Law) -> String {
    let measured: Vec<_> = sweep.points.iter().filter(|p| p.states > 0 && p.kl > 0.0).collect();
    let bits = || measured.iter().map(|p| p.bits).filter(|b| b.is_finite());
    let (Some(low), Some(high)) = (bits().reduce(f64::min), bits().reduce(f64::max)) else {
        return String::new();
    };
    let x = Scale::linear([low, high], Unit::Plain);
    let y = Scale::log10(measured.iter().map(|p| p.kl));
    let mut plot = Plot::new("Damage by bits and size", (680.0, 340.0), [54.0, 24.0, 30.0, 42.0], x, y);
    plot.y_axis("mean KL, nats", 7);
    plot.x_axis("bits a weight", 8, false);
    let mut entries = vec![];
    for (i, model) in models(sweep).into_iter().enumerate() {
        let own: Vec<_> = measured.iter().filter(|p| p.model == model).collect();
        let Some(first) = own.first() else { continue };
        let style = Style::nth(i);
        let foretold = |bits: f64| {
            (law.ln_c - law.a.value * (first.parameters as f64).ln() - bits / law.gamma.value).exp()
        };
        // The line ends where it would leave the field, rather than run along its edge.
        let step = |i: i32| low + (high - low) * f64::from(i) / 64.0;
        let inside = |kl: f64| if y.holds(kl) { kl } else { f64::NAN };
        let line: Vec<_> = (0..=64).map(|i| (step(i), inside(foretold(step(i))))).collect();
        plot.line(&line, 0.0, style.hollow());
        own.iter().for_each(|p| plot.dot(p.bits, p.kl, 0.0, style));
        entries.push((style, model.to_string(), false));
    }
    let caption = "Dots are measured, at every granularity; dashed lines are the law's forecast for each size. Parallel \
                   lines that lie lower for larger models say that size buys robustness.";
    figure(&[plot.finish()], &legend(&entries), caption)
}

/// Damage by part, alone and spared.
pub(super) fn sensitivity(sweep: &Sweep) -> String {
    let mut names: Vec<&str> = vec![];
    for s in &sweep.sensitivity {
        if !names.contains(&s.model.as_str()) {
            names.push(&s.model);
        }
    }
    let mut plots = vec![];
    for model in names {
        let own = sweep.sensitivity.iter().filter(|s| s.model == model);
        let (layers, others): (Vec<_>, Vec<_>) = own.partition(|s| s.part.starts_with("layer"));
        for (what, parts) in [("by layer", layers), ("by matrix", others)] {
            if !parts.is_empty() {
                plots.push(sensitivity_of(&format!("{}, {what}", short(model, 40)), &parts));
            }
        }
    }
    if plots.is_empty() {
        return String::new();
    }
    let ink = Style::nth(0);
    let entries = [
        (ink, "only this part rounded".into(), false),
        (Style::nth(1).hollow(), "all but this part".into(), false),
    ];
    let caption = "Mean KL when one part alone is rounded to 4 bits (filled) and when it alone is spared (rings). A filled \
                   dot far right, or a ring far left, marks a part that is worth its bits.";
    heading("Which parts are sensitive") + &figure(&plots, &legend(&entries), caption)
}

fn sensitivity_of(title: &str, parts: &[&Sensitivity]) -> String {
    let names: Vec<_> = parts.iter().map(|s| s.part.clone()).collect();
    let x = Scale::log10(parts.iter().flat_map(|s| [s.only, s.all_but]));
    let mut plot = rows(&format!("Sensitivity: {title}"), title, &names, x, "mean KL, nats", true);
    for (i, s) in parts.iter().enumerate() {
        let y = i as f64 + 0.5;
        plot.dot(s.only, y, 0.0, Style::nth(0));
        plot.dot(s.all_but, y, 0.0, Style::nth(1).hollow());
    }
    plot.finish()
}
