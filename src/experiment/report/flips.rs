//! Flipped answers: what both arms wrote, side by side.

use super::html::heading;
use super::text::{clip, count, escape, short};
use super::{Arm, asked};
use crate::experiment::results::Flip;

/// Flips that are shown; the first few lie open.
const FLIPS: usize = 12;
const OPEN: usize = 3;

/// Characters that a flip shows before texts part, and after.
const BEFORE: usize = 400;
const AFTER: usize = 2400;

/// The worst flips of the arms that the verdict is about.
pub(super) fn flips(arms: &[Arm]) -> String {
    let mut out = String::new();
    for c in asked(arms).into_iter().filter(|c| !c.flips.is_empty()) {
        let shown = c.flips.len().min(FLIPS);
        let arm = escape(&short(&c.arm, 60));
        out += &format!(
            "<p>{arm}: {shown} of {} flips, the worst first. The part that both texts share is grey; from where they part, they are marked.</p>\n",
            c.flips.len().max(c.overall.lost + c.overall.won)
        );
        let (open, closed) = c.flips[..shown].split_at(shown.min(OPEN));
        out.extend(open.iter().map(|f| flip(&arm, f)));
        if !closed.is_empty() {
            let more: String = closed.iter().map(|f| flip(&arm, f)).collect();
            out += &format!("<details><summary>{} more</summary>{more}</details>\n", closed.len());
        }
    }
    if out.is_empty() { out } else { heading("The worst flips, side by side") + &out }
}

fn flip(arm: &str, f: &Flip) -> String {
    let became = if f.lost { "right became wrong" } else { "wrong became right" };
    let steps = if f.steps > 0 { format!(", {} steps", f.steps) } else { String::new() };
    format!(
        "<article class=\"flip\"><h3>{}{steps}: {became}</h3><p>{}</p><p>Right answer: <strong>{}</strong> · <code>{}</code></p>\
         <div class=\"pair\"><div><h4>reference</h4><pre>{}</pre></div><div><h4>{arm}</h4><pre>{}</pre></div></div></article>\n",
        escape(&short(&f.task, 80)),
        escape(&f.prompt),
        escape(&f.target),
        escape(&short(&f.id, 120)),
        parted(&f.reference, f.common),
        parted(&f.arm, f.common)
    )
}

/// A text with all that follows its first `common` bytes marked; far from there, it is cut.
fn parted(text: &str, common: usize) -> String {
    let common = (0..=common.min(text.len())).rfind(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let (shared, rest) = text.split_at(common);
    let skip = shared.chars().count().saturating_sub(BEFORE);
    let from = shared.char_indices().nth(skip).map_or(0, |(at, _)| at);
    let cut = if skip > 0 { format!("[{} characters] … ", count(skip as u64)) } else { String::new() };
    let (kept, left_out) = clip(rest, AFTER);
    let more =
        if left_out > 0 { format!(" … [{} characters]", count(left_out as u64)) } else { String::new() };
    format!("{cut}{}<mark>{}</mark>{more}", escape(&shared[from..]), escape(kept))
}
