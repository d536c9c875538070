//! Plots as SVG text: two scales, and marks that are placed by them. Colours are the page's classes, so that a
//! plot turns dark with the page.

pub(super) use super::scale::{Scale, Unit};
use super::text::{NONE, escape, short};
use crate::experiment::stats::Estimate;
use std::fmt::Write;

/// The form of a point.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Shape {
    Circle,
    Square,
    Diamond,
    Triangle,
}

/// How a series looks.
#[derive(Clone, Copy)]
pub(super) struct Style {
    /// Colour by number; none for ink.
    pub colour: Option<usize>,
    /// Its points.
    pub shape: Shape,
    /// Whether points are rings and lines are dashed.
    pub hollow: bool,
    /// Whether it stands back.
    pub thin: bool,
}

impl Style {
    /// The colours that a page has.
    const COLOURS: usize = 7;

    /// The reference.
    pub const INK: Self = Self { colour: None, shape: Shape::Circle, hollow: false, thin: false };

    /// The series with this number: colours first, then other shapes.
    pub fn nth(n: usize) -> Self {
        let shapes = [Shape::Circle, Shape::Square, Shape::Diamond, Shape::Triangle];
        let shape = shapes[(n / Self::COLOURS) % shapes.len()];
        Self { colour: Some(n % Self::COLOURS), shape, hollow: false, thin: false }
    }

    /// The same with rings and dashes.
    pub fn hollow(self) -> Self {
        Self { hollow: true, ..self }
    }

    /// The same with another form of points.
    pub fn shaped(self, shape: Shape) -> Self {
        Self { shape, ..self }
    }

    /// The class that holds the colour.
    pub fn class(&self) -> String {
        self.colour.map_or("ink".into(), |n| format!("s{n}"))
    }

    fn stroke(&self) -> String {
        let dash = if self.hollow { " stroke-dasharray=\"4 3\"" } else { "" };
        format!("stroke-width=\"{}\"{dash}", if self.thin { 1.1 } else { 1.9 })
    }
}

/// A point's mark.
fn mark(x: f64, y: f64, style: Style) -> String {
    let r = if style.thin { 2.0 } else { 3.2 };
    let class = format!("{} {}", style.class(), if style.hollow { "ring" } else { "dot" });
    match style.shape {
        Shape::Circle => format!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{r}\"/>"),
        Shape::Square => {
            let (x, y, side) = (x - r * 0.9, y - r * 0.9, r * 1.8);
            format!(
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{side:.1}\" height=\"{side:.1}\"/>"
            )
        }
        Shape::Diamond | Shape::Triangle => {
            let r = r * 1.3;
            let low =
                if style.shape == Shape::Diamond { format!("{x:.1},{:.1} ", y + r) } else { String::new() };
            let side = if style.shape == Shape::Diamond { y } else { y + r * 0.8 };
            let (left, right, top) = (x - r, x + r, y - r);
            format!(
                "<polygon class=\"{class}\" points=\"{x:.1},{top:.1} {right:.1},{side:.1} {low}{left:.1},{side:.1}\"/>"
            )
        }
    }
}

/// What explains the series of a plot, above it.
pub(super) fn legend(entries: &[(Style, String, bool)]) -> String {
    let mut out = String::from("<ul class=\"legend\">");
    for (style, label, line) in entries {
        out.push_str("<li><svg aria-hidden=\"true\" viewBox=\"0 0 26 12\" width=\"26\" height=\"12\">");
        if *line {
            let _ = write!(out, "<path class=\"{} line\" {} d=\"M1 6H25\"/>", style.class(), style.stroke());
        }
        let _ = write!(out, "{}</svg>{}</li>", mark(13.0, 6.0, *style), escape(&short(label, 60)));
    }
    out.push_str("</ul>");
    out
}

/// A plot under way.
pub(super) struct Plot {
    title: String,
    width: f64,
    height: f64,
    /// Left, right, top, bottom of the field.
    field: [f64; 4],
    x: Scale,
    y: Scale,
    out: String,
}

impl Plot {
    /// An empty plot; `margins` are left, right, top, bottom.
    pub fn new(title: &str, size: (f64, f64), margins: [f64; 4], x: Scale, y: Scale) -> Self {
        let (width, height) = size;
        let [left, right, top, bottom] = margins;
        let field = [left, width - right, top, height - bottom];
        Self { title: title.into(), width, height, field, x, y, out: String::new() }
    }

    fn px(&self, v: f64) -> Option<f64> {
        let [left, right, ..] = self.field;
        self.x.share(v).map(|s| left + s * (right - left))
    }

    fn py(&self, v: f64) -> Option<f64> {
        let [.., top, bottom] = self.field;
        self.y.share(v).map(|s| bottom - s * (bottom - top))
    }

    fn at(&self, x: f64, y: f64) -> Option<(f64, f64)> {
        self.px(x).zip(self.py(y))
    }

    /// Text at a place in pixels; `anchor` is start, middle or end.
    pub fn text(&mut self, x: f64, y: f64, anchor: &str, class: &str, text: &str) {
        let text = escape(&short(text, 80));
        if text.is_empty() {
            return;
        }
        let _ = write!(
            self.out,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        );
    }

    fn path(&mut self, class: &str, more: &str, d: &str) {
        let _ = write!(self.out, "<path class=\"{class}\" {more} d=\"{d}\"/>");
    }

    /// The axis below, with about `n` ticks; `grid` draws them through the field.
    pub fn x_axis(&mut self, label: &str, n: usize, grid: bool) {
        let ticks = self.x.ticks(n);
        self.x_axis_at(label, &ticks, grid);
    }

    /// The axis below with these ticks.
    pub fn x_axis_at(&mut self, label: &str, ticks: &[f64], grid: bool) {
        let [left, right, top, bottom] = self.field;
        for &tick in ticks {
            let Some(x) = self.px(tick) else { continue };
            let from = if grid { top } else { bottom };
            self.path(
                if grid { "grid" } else { "axis" },
                "",
                &format!("M{x:.1} {from:.1}V{:.1}", bottom + 4.0),
            );
            let text = self.x.label(tick, ticks);
            self.text(x, bottom + 17.0, "middle", "tick", &text);
        }
        self.path("axis", "", &format!("M{left:.1} {bottom:.1}H{right:.1}"));
        self.text((left + right) / 2.0, bottom + 34.0, "middle", "label", label);
    }

    /// The axis at the left, with about `n` ticks through the field; its label stands above it.
    pub fn y_axis(&mut self, label: &str, n: usize) {
        let [left, right, top, _] = self.field;
        let ticks = self.y.ticks(n);
        for &tick in &ticks {
            let Some(y) = self.py(tick) else { continue };
            self.path("grid", "", &format!("M{left:.1} {y:.1}H{right:.1}"));
            let text = self.y.label(tick, &ticks);
            self.text(left - 6.0, y + 4.0, "end", "tick", &text);
        }
        if !label.is_empty() {
            self.text(2.0, top - 10.0, "start", "label", label);
        }
    }

    /// Names of rows, which lie at 0.5, 1.5, … of the y scale.
    pub fn rows(&mut self, names: &[String]) {
        for (i, name) in names.iter().enumerate() {
            if let Some(y) = self.py(i as f64 + 0.5) {
                let left = self.field[0];
                self.text(left - 10.0, y + 4.0, "end", "row", &short(name, 18));
            }
        }
    }

    /// A line through points, `shift` pixels to the right; where one is not a number, it breaks.
    pub fn line(&mut self, points: &[(f64, f64)], shift: f64, style: Style) {
        let mut d = String::new();
        let mut down = false;
        for &(x, y) in points {
            let at = self.at(x, y);
            if let Some((x, y)) = at {
                let x = x + shift;
                let _ = write!(d, "{}{x:.1} {y:.1}", if down { 'L' } else { 'M' });
            }
            down = at.is_some();
        }
        if !d.is_empty() {
            self.path(&format!("{} line", style.class()), &style.stroke(), &d);
        }
    }

    /// The area between points and zero.
    pub fn area(&mut self, points: &[(f64, f64)], style: Style) {
        let place: Vec<_> = points.iter().filter_map(|&(x, y)| self.at(x, y)).collect();
        let (Some(first), Some(last)) = (place.first(), place.last()) else { return };
        let bottom = self.field[3];
        let mut d = format!("M{:.1} {bottom:.1}", first.0);
        for (x, y) in &place {
            let _ = write!(d, "L{x:.1} {y:.1}");
        }
        let _ = write!(d, "L{:.1} {bottom:.1}Z", last.0);
        self.path(&format!("{} area", style.class()), "", &d);
    }

    /// A point, `shift` pixels to the right of its place.
    pub fn dot(&mut self, x: f64, y: f64, shift: f64, style: Style) {
        if let Some((x, y)) = self.at(x, y) {
            self.out.push_str(&mark(x + shift, y, style));
        }
    }

    /// An interval upright at `x`, `shift` pixels to the right.
    pub fn upright(&mut self, x: f64, e: &Estimate, shift: f64, style: Style) {
        if let (Some(x), Some(low), Some(high)) = (self.px(x), self.py(e.low), self.py(e.high)) {
            let x = x + shift;
            self.path(&format!("{} bar", style.class()), "", &format!("M{x:.1} {low:.1}V{high:.1}"));
        }
    }

    /// An interval lying at `y`.
    pub fn lying(&mut self, e: &Estimate, y: f64, style: Style) {
        if let (Some(y), Some(low), Some(high)) = (self.py(y), self.px(e.low), self.px(e.high)) {
            self.path(&format!("{} bar", style.class()), "", &format!("M{low:.1} {y:.1}H{high:.1}"));
        }
    }

    /// An upright line through the field with a word at its top.
    pub fn upright_line(&mut self, x: f64, class: &str, word: &str) {
        let [.., top, bottom] = self.field;
        if let Some(x) = self.px(x) {
            self.path(class, "", &format!("M{x:.1} {top:.1}V{bottom:.1}"));
            if !word.is_empty() {
                self.text(x, top - 5.0, "middle", "note", word);
            }
        }
    }

    /// A line across the field.
    pub fn level(&mut self, y: f64, class: &str) {
        let [left, right, ..] = self.field;
        if let Some(y) = self.py(y) {
            self.path(class, "", &format!("M{left:.1} {y:.1}H{right:.1}"));
        }
    }

    /// A rectangle from corner to corner; `strength` is how opaque, 0 to 1; `word` shows under a pointer.
    pub fn rect(&mut self, a: (f64, f64), b: (f64, f64), class: &str, strength: f64, word: &str) {
        let (Some((x0, y0)), Some((x1, y1))) = (self.at(a.0, a.1), self.at(b.0, b.1)) else { return };
        let (x, y, w, h) = (x0.min(x1), y0.min(y1), (x1 - x0).abs(), (y1 - y0).abs());
        let place = format!("x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\"");
        let _ = write!(self.out, "<rect class=\"{class}\" {place} fill-opacity=\"{strength:.2}\"");
        match word {
            "" => self.out.push_str("/>"),
            word => {
                let _ = write!(self.out, "><title>{}</title></rect>", escape(word));
            }
        }
    }

    /// What the strengths of heat cells mean: a bar from 0 to `most`, at a place in pixels.
    pub fn ramp(&mut self, x: f64, y: f64, height: f64, most: &str) {
        let part = height / 12.0;
        for i in 0..12 {
            let (y, strength) = (y + part * f64::from(11 - i), f64::from(i + 1) / 12.0);
            let place = format!("x=\"{x:.1}\" y=\"{y:.1}\" width=\"12\" height=\"{part:.1}\"");
            let _ = write!(self.out, "<rect class=\"heat\" {place} fill-opacity=\"{strength:.2}\"/>");
        }
        self.text(x + 18.0, y + 10.0, "start", "note", most);
        self.text(x + 18.0, y + height, "start", "note", "0");
    }

    /// Moves the lower end of the field down, so that what follows has room below the curves.
    pub fn lower(&mut self, by: f64) {
        self.field[3] += by;
    }

    /// An interval and its value at a height in pixels.
    pub fn strip(&mut self, e: &Estimate, y: f64, style: Style) {
        if let (Some(low), Some(x), Some(high)) = (self.px(e.low), self.px(e.value), self.px(e.high)) {
            self.path(&format!("{} bar", style.class()), "", &format!("M{low:.1} {y:.1}H{high:.1}"));
            self.out.push_str(&mark(x, y, style));
        }
    }

    /// Text beside a place on the scales.
    pub fn note(&mut self, x: f64, y: f64, shift: f64, anchor: &str, text: &str) {
        if let Some((x, y)) = self.at(x, y) {
            self.text(x + shift, y + 4.0, anchor, "note", text);
        }
    }

    /// The plot; `title` is its description for those who cannot see it.
    pub fn finish(self) -> String {
        let Self { title, width, height, out, .. } = self;
        let title = if title.is_empty() { NONE.into() } else { escape(&title) };
        format!(
            "<svg role=\"img\" viewBox=\"0 0 {width:.0} {height:.0}\" style=\"max-width:{width:.0}px;min-width:{:.0}px\">\
             <title>{title}</title>{out}</svg>",
            // Narrow screens shrink it so far as its text can still be read, then scroll.
            (width * 0.66).max(310.0).min(width)
        )
    }
}
