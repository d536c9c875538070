//! The page of `infer ab`.

use super::controls::{Control, controls};
use super::html::{class, device, facts, heading, sentences, skeleton, table, two_lines, word};
use super::text::{
    NONE, count, duration, escape, fixed, interval, list, number, percent, points, short, size, verdict,
};
use super::{Arm, JUDGED, arms, asked, figures, flips};
use crate::experiment::results::{Comparison, Results};
use crate::experiment::stats::{Estimate, Judgement};

/// The page.
pub(super) fn page(results: &Results) -> String {
    let arms = arms(results);
    let title = format!("16 states: {}", short(&results.model.name, 80));
    let body = [
        top(results, &arms),
        key_table(&arms, results.plan.questions > 0),
        controls_told(&arms),
        run(results),
        judged(&arms),
        figures::accuracy(results, &arms),
        figures::flips(&arms),
        figures::survival(&arms),
        free_running(&arms),
        teacher_forced(&arms),
        figures::information(&arms),
        crossovers(&arms),
        attention(&arms),
        flips::flips(&arms),
        method(results),
    ];
    skeleton(&title, &results.version, &body.concat())
}

fn top(results: &Results, arms: &[Arm]) -> String {
    let name = escape(&short(&results.model.name, 120));
    let does = if results.plan.questions > 0 { "still reason" } else { "predict the same" };
    let mut out = format!("<p class=\"kicker\">Does {name} {does} with fewer states?</p>\n");
    let judged = asked(arms);
    for (i, c) in judged.iter().enumerate() {
        let tag = if i == 0 { "h1" } else { "p" };
        let v = c.overall.verdict;
        let badge = match c.overall.n {
            0 => String::new(),
            _ => format!("<span class=\"badge {}\">{}</span>", class(v), verdict(v)),
        };
        out += &format!("<div class=\"verdict\">{badge}<{tag}>{}</{tag}></div>\n", escape(&c.sentence));
    }
    if judged.is_empty() {
        out += "<h1>Nothing was compared.</h1>\n";
    }
    out
}

fn key_table(arms: &[Arm], questions: bool) -> String {
    let reference = arms.iter().find_map(|a| a.comparison).map(|c| &c.overall.reference);
    let row = |arm: &Arm| {
        let info = arm.info;
        let name = format!(
            "{}<small>{}</small>",
            escape(&short(arm.name(), 60)),
            escape(&short(&info.description, 200))
        );
        let accuracy = arm.comparison.map(|c| &c.overall.arm).or(reference.filter(|_| arm.is_reference()));
        let mut cells = vec![
            name,
            info.states.map_or("floats".into(), |s| count(s as u64)),
            fixed(info.bits, 2),
            number(info.relative_error),
            accuracy.map_or(NONE.into(), |e| two_lines(percent(e.value), percent(e.low), percent(e.high))),
        ];
        match arm.comparison {
            Some(c) => {
                let (o, t) = (&c.overall, &c.teacher_forced);
                let d = &o.difference;
                cells.extend([
                    two_lines(points(d.value), points(d.low), points(d.high)),
                    format!("{} / {}", o.lost, o.won),
                    number(t.kl.mean),
                    percent(t.same_top),
                    if questions { word(o.verdict) } else { String::new() },
                ]);
            }
            None => cells.extend(["", "", "", "", "reference"].map(String::from)),
        }
        (if info.role == "control" { "control" } else { "" }, cells)
    };
    let mut rows: Vec<_> = arms.iter().map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let mut head = vec![
        "Arm",
        "States",
        "Bits a weight",
        "Relative error",
        "Right, with thought",
        "Δ points",
        "Lost / won",
        "Mean KL",
        "Same top token",
        if questions { "Verdict" } else { "" },
    ];
    let mut caption =
        "KL, in nats, and the top token are taken on the same texts. Bits include scales and zeros.".into();
    if questions {
        caption =
            format!("Ranges are 95% intervals. Lost: right became wrong; won: wrong became right. {caption}");
    } else {
        head.drain(JUDGED);
        rows.iter_mut().for_each(|(_, row)| drop(row.drain(JUDGED)));
    }
    table(1, &head, &rows, &caption)
}

fn controls_told(arms: &[Arm]) -> String {
    let all = controls(arms);
    if all.is_empty() {
        return "<p>No controls were run, so nothing here shows that the instrument itself works.</p>\n"
            .into();
    }
    let item = |c: &Control| {
        let (class, sign) = match c.held {
            Some(true) => ("held", "✓ as it should be"),
            Some(false) => ("failed", "✗ not as it should be"),
            None => ("inconclusive", "for scale"),
        };
        format!(
            "<li><strong>{}</strong>: {} <span class=\"word {class}\">{sign}</span></li>",
            escape(&c.arm),
            escape(&c.told)
        )
    };
    let failed = all.iter().any(|c| c.held == Some(false));
    let warning = if failed {
        "<p class=\"catastrophic\"><strong>A control failed. The verdict above cannot be relied on.</strong></p>\n"
    } else {
        ""
    };
    format!("<h3>Controls</h3>\n{warning}<ul>{}</ul>\n", all.iter().map(item).collect::<String>())
}

fn run(results: &Results) -> String {
    let (m, p) = (&results.model, &results.plan);
    let hash = |h: &str| format!("<code>{}</code>", escape(h));
    let model = format!(
        "{} · {} · {} parameters · {} layers",
        escape(&m.name),
        escape(&m.architecture),
        size(m.parameters),
        m.layers
    );
    let embedded = results.arms.iter().filter(|a| a.embedding).map(|a| escape(&a.name)).collect::<Vec<_>>();
    let embedding = if embedded.is_empty() {
        "left as they were in every arm".into()
    } else {
        format!("treated too in {}", list(&embedded))
    };
    let questions = match p.questions {
        0 => "none".to_string(),
        n => format!("{} in {} tasks, put {}", count(n as u64), p.tasks.len(), escape(&p.prompts)),
    };
    let mut told = vec![
        ("Model", model),
        ("Weights", hash(&m.weights_hash)),
        ("Device", device(&results.device)),
        ("Begun", format!("{}, {} of work", escape(&results.date), duration(results.seconds))),
        ("Plan", hash(&p.hash)),
        ("Questions", format!("{questions}, {} at once, seed {}", p.sequences, p.seed)),
        ("Margin", format!("{} points", fixed(p.margin * 100.0, 1))),
        ("Embedding and output", embedding),
    ];
    if p.questions == 0 {
        told.retain(|(name, _)| *name != "Margin");
    }
    "<h3>What was run</h3>\n".to_string() + &facts(&told)
}

fn judged(arms: &[Arm]) -> String {
    let head = [
        "Task",
        "Questions",
        "Reference",
        "Arm",
        "Δ points",
        "Lost / won",
        "p",
        "Left above guessing",
        "Could have seen",
        "Verdict",
    ];
    let mut out = String::new();
    for arm in arms.iter().filter(|a| a.asked) {
        let Some(c) = arm.comparison.filter(|c| c.overall.n > 0) else { continue };
        let thought = c.tasks.iter().chain([&c.overall]).map(|j| (j, "with thought"));
        let rows: Vec<_> = thought.chain(c.direct.iter().map(|j| (j, "no thought"))).map(judgement).collect();
        let caption = format!(
            "{} by task. p: exact McNemar test; above 0.05 it is no evidence of sameness. Could have seen: the \
             smallest drop, in points, that so many questions show four times in five; {NONE} where they show none.",
            escape(&c.arm)
        );
        out += &figures::differences(arm);
        out += &table(1, &head, &rows, &caption);
    }
    if out.is_empty() { out } else { heading("The verdict by task") + &out }
}

fn judgement((j, mode): (&Judgement, &str)) -> (&'static str, Vec<String>) {
    let share = |e: &Estimate| two_lines(percent(e.value), percent(e.low), percent(e.high));
    let d = &j.difference;
    let cells = vec![
        format!("{}<small>{mode}</small>", escape(&short(&j.what, 60))),
        count(j.n as u64),
        share(&j.reference),
        share(&j.arm),
        two_lines(points(d.value), points(d.low), points(d.high)),
        format!("{} / {}", j.lost, j.won),
        number(j.p),
        j.retention.as_ref().map_or(NONE.into(), share),
        j.smallest_visible.map_or(NONE.into(), |drop| fixed(drop * 100.0, 1)),
        word(j.verdict),
    ];
    ("", cells)
}

fn free_running(arms: &[Arm]) -> String {
    let optional = |e: &Option<Estimate>, write: fn(f64) -> String| {
        e.as_ref().map_or(NONE.into(), |e| interval(e, write))
    };
    let mut rows = vec![];
    let shown: Vec<&Comparison> = asked(arms).into_iter().filter(|c| c.free_running.texts > 0).collect();
    let Some(first) = shown.first() else { return String::new() };
    let row = |name: &str, f: [String; 7]| {
        ("", std::iter::once(escape(&short(name, 60))).chain(f).collect::<Vec<_>>())
    };
    let f = &first.free_running;
    let reference = arms.iter().find(|a| a.is_reference()).map_or("reference", Arm::name);
    rows.push(row(
        reference,
        [
            number(f.length_reference.mean),
            f.cut_off_reference.to_string(),
            f.reached_and_lost_reference.to_string(),
            optional(&f.step_error_reference, percent),
            percent(f.steps_right_reference),
            optional(&f.gain_reference, points),
            String::new(),
        ],
    ));
    for c in &shown {
        let f = &c.free_running;
        rows.push(row(
            &c.arm,
            [
                number(f.length_arm.mean),
                f.cut_off_arm.to_string(),
                f.reached_and_lost.to_string(),
                optional(&f.step_error_arm, percent),
                percent(f.steps_right_arm),
                optional(&f.gain_arm, points),
                optional(&f.interaction, points),
            ],
        ));
    }
    let head = [
        "Thoughts",
        "Tokens, mean",
        "Cut off",
        "Right in thought, then lost",
        "Error a step",
        "Steps as worked",
        "Gain of thinking",
        "Its change",
    ];
    let margins = shown.iter().map(|c| {
        let f = &c.free_running;
        if f.margin_at_divergence.n == 0 {
            return format!(" No text of {} parts from the reference's.", escape(&c.arm));
        }
        format!(
            " Where {}'s texts part, the reference's two likeliest tokens are {} apart on average; elsewhere {}.",
            escape(&c.arm),
            number(f.margin_at_divergence.mean),
            number(f.margin_elsewhere.mean)
        )
    });
    let caption =
        "Error a step: ε in accuracy ≈ (1 − ε)<sup>k</sup>. Gains are in points of accuracy.".to_string();
    table(1, &head, &rows, &(caption + &margins.collect::<String>()))
}

fn teacher_forced(arms: &[Arm]) -> String {
    let shown: Vec<_> =
        arms.iter().filter_map(|a| a.comparison).filter(|c| c.teacher_forced.kl.n > 0).collect();
    let Some(first) = shown.first() else { return String::new() };
    let row = |c: &&Comparison| {
        let t = &c.teacher_forced;
        let [.., median, _, high, highest] = t.kl.quantiles;
        let cells = vec![
            escape(&short(&c.arm, 60)),
            number(t.kl.mean),
            number(median),
            number(high),
            number(highest),
            number(t.kl.max),
            percent(t.same_top),
            points(t.delta_p.mean),
            fixed(t.delta_p.rms * 100.0, 1),
            t.perplexity_ratio.as_ref().map_or(NONE.into(), |e| interval(e, |v| fixed(v, 3))),
        ];
        ("", cells)
    };
    let rows: Vec<_> = shown.iter().map(row).collect();
    let head = [
        "Arm",
        "KL, mean",
        "Median",
        "99%",
        "99.9%",
        "Most",
        "Same top token",
        "Δp, mean",
        "Δp, RMS",
        "Perplexity, ratio",
    ];
    let texts = escape(&first.teacher_forced.texts);
    let caption = format!(
        "On {texts}, {} positions. Δp is the change, in points, of the probability of the text's own token.",
        count(first.teacher_forced.kl.n as u64)
    );
    let mut out = heading("The next token on the same texts")
        + &figures::kl_histogram(arms)
        + &table(1, &head, &rows, &caption);
    for c in asked(arms).into_iter().filter(|c| !c.teacher_forced.slices.is_empty()) {
        let rows: Vec<_> = c
            .teacher_forced
            .slices
            .iter()
            .map(|s| ("", vec![escape(&s.what), count(s.n as u64), number(s.kl), percent(s.same_top)]))
            .collect();
        let caption = format!("{}: where the damage lies, by kind of position.", escape(&c.arm));
        out += &table(1, &["Positions", "How many", "KL, mean", "Same top token"], &rows, &caption);
    }
    out
}

fn crossovers(arms: &[Arm]) -> String {
    let tables: String = asked(arms)
        .into_iter()
        .filter_map(|c| Some(figures::crossover(&c.arm, c.crossover.as_ref()?)))
        .collect();
    if tables.is_empty() { tables } else { format!("<h3>Who thinks, who answers</h3>\n{tables}") }
}

fn attention(arms: &[Arm]) -> String {
    let maps: String = arms.iter().filter(|a| a.asked).filter_map(figures::attention).collect();
    if maps.is_empty() { maps } else { heading("Where attention moved") + &maps }
}

fn method(results: &Results) -> String {
    let told = if results.plan.questions > 0 { asked_how(results) } else { predicted_how() };
    let limits = sentences(&results.limits);
    let limits = if limits.is_empty() { limits } else { format!("<h3>Limits</h3>\n{limits}") };
    let items: String = told.iter().map(|s| format!("<li>{s}</li>")).collect();
    heading("Method and limits") + &format!("<ul>{items}</ul>\n{limits}")
}

/// The method where nothing was asked.
fn predicted_how() -> Vec<String> {
    [
        "Every arm is the same model on the same text, with the same kernels, caches and batches. Only the weights \
         differ.",
        "Intervals hold with 95% confidence, by resampling over windows of the text, never over tokens.",
        "The controls test the instrument: the reference against itself must not differ, broken weights must be far \
         off, and noise of the same size tells the harm of having few states from the harm of being off by so much.",
    ]
    .map(String::from)
    .into()
}

fn asked_how(results: &Results) -> Vec<String> {
    let margin = fixed(results.plan.margin * 100.0, 1);
    [
        "Every arm is the same model on the same questions, with the same kernels, caches, batches and prompts, always \
         writing its likeliest token. Only the weights differ.".into(),
        format!("Margin, seed, tasks and questions were fixed before the run; the plan's hash vouches for them. The margin is {margin} points."),
        "PRESERVED: the arm is no worse than the reference by the margin, with 95% confidence, question by question. \
         DEGRADED: it is worse, and keeps more than half of what the reference has above guessing. CATASTROPHIC: it \
         keeps less than half, with confidence. INCONCLUSIVE: there were too few questions to tell.".into(),
        "“No catastrophic loss” and “as good as before” are two claims. PRESERVED is the second; DEGRADED denies only that one.".into(),
        "Intervals hold with 95% confidence: Wilson's for shares, the standard error of paired differences for Δ, and \
         resampling over questions or texts, never over tokens, for the rest.".into(),
        "The controls test the instrument: the reference against itself must not flip, broken weights must be found \
         broken, and noise of the same size tells the harm of having few states from the harm of being off by so much.".into(),
        "Information is estimated from the models' own probabilities. Such figures compare arms; they are no bounds.".into(),
    ]
    .into()
}
