//! What an experiment found, for readers: a page that needs nothing but itself, and a table for the terminal.
//!
//! Everything here is made of [`Results`] and [`Sweep`] alone. Their texts come from models and from files of
//! strangers, so every one of them is escaped, clipped and freed of control characters on its way out.

mod controls;
mod figures;
#[cfg(test)]
mod fixture;
mod flips;
mod html;
mod page;
mod scale;
mod svg;
mod sweep;
mod sweep_figures;
mod table;
#[cfg(test)]
mod tests;
mod text;

use super::results::{ArmInfo, Comparison, Results, Sweep};
use svg::Style;

/// Columns of the table of arms that are about answers, but for the last: left out where nothing was asked.
const JUDGED: std::ops::Range<usize> = 4..7;

/// The report of `infer ab` as one HTML page.
#[must_use]
pub fn html(results: &Results) -> String {
    page::page(results)
}

/// The report of `infer sweep` as one HTML page.
#[must_use]
pub fn sweep_html(sweep: &Sweep) -> String {
    sweep::page(sweep)
}

/// What the terminal shows at the end of `infer ab`, at most 100 columns wide; coloured by ANSI codes if `color`.
#[must_use]
pub fn table(results: &Results, color: bool) -> String {
    table::results(results, color)
}

/// What the terminal shows at the end of `infer sweep`, at most 100 columns wide.
#[must_use]
pub fn sweep_table(sweep: &Sweep, color: bool) -> String {
    table::sweep(sweep, color)
}

/// An arm with all that is known of it, and the look that it has in every plot.
struct Arm<'a> {
    info: &'a ArmInfo,
    comparison: Option<&'a Comparison>,
    style: Style,
    /// Whether the verdict is about this arm.
    asked: bool,
}

impl Arm<'_> {
    fn name(&self) -> &str {
        &self.info.name
    }

    fn is_reference(&self) -> bool {
        self.comparison.is_none()
    }
}

/// The arms in their order. Asked ones have the first colours; where none was asked for, all but controls count
/// as asked, and where there are only controls, all do.
fn arms<'a>(results: &'a Results) -> Vec<Arm<'a>> {
    let comparison = |name: &str| results.comparisons.iter().find(|c| c.arm == name);
    let compared = || results.arms.iter().filter(|a| comparison(&a.name).is_some());
    let wanted: &dyn Fn(&ArmInfo) -> bool = if compared().any(|a| a.role == "asked") {
        &|a| a.role == "asked"
    } else if compared().any(|a| a.role != "control") {
        &|a| a.role != "control"
    } else {
        &|_| true
    };
    let mut first = 0;
    let mut rest = compared().filter(|a| wanted(a)).count();
    let look = |info: &'a ArmInfo| {
        let comparison = comparison(&info.name);
        let asked = comparison.is_some() && wanted(info);
        let next = if asked { &mut first } else { &mut rest };
        let style = match comparison {
            None => Style::INK,
            Some(_) => {
                *next += 1;
                Style { thin: !asked, ..Style::nth(*next - 1) }
            }
        };
        Arm { info, comparison, style, asked }
    };
    results.arms.iter().map(look).collect()
}

/// The comparisons that the verdict is about.
fn asked<'a>(arms: &[Arm<'a>]) -> Vec<&'a Comparison> {
    arms.iter().filter(|a| a.asked).filter_map(|a| a.comparison).collect()
}
