//! The plots of `infer ab`.

use super::Arm;
use super::html::{figure, heading};
use super::svg::{Plot, Scale, Shape, Style, Unit, legend};
use super::text::{escape, fixed, list, number, percent, points, short};
use crate::experiment::results::{Comparison, Crossover, Histogram, Results};
use std::collections::BTreeSet;

/// Accuracy by steps: a small plot a task.
pub(super) fn accuracy(results: &Results, arms: &[Arm]) -> String {
    let mut tasks: Vec<&str> = results.plan.tasks.iter().map(String::as_str).collect();
    for cell in &results.cells {
        if !tasks.contains(&cell.task.as_str()) {
            tasks.push(&cell.task);
        }
    }
    let plots: Vec<_> = tasks.iter().filter_map(|task| accuracy_of(results, arms, task)).collect();
    if plots.is_empty() {
        return String::new();
    }
    let direct = results.cells.iter().any(|c| c.mode == "direct");
    let mut entries = vec![];
    for arm in arms {
        entries.push((arm.style, arm.name().to_string(), true));
        if direct && !arm.style.thin {
            entries.push((arm.style.hollow(), format!("{}, without thought", arm.name()), true));
        }
    }
    let caption = "Share of right answers against the number of reasoning steps, one plot a task. Upright bars are \
                   95% intervals; where they overlap, do not read a difference. The dotted line is guessing. \
                   Controls are thin.";
    let told =
        if direct { " Dashed lines are answers given at once, without writing a thought." } else { "" };
    heading("Accuracy by number of steps") + &figure(&plots, &legend(&entries), &format!("{caption}{told}"))
}

fn accuracy_of(results: &Results, arms: &[Arm], task: &str) -> Option<String> {
    let cells: Vec<_> = results.cells.iter().filter(|c| c.task == task && c.n > 0).collect();
    let steps: BTreeSet<usize> = cells.iter().map(|c| c.steps).collect();
    let (first, last) = (*steps.first()? as f64, *steps.last()? as f64);
    let x = Scale::fixed(first - 0.5, last + 0.5, Unit::Plain);
    let title = format!("Accuracy by steps in the task {}", short(task, 60));
    let margins = [42.0, 8.0, 28.0, 40.0];
    let mut plot = Plot::new(&title, (310.0, 220.0), margins, x, Scale::fixed(0.0, 1.0, Unit::Percent));
    plot.y_axis("", 5);
    plot.text(margins[0], 15.0, "start", "heading", task);
    let apart = (steps.len() / 10 + 1).max(1);
    let ticks: Vec<f64> = steps.iter().step_by(apart).map(|s| *s as f64).collect();
    plot.x_axis_at(if first == last && first == 0.0 { "all steps" } else { "steps" }, &ticks, false);
    if let Some(cell) = cells.first() {
        plot.level(cell.chance, "chance");
    }
    let thick = arms.iter().filter(|a| !a.style.thin).count();
    // Controls first, so that they lie below.
    let order = arms.iter().filter(|a| a.style.thin).chain(arms.iter().filter(|a| !a.style.thin));
    for (i, arm) in order.enumerate() {
        let of = |mode: &str| -> Vec<_> {
            let mut own: Vec<_> = cells.iter().filter(|c| c.mode == mode && c.arm == arm.name()).collect();
            own.sort_by_key(|c| c.steps);
            own
        };
        let slot = (i + thick).saturating_sub(arms.len()) as f64;
        let shift = if arm.style.thin { 0.0 } else { (slot - (thick as f64 - 1.0) / 2.0) * 3.0 };
        for (mode, style) in [("direct", arm.style.hollow()), ("thought", arm.style)] {
            if mode == "direct" && arm.style.thin {
                continue;
            }
            let own = of(mode);
            let line: Vec<_> = own.iter().map(|c| (c.steps as f64, c.accuracy.value)).collect();
            plot.line(&line, shift, style);
            for cell in own {
                let x = cell.steps as f64;
                if !arm.style.thin {
                    plot.upright(x, &cell.accuracy, shift, style);
                    plot.dot(x, cell.accuracy.value, shift, style);
                }
            }
        }
    }
    Some(plot.finish())
}

/// A plot of rows, one a name; `heading` stands above them, and `dense` rows have less room.
pub(super) fn rows(title: &str, heading: &str, names: &[String], x: Scale, label: &str, dense: bool) -> Plot {
    let (width, each) = if dense { (460.0, 17.0) } else { (680.0, 27.0) };
    let top = if heading.is_empty() { 18.0 } else { 30.0 };
    // Rows run downward, so the scale does too.
    let y = Scale::fixed(names.len() as f64, 0.0, Unit::Plain);
    let size = (width, top + 40.0 + each * names.len() as f64);
    let mut plot = Plot::new(title, size, [if dense { 96.0 } else { 136.0 }, 24.0, top, 40.0], x, y);
    plot.text(2.0, 14.0, "start", "heading", heading);
    plot.x_axis(label, 8, true);
    plot.rows(names);
    plot
}

/// Differences by task with their intervals, zero and the margin.
pub(super) fn differences(arm: &Arm) -> String {
    let Some(c) = arm.comparison else { return String::new() };
    let thought: Vec<_> = c.tasks.iter().chain([&c.overall]).filter(|j| j.n > 0).collect();
    let direct: Vec<_> = c.direct.iter().filter(|j| j.n > 0).collect();
    let mut names: Vec<String> = vec![];
    for judgement in thought.iter().chain(&direct) {
        if !names.contains(&judgement.what) {
            names.push(judgement.what.clone());
        }
    }
    if names.is_empty() {
        return String::new();
    }
    let margin = c.overall.margin;
    let ends = thought.iter().chain(&direct).flat_map(|j| [j.difference.low, j.difference.high]);
    let x = Scale::linear(ends.chain([-margin * 1.3, margin]), Unit::Points);
    let title = format!("Difference of accuracy by task, {}", short(arm.name(), 60));
    let mut plot = rows(&title, "", &names, x, "points against the reference", false);
    plot.upright_line(0.0, "axis", "");
    plot.upright_line(-margin, "margin", "−margin");
    let apart = if direct.is_empty() { 0.0 } else { 0.16 };
    let both = [(&thought, -apart, arm.style), (&direct, apart, arm.style.hollow())];
    for (judgements, shift, style) in both {
        for judgement in judgements {
            let Some(row) = names.iter().position(|n| *n == judgement.what) else { continue };
            let y = row as f64 + 0.5 + shift;
            plot.lying(&judgement.difference, y, style);
            plot.dot(judgement.difference.value, y, 0.0, style);
        }
    }
    let mut entries = vec![(arm.style, arm.name().to_string(), false)];
    if !direct.is_empty() {
        entries.push((arm.style.hollow(), format!("{}, without thought", arm.name()), false));
    }
    let caption = format!(
        "How much better (right) or worse (left) than the reference, with 95% intervals of paired differences. A \
         bar that stays right of the dashed line is no worse than the reference by the margin of {} points.",
        fixed(margin * 100.0, 1)
    );
    figure(&[plot.finish()], &legend(&entries), &caption)
}

/// Answers lost and won.
pub(super) fn flips(arms: &[Arm]) -> String {
    let shown: Vec<_> =
        arms.iter().filter_map(|a| Some((a, a.comparison?))).filter(|(_, c)| c.overall.n > 0).collect();
    if shown.is_empty() {
        return String::new();
    }
    let share = |count: usize, c: &Comparison| count as f64 / c.overall.n as f64;
    let names: Vec<_> = shown.iter().map(|(a, _)| a.name().to_string()).collect();
    let ends = shown.iter().flat_map(|(_, c)| [-share(c.overall.lost, c), share(c.overall.won, c)]);
    // Room for the counts at the ends of the bars.
    let x = Scale::linear(ends.flat_map(|v| [v, v * 1.15, v + 0.01 * v.signum()]), Unit::Percent);
    let mut plot =
        rows("Answers lost and won by arm", "", &names, x, "lost ← share of questions → won", false);
    for (i, (arm, c)) in shown.iter().enumerate() {
        let (y, overall) = (i as f64, &c.overall);
        let class = format!("{} fill", arm.style.class());
        plot.rect((-share(overall.lost, c), y + 0.22), (0.0, y + 0.78), &class, 0.95, "");
        plot.rect((0.0, y + 0.22), (share(overall.won, c), y + 0.78), &class, 0.55, "");
        plot.note(-share(overall.lost, c), y + 0.5, -6.0, "end", &overall.lost.to_string());
        plot.note(share(overall.won, c), y + 0.5, 6.0, "start", &overall.won.to_string());
    }
    plot.upright_line(0.0, "axis", "");
    let told = shown.iter().filter(|(a, _)| a.asked).map(|(a, c)| {
        let (name, o) = (escape(a.name()), &c.overall);
        format!(
            " {name} lost {} and won {} of {}; {} wrong answers became other wrong ones.",
            o.lost, o.won, o.n, o.changed
        )
    });
    let caption =
        "Questions whose answer went from right to wrong (left, strong) and from wrong to right (right, \
                   pale). Bars of like length on both sides leave accuracy as it was, and still are damage."
            .to_string();
    heading("Flipped answers") + &figure(&[plot.finish()], "", &(caption + &told.collect::<String>()))
}

/// Share of texts that still are the reference's.
pub(super) fn survival(arms: &[Arm]) -> String {
    let shown: Vec<_> = arms
        .iter()
        .filter_map(|a| Some((a, &a.comparison?.free_running)))
        .filter(|(_, f)| !f.survival.is_empty())
        .collect();
    let longest = shown.iter().flat_map(|(_, f)| &f.survival).map(|(tokens, _)| *tokens).max();
    let Some(longest) = longest else { return String::new() };
    let x = Scale::fixed(0.0, (longest as f64).max(1.0), Unit::Plain);
    let y = Scale::fixed(0.0, 1.0, Unit::Percent);
    let title = "Share of texts that still are the reference's, by tokens";
    let mut plot = Plot::new(title, (680.0, 300.0), [52.0, 24.0, 16.0, 42.0], x, y);
    plot.y_axis("", 5);
    plot.x_axis("tokens written", 8, false);
    let mut told = String::new();
    for (arm, free) in &shown {
        // A share holds until the next one is known, so the curve goes in steps.
        let mut line = vec![(0.0, 1.0)];
        let mut before = 1.0;
        for &(tokens, share) in &free.survival {
            line.extend([(tokens as f64, before), (tokens as f64, share)]);
            before = share;
        }
        plot.line(&line, 0.0, arm.style);
        if arm.asked {
            let half = free.survival.iter().find(|(_, share)| *share < 0.5);
            let half = half.map_or("more than half never parted".into(), |(t, _)| {
                format!("half had parted by token {t}")
            });
            let (name, d, n) = (escape(arm.name()), free.diverged, free.texts);
            told += &format!(" Of {name}'s {n} texts {d} parted from the reference's; {half}.");
        }
    }
    let entries: Vec<_> = shown.iter().map(|(a, _)| (a.style, a.name().to_string(), true)).collect();
    let caption = format!(
        "Each arm writes by itself, always its likeliest token; the curve is the share of its texts that are still, \
         token for token, the reference's.{told}"
    );
    heading("How long texts stay the same") + &figure(&[plot.finish()], &legend(&entries), &caption)
}

/// Corners of a histogram's outline, as shares.
fn outline(h: &Histogram) -> Vec<(f64, f64)> {
    let all = h.counts.iter().sum::<usize>().max(1) as f64;
    let pairs = h.edges.windows(2).zip(&h.counts);
    pairs.flat_map(|(e, &n)| [(e[0], n as f64 / all), (e[1], n as f64 / all)]).collect()
}

/// How KL spreads over positions.
pub(super) fn kl_histogram(arms: &[Arm]) -> String {
    let all: Vec<_> = arms
        .iter()
        .filter_map(|a| Some((a, outline(&a.comparison?.teacher_forced.kl_histogram))))
        .filter(|(_, o)| !o.is_empty())
        .collect();
    // An arm whose positions are all but all in the first bin would press the others flat.
    let (still, shown): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, o)| o[0].1 > 0.9);
    if shown.is_empty() {
        return String::new();
    }
    let corners = || shown.iter().flat_map(|(_, o)| o.iter());
    let x = Scale::log10(corners().map(|c| c.0));
    let y = Scale::linear(corners().map(|c| c.1).chain([0.0]), Unit::Percent);
    let mut plot = Plot::new("Histogram of KL by arm", (680.0, 300.0), [52.0, 24.0, 30.0, 42.0], x, y);
    plot.y_axis("share of positions", 4);
    plot.x_axis("KL from the reference, nats", 9, false);
    for (arm, corners) in &shown {
        if arm.asked {
            plot.area(corners, arm.style);
        }
        plot.line(corners, 0.0, arm.style);
    }
    let entries: Vec<_> = shown.iter().map(|(a, _)| (a.style, a.name().to_string(), true)).collect();
    let names: Vec<_> = still.iter().map(|(a, _)| escape(a.name())).collect();
    let left_out = if names.is_empty() {
        String::new()
    } else {
        format!(" Left out, since nearly all of it lies in the lowest bin: {}.", list(&names))
    };
    let caption = format!(
        "How far the next-token distribution of each arm lies from the reference's on the same texts, by position; \
         the axis is logarithmic and the lowest bin holds all below it. Further right is worse.{left_out} For scale: \
         llama.cpp reports a mean of 0.0014 nats for Llama-3-8B at 8 bits, 0.072 at q4_0 and 0.445 at q2_K."
    );
    figure(&[plot.finish()], &legend(&entries), &caption)
}

/// The information plane: what a thought holds of the question, and what it tells of the answer.
pub(super) fn information(arms: &[Arm]) -> String {
    let all: Vec<_> = arms.iter().filter(|a| a.comparison.is_some_and(|c| c.information.is_some())).collect();
    let near: Vec<_> = all.iter().copied().filter(|a| a.asked).collect();
    let mut plots = vec![];
    if !near.is_empty() {
        plots.push(plane("Arms asked for", &near));
    }
    if all.len() > near.len() {
        plots.push(plane("With the controls", &all));
    }
    if plots.is_empty() {
        return String::new();
    }
    let mut entries: Vec<_> =
        all.iter().map(|a| (Style { thin: false, ..a.style }, a.name().to_string(), false)).collect();
    let ink = Style::INK;
    entries.extend([
        (ink, "reference thinks, reference scores".into(), false),
        (ink.shaped(Shape::Triangle), "arm thinks, reference scores".into(), false),
        (ink.hollow(), "reference thinks, arm scores".into(), false),
        (ink.shaped(Shape::Triangle).hollow(), "arm thinks, arm scores".into(), false),
    ]);
    let caption = "Rightward, a thought holds more of its question, I(X;Z); upward, it tells more of the right answer \
                   to one who sees the question too, I(Z;Y|X). A line joins the reference's thoughts (circle) with \
                   the arm's (triangle) under one scorer: a long line means that the thoughts changed, a gap between \
                   filled and hollow that the reading did. These are estimates by the models themselves, in bits.";
    heading("What thoughts carry") + &figure(&plots, &legend(&entries), caption)
}

fn plane(title: &str, arms: &[&Arm]) -> String {
    let of = |arm: &Arm| arm.comparison.and_then(|c| c.information.clone());
    let (mut xs, mut ys) = (vec![], vec![]);
    for i in arms.iter().filter_map(|a| of(a)) {
        xs.extend(i.question_in_thought.iter().flatten().flat_map(|e| [e.low, e.high, e.value]));
        ys.extend(i.answer_given_thought.iter().flatten().flat_map(|e| [e.low, e.high, e.value]));
    }
    let (x, y) = (Scale::linear(xs, Unit::Plain), Scale::linear(ys, Unit::Plain));
    let mut plot =
        Plot::new(&format!("Information plane: {title}"), (460.0, 340.0), [46.0, 18.0, 48.0, 42.0], x, y);
    plot.text(2.0, 14.0, "start", "heading", title);
    plot.y_axis("I(Z;Y|X), bits", 5);
    plot.x_axis("I(X;Z), bits", 6, true);
    for arm in arms {
        let Some(i) = of(arm) else { continue };
        for scorer in 0..2 {
            let look = Style { thin: false, ..arm.style };
            let look = if scorer == 1 { look.hollow() } else { look };
            let at = |thinker: usize| {
                (i.question_in_thought[thinker][scorer], i.answer_given_thought[thinker][scorer])
            };
            let ends = [at(0), at(1)];
            plot.line(&ends.map(|(x, y)| (x.value, y.value)), 0.0, Style { thin: true, ..look });
            for ((x, y), shape) in ends.iter().zip([Shape::Circle, Shape::Triangle]) {
                plot.lying(x, y.value, look);
                plot.upright(x.value, y, 0.0, look);
                plot.dot(x.value, y.value, 0.0, look.shaped(shape));
            }
        }
    }
    plot.finish()
}

/// Who thinks and who answers, as a small table.
pub(super) fn crossover(arm: &str, c: &Crossover) -> String {
    let cell = |thinker: usize, reader: usize| {
        let e = &c.accuracy[thinker][reader];
        format!("<td>{}<small>{} to {}</small></td>", percent(e.value), percent(e.low), percent(e.high))
    };
    let arm = escape(arm);
    let row =
        |name: &str, i| format!("<tr><th scope=\"row\">{name} thinks</th>{}{}</tr>", cell(i, 0), cell(i, 1));
    let value = |a: usize, b: usize| c.accuracy[a][b].value;
    let told = format!(
        "{arm}: accuracy by who writes the thought and who answers from it, {} questions. Its thoughts, read by the \
         reference, move accuracy by {} points; its reading of the reference's thoughts, by {}.",
        c.n,
        points(value(1, 0) - value(0, 0)),
        points(value(0, 1) - value(0, 0))
    );
    let head = format!("<th scope=\"col\">reference answers</th><th scope=\"col\">{arm} answers</th>");
    let rows = row("reference", 0) + &row(&arm, 1);
    format!(
        "<div class=\"scroll\"><table><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table></div>\
         <p class=\"caption\">{told}</p>\n"
    )
}

/// How far attention moved, layer by head.
pub(super) fn attention(arm: &Arm) -> Option<String> {
    let drift = &arm.comparison?.attention;
    let layers = drift.iter().map(|d| d.layer).max()?.min(255) + 1;
    let heads = drift.iter().map(|d| d.head).max()?.min(255) + 1;
    let finite = || drift.iter().filter(|d| d.distance.is_finite());
    let most = finite().max_by(|a, b| a.distance.total_cmp(&b.distance))?;
    let side = (560.0 / heads as f64).clamp(3.0, 22.0);
    let tall = side.min(420.0 / layers as f64).max(6.0);
    let field = ((side * heads as f64).max(200.0), tall * layers as f64);
    let x = Scale::fixed(-0.5, heads as f64 - 0.5, Unit::Plain);
    let y = Scale::fixed(layers as f64 - 0.5, -0.5, Unit::Plain);
    let title = format!("Drift of attention by layer and head, {}", short(arm.name(), 40));
    let size = (field.0 + 64.0 + 96.0, field.1 + 36.0 + 42.0);
    let mut plot = Plot::new(&title, size, [64.0, 96.0, 36.0, 42.0], x, y);
    let ticks = |n: usize| (0..n).step_by(n.div_ceil(8)).map(|i| i as f64).collect::<Vec<_>>();
    plot.x_axis_at("head", &ticks(heads), false);
    for layer in ticks(layers) {
        plot.note(-0.5, layer, -8.0, "end", &fixed(layer, 0));
    }
    plot.text(2.0, 18.0, "start", "label", "layer");
    let scale = most.distance.max(1e-12);
    for d in finite() {
        let (x, y) = (d.head as f64, d.layer as f64);
        let word = format!("layer {}, head {}: {}", d.layer, d.head, number(d.distance));
        plot.rect(
            (x - 0.46, y - 0.46),
            (x + 0.46, y + 0.46),
            "heat",
            (d.distance / scale).clamp(0.03, 1.0),
            &word,
        );
    }
    let bar = size.0 - 80.0;
    plot.ramp(bar, 36.0, field.1.min(160.0), &number(scale));
    let mean = finite().map(|d| d.distance).sum::<f64>() / finite().count() as f64;
    let caption = format!(
        "{}: how far each head's attention moved from the reference's (total variation, 0 to 1; darker in light, \
         brighter in dark is further). Mean {}; most, {}, in layer {}, head {}.",
        escape(arm.name()),
        number(mean),
        number(most.distance),
        most.layer,
        most.head
    );
    Some(figure(&[plot.finish()], "", &caption))
}
