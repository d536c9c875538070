//! Scales: where a number lies on an axis, and which numbers to mark.

use super::text::{fixed, number};

/// How a scale divides its range.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Linear,
    Log10,
    Log2,
}

/// What a scale counts in.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Unit {
    Plain,
    Percent,
    Points,
}

/// Numbers along an axis.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    kind: Kind,
    unit: Unit,
}

impl Scale {
    /// From `low` to `high`, as they are.
    pub fn fixed(low: f64, high: f64, unit: Unit) -> Self {
        Self { low, high, kind: Kind::Linear, unit }
    }

    /// Over all values, out to the next ticks.
    pub fn linear(values: impl IntoIterator<Item = f64>, unit: Unit) -> Self {
        let (mut low, mut high) = span(values.into_iter().filter(|v| v.is_finite())).unwrap_or((0.0, 1.0));
        if low == high {
            (low, high) = (low - 0.5, high + 0.5);
        }
        let step = nice((high - low) / 4.0);
        Self { low: (low / step).floor() * step, high: (high / step).ceil() * step, kind: Kind::Linear, unit }
    }

    /// Over all values above zero, out to powers of ten.
    pub fn log10(values: impl IntoIterator<Item = f64>) -> Self {
        let above = values.into_iter().filter(|v| v.is_finite() && *v > 0.0);
        let (low, high) = span(above.map(f64::log10)).unwrap_or((-1.0, 0.0));
        let (low, high) = (low.floor(), high.ceil());
        Self { low, high: if low == high { low + 1.0 } else { high }, kind: Kind::Log10, unit: Unit::Plain }
    }

    /// Over all values above zero, with a little room, in powers of two.
    pub fn log2(values: impl IntoIterator<Item = f64>) -> Self {
        let above = values.into_iter().filter(|v| v.is_finite() && *v > 0.0);
        let (low, high) = span(above.map(f64::log2)).unwrap_or((1.0, 8.0));
        Self { low: low - 0.3, high: high + 0.3, kind: Kind::Log2, unit: Unit::Plain }
    }

    /// Where `v` lies, 0 to 1; values beyond an end lie at it.
    pub fn share(&self, v: f64) -> Option<f64> {
        if !v.is_finite() {
            return None;
        }
        let at = match self.kind {
            Kind::Linear => v,
            Kind::Log10 if v > 0.0 => v.log10(),
            Kind::Log2 if v > 0.0 => v.log2(),
            _ => self.low,
        };
        let share = (at - self.low) / (self.high - self.low);
        share.is_finite().then(|| share.clamp(0.0, 1.0))
    }

    /// Whether `v` lies between the ends.
    pub fn holds(&self, v: f64) -> bool {
        self.share(v).is_some_and(|s| s > 0.0 && s < 1.0)
    }

    /// Values to mark, about `n` of them.
    pub fn ticks(&self, n: usize) -> Vec<f64> {
        let ends = (self.low, self.high);
        match self.kind {
            Kind::Linear => multiples(ends, nice((self.high - self.low) / n as f64)),
            Kind::Log10 | Kind::Log2 => {
                let base: f64 = if self.kind == Kind::Log2 { 2.0 } else { 10.0 };
                let step = ((self.high - self.low) / n as f64).ceil().max(1.0);
                multiples(ends, step).into_iter().map(|p| base.powf(p)).collect()
            }
        }
    }

    /// A tick's label among `ticks`.
    pub fn label(&self, v: f64, ticks: &[f64]) -> String {
        let factor = if self.unit == Unit::Plain { 1.0 } else { 100.0 };
        let step = ticks.get(1).map_or(1.0, |second| (second - ticks[0]) * factor);
        let decimals = (-step.log10() - 1e-9).ceil().clamp(0.0, 6.0) as usize;
        match (self.kind, self.unit) {
            (Kind::Log10, _) => power(v),
            (Kind::Log2, _) => number(v).trim_end_matches('0').trim_end_matches('.').to_string(),
            // Shares to the left of zero are shares of what went that way.
            (_, Unit::Percent) => format!("{}%", fixed(v.abs() * factor, decimals)),
            (_, Unit::Points) if v > 1e-12 => format!("+{}", fixed(v * factor, decimals)),
            _ => fixed(v * factor, decimals),
        }
    }
}

/// Least and greatest.
fn span(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |ends, v| Some(ends.map_or((v, v), |(a, b): (f64, f64)| (a.min(v), b.max(v)))))
}

/// The least of 1, 2, 5 × a power of ten that is not below `step`.
fn nice(step: f64) -> f64 {
    if !step.is_finite() || step < 1e-12 {
        return 1.0;
    }
    let power = 10f64.powf(step.log10().floor());
    let digit = [1.0, 2.0, 5.0, 10.0].into_iter().find(|d| d * power >= step * (1.0 - 1e-9));
    digit.unwrap_or(10.0) * power
}

/// Multiples of `step` between the ends; never many.
fn multiples((low, high): (f64, f64), step: f64) -> Vec<f64> {
    let first = (low / step - 1e-9).ceil();
    (0..100).map(|i| (first + f64::from(i)) * step).take_while(|v| *v <= high + step * 1e-9).collect()
}

/// A power of ten: as a figure where it is short, as 10⁻⁵ where not.
fn power(v: f64) -> String {
    let exponent = v.log10().round() as i32;
    match exponent {
        -2..=0 => fixed(v, (-exponent) as usize),
        1..=3 => fixed(v, 0),
        _ => {
            let raised = |c| match c {
                '-' => '⁻',
                '1' => '¹',
                '2' => '²',
                '3' => '³',
                '0' | '4'..='9' => char::from_u32(0x2070 + u32::from(c) - 0x30).unwrap_or(c),
                c => c,
            };
            format!("10{}", exponent.to_string().chars().map(raised).collect::<String>())
        }
    }
}
