//! What the terminal shows at the end: aligned columns, nothing else.

use super::controls::controls;
use super::sweep::{SIXTEEN, law_told, point, sentence};
use super::text::{NONE, count, fixed, number, percent, points, short, verdict, wrap};
use super::{Arm, JUDGED, arms, asked};
use crate::experiment::results::{Knee, Results, Sweep};
use crate::experiment::stats::{Estimate, Judgement};

/// Columns of the terminal.
pub(super) const WIDTH: usize = 100;

/// Words in colour, if wanted.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
    }

    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    /// In the colour of the verdict that it is, if it is one.
    fn verdict(self, text: &str) -> String {
        match text {
            "PRESERVED" => self.with("1;32", text),
            "DEGRADED" => self.with("1;33", text),
            "CATASTROPHIC" => self.with("1;31", text),
            "INCONCLUSIVE" => self.with("1", text),
            other => other.into(),
        }
    }
}

/// Rows under a head. The first column gives way where all is too wide; the last is a verdict, at the left.
fn columns(head: &[&str], rows: &[Vec<String>], paint: Paint) -> String {
    let len = |s: &str| s.chars().count();
    let last = head.len() - 1;
    let cell = |row: &[String], i: usize| row.get(i).map_or(0, |s| len(s));
    let mut widths: Vec<usize> =
        (0..=last).map(|i| rows.iter().map(|r| cell(r, i)).max().unwrap_or(0).max(len(head[i]))).collect();
    let others: usize = widths[1..].iter().sum::<usize>() + 2 * last;
    widths[0] = widths[0].min(WIDTH.saturating_sub(others).max(8));
    let line = |cells: &[String]| {
        let mut out = short(&cells[0], widths[0]);
        out += &" ".repeat(widths[0].saturating_sub(len(&out)));
        for i in 1..last {
            out += &format!("  {:>1$}", cells[i], widths[i]);
        }
        let end = &cells[last];
        (short(&out, WIDTH.saturating_sub(len(end) + 2)), end.clone())
    };
    let named: Vec<String> = head.iter().map(|h| (*h).into()).collect();
    let (start, end) = line(&named);
    let mut out = paint.dim(format!("{start}  {end}").trim_end()) + "\n";
    for row in rows {
        let (start, end) = line(row);
        out += format!("{start}  {}", paint.verdict(&end)).trim_end();
        out.push('\n');
    }
    out
}

/// A difference in points with half its interval.
fn difference(d: &Estimate) -> String {
    let half = fixed((d.high - d.low) * 50.0, 1);
    if half == NONE { points(d.value) } else { format!("{} ± {half}", points(d.value)) }
}

/// What `infer ab` ends with.
pub(super) fn results(results: &Results, color: bool) -> String {
    let paint = Paint(color);
    let arms = arms(results);
    let mut out = arm_table(&arms, results.plan.questions > 0, paint);
    for c in asked(&arms) {
        let rows: Vec<_> = c.tasks.iter().map(task_row).collect();
        if !rows.is_empty() {
            let name = format!("{} by task", short(&c.arm, 80));
            let head = ["task", "n", "reference", "arm", "Δ points", "lost/won", "p", "could see", "verdict"];
            out += &format!("\n{}\n{}", paint.bold(&name), columns(&head, &rows, paint));
        }
    }
    out + &controls_told(&arms, paint) + &sentences(&arms, paint)
}

fn arm_table(arms: &[Arm], questions: bool, paint: Paint) -> String {
    let reference = arms.iter().find_map(|a| a.comparison).map(|c| &c.overall.reference);
    let row = |arm: &Arm| {
        let info = arm.info;
        let accuracy = arm.comparison.map(|c| &c.overall.arm).or(reference.filter(|_| arm.is_reference()));
        let mut cells = vec![
            arm.name().to_string(),
            info.states.map_or("float".into(), |s| s.to_string()),
            fixed(info.bits, 2),
            number(info.relative_error),
            accuracy.map_or(NONE.into(), |e| percent(e.value)),
        ];
        match arm.comparison {
            Some(c) => cells.extend([
                difference(&c.overall.difference),
                format!("{}/{}", c.overall.lost, c.overall.won),
                number(c.teacher_forced.kl.mean),
                percent(c.teacher_forced.same_top),
                if questions { verdict(c.overall.verdict).into() } else { String::new() },
            ]),
            None => cells.extend(["", "", "", "", "reference"].map(String::from)),
        }
        cells
    };
    let mut rows: Vec<_> = arms.iter().map(row).collect();
    let last = if questions { "verdict" } else { "" };
    let mut head = vec!["arm", "states", "bits", "error", "right", "Δ points", "lost/won", "KL", "top", last];
    if !questions {
        head.drain(JUDGED);
        rows.iter_mut().for_each(|row| drop(row.drain(JUDGED)));
    }
    if rows.is_empty() { String::new() } else { columns(&head, &rows, paint) }
}

fn task_row(j: &Judgement) -> Vec<String> {
    vec![
        j.what.clone(),
        count(j.n as u64),
        percent(j.reference.value),
        percent(j.arm.value),
        difference(&j.difference),
        format!("{}/{}", j.lost, j.won),
        number(j.p),
        j.smallest_visible.map_or(NONE.into(), |drop| fixed(drop * 100.0, 1)),
        verdict(j.verdict).into(),
    ]
}

fn controls_told(arms: &[Arm], paint: Paint) -> String {
    let all = controls(arms);
    if all.is_empty() {
        return format!("\n{}\n", paint.dim("controls: none were run"));
    }
    let mut out = format!("\n{}\n", paint.bold("controls"));
    for c in all {
        let (sign, code) = match c.held {
            Some(true) => ("✓", "32"),
            Some(false) => ("✗", "1;31"),
            None => ("·", "2"),
        };
        let told = short(&format!("{}: {}", short(&c.arm, 40), c.told), WIDTH - 4);
        out += &format!("  {} {told}\n", paint.with(code, sign));
    }
    out
}

fn sentences(arms: &[Arm], paint: Paint) -> String {
    let mut out = String::new();
    for c in asked(arms) {
        out.push('\n');
        let v = verdict(c.overall.verdict);
        // A sentence that names its verdict needs no second one; without questions there is none.
        let lead = if c.overall.n == 0 || c.sentence.contains(v) { String::new() } else { format!("{v}: ") };
        for line in wrap(&format!("{lead}{}", c.sentence), WIDTH) {
            out += &line.replacen(v, &paint.verdict(v), 1);
            out.push('\n');
        }
    }
    if controls(arms).iter().any(|c| c.held == Some(false)) {
        out += &paint.with("1;31", "A control failed: the verdict cannot be relied on.");
        out.push('\n');
    }
    out
}

/// What `infer sweep` ends with.
pub(super) fn sweep(sweep: &Sweep, color: bool) -> String {
    let paint = Paint(color);
    let row = |k: &Knee| {
        let at = |states| point(sweep, &k.model, &k.granularity, states);
        let right = |states| at(states).map_or(NONE.into(), |p| percent(p.accuracy.value));
        let told = match k.below_16 {
            _ if k.states.is_none() => NONE,
            b if b >= 0.95 => "below 16",
            b if b <= 0.05 => "above 16",
            _ => "cannot tell",
        };
        vec![
            // Of a path its end, which tells models apart: there is no room for more.
            short(k.model.rsplit(['/', '\\']).find(|part| !part.is_empty()).unwrap_or(&k.model), 60),
            short(&k.granularity, 20),
            k.states.as_ref().map_or("none".into(), |e| fixed(e.value, 1)),
            k.states
                .as_ref()
                .map_or(String::new(), |e| format!("{} to {}", fixed(e.low, 1), fixed(e.high, 1))),
            at(SIXTEEN).map_or(NONE.into(), |p| number(p.kl)),
            right(SIXTEEN),
            right(0),
            told.into(),
        ]
    };
    let rows: Vec<_> = sweep.knees.iter().map(row).collect();
    let head =
        ["model", "granularity", "knee", "95%", "KL at 16", "right at 16", "with floats", "the knee lies"];
    let mut out = if rows.is_empty() { String::new() } else { columns(&head, &rows, paint) + "\n" };
    if let Some(law) = &sweep.law {
        out += &wrap(&law_told(law), WIDTH).join("\n");
        out += "\n\n";
    }
    out + &paint.bold(&wrap(&sentence(sweep), WIDTH).join("\n")) + "\n"
}
