//! Names of treatments: `q4:32`, `lut16:tensor`, `noise`, `broken-u8:64` …

use super::{Disturb, Granularity, Scheme, Treatment};
use crate::format::BLOCK;
use crate::quantize::{LONGEST_GROUP, QUANTIZERS, Quantizer};
use std::fmt::Write;

/// What arms are called.
const GRAMMAR: &str =
    "f16, q8, q4, uN, nf4, lutN (N being 2 to 256 states), noise, noise-ARM, broken or broken-ARM";

/// What may follow an arm's name.
const GROUPS: &str = "32, 64, 128 (or another multiple of 8 up to 128), channel or tensor";

impl Treatment {
    /// The treatment that an arm's name stands for; none for `f16`.
    ///
    /// `q8`, `q4` and `uN` are 256, 16 and N evenly spaced states, `lutN` a table of N. `:G` says which weights share
    /// them: groups of 32 as a rule, of 64 for `nf4`, `tensor` for `lutN`. `noise-ARM` is noise as large as that arm's
    /// rounding and `broken-ARM` that arm with scales shuffled; both are of `q4` where none is named. `@rtn` names
    /// the quantizer, else it is [`QUANTIZERS`]' first.
    ///
    /// # Errors
    /// What was found, what is expected, and an example.
    pub fn parse(text: &str) -> Result<Option<Treatment>, String> {
        if text == "f16" {
            return Ok(None);
        }
        let wrong = |problem: String| format!("arm {text:?}: {problem}");
        let (arm, quantizer) = match text.split_once('@') {
            Some((arm, name)) => (arm, Some(name)),
            None => (text, None),
        };
        let (kind, group) = match arm.split_once(':') {
            Some((kind, group)) => (kind, Some(group)),
            None => (arm, None),
        };
        let (kind, disturb) = match kind.split_once('-').unwrap_or((kind, "q4")) {
            ("noise", kind) => (kind, Disturb::Noise { seed: 0 }),
            ("broken", kind) => (kind, Disturb::Shuffled { seed: 0 }),
            _ => (kind, Disturb::None),
        };
        let states = |count: &str| match digits(count).and_then(|n| u32::try_from(n).ok()) {
            Some(states @ 2..=256) => Ok(states),
            _ => Err(wrong(format!("{count:?} states, expected 2 to 256, as in u16 or lut16"))),
        };
        let scheme = match (kind, kind.strip_prefix("lut"), kind.strip_prefix('u')) {
            ("q8", ..) => Scheme::Uniform { states: 256 },
            ("q4", ..) => Scheme::Uniform { states: 16 },
            ("nf4", ..) => Scheme::Nf4,
            (_, Some(count), _) => Scheme::Lloyd { states: states(count)? },
            (_, _, Some(count)) => Scheme::Uniform { states: states(count)? },
            _ => return Err(wrong(format!("{kind:?} is none, expected {GRAMMAR}, as in q4:32"))),
        };
        let granularity = match (group, scheme) {
            (Some("channel"), _) => Granularity::Channel,
            (Some("tensor"), _) | (None, Scheme::Lloyd { .. }) => Granularity::Tensor,
            (None, Scheme::Nf4) => Granularity::Group(64),
            (None, Scheme::Uniform { .. }) => Granularity::Group(32),
            (Some(group), _) => match digits(group) {
                Some(n) if (BLOCK..=LONGEST_GROUP).contains(&n) && n.is_multiple_of(BLOCK) => {
                    Granularity::Group(n)
                }
                _ => return Err(wrong(format!("groups of {group:?}, expected {GROUPS}, as in q4:32"))),
            },
        };
        let even = matches!(scheme, Scheme::Uniform { .. });
        if matches!(disturb, Disturb::Shuffled { .. })
            && !(even && matches!(granularity, Granularity::Group(_)))
        {
            let problem = "scales are shuffled between groups of evenly spaced states, as in broken:32";
            return Err(wrong(problem.to_owned()));
        }
        let quantizer = match quantizer {
            None => QUANTIZERS[0],
            Some(_) if !even => {
                let problem = "a quantizer is for evenly spaced states, as in q4:32@rtn";
                return Err(wrong(problem.to_owned()));
            }
            Some(name) => Quantizer::named(name).filter(|q| q.calibrated.is_none()).ok_or_else(|| {
                // Those that look at activations are for `infer quantize`, whose files can be arms.
                let known = QUANTIZERS.iter().filter(|q| q.calibrated.is_none());
                let names: Vec<&str> = known.map(|q| q.name).collect();
                wrong(format!("quantizer {name:?}, expected {}, as in q4:32@rtn", names.join(" or ")))
            })?,
        };
        Ok(Some(Treatment { scheme, granularity, disturb, quantizer }))
    }

    /// Its name as an arm, in full; seeds are no part of it.
    pub fn name(&self) -> String {
        let kind = match self.scheme {
            Scheme::Uniform { states: 256 } => "q8".to_owned(),
            Scheme::Uniform { states: 16 } => "q4".to_owned(),
            Scheme::Uniform { states } => format!("u{states}"),
            Scheme::Nf4 => "nf4".to_owned(),
            Scheme::Lloyd { states } => format!("lut{states}"),
        };
        let mut name = match (self.disturb, kind.as_str()) {
            (Disturb::None, _) => kind,
            (Disturb::Noise { .. }, "q4") => "noise".to_owned(),
            (Disturb::Noise { .. }, _) => format!("noise-{kind}"),
            (Disturb::Shuffled { .. }, "q4") => "broken".to_owned(),
            (Disturb::Shuffled { .. }, _) => format!("broken-{kind}"),
        };
        // Writing to a text cannot fail.
        let _ = match self.granularity {
            Granularity::Group(group) => write!(name, ":{group}"),
            Granularity::Channel => write!(name, ":channel"),
            Granularity::Tensor => write!(name, ":tensor"),
        };
        if self.quantizer != QUANTIZERS[0] {
            let _ = write!(name, "@{}", self.quantizer.name);
        }
        name
    }

    /// In words.
    pub fn description(&self) -> String {
        let plain = Treatment { disturb: Disturb::None, ..*self };
        match self.disturb {
            Disturb::Noise { .. } => {
                return format!("16-bit floats plus Gaussian noise as large as {}'s rounding", plain.name());
            }
            Disturb::Shuffled { .. } => {
                return format!("{} with scales shuffled between groups", plain.name());
            }
            Disturb::None => {}
        }
        let states = self.scheme.states();
        let placed = match self.scheme {
            Scheme::Uniform { .. } => "evenly spaced",
            Scheme::Nf4 => "spaced by the normal distribution (NF4)",
            Scheme::Lloyd { .. } => "placed by Lloyd-Max",
        };
        let mut text = match (self.granularity, self.scheme) {
            (Granularity::Group(group), _) => {
                format!("{states} states, {placed}, in groups of {group} weights")
            }
            (Granularity::Channel, _) => format!("{states} states, {placed}, for each row"),
            (Granularity::Tensor, _) => {
                format!("the literal {states} states for each whole matrix, {placed}")
            }
        };
        if self.quantizer != QUANTIZERS[0] {
            let _ = write!(text, ", chosen by {}", self.quantizer.name);
        }
        text
    }
}

/// A whole number in digits and nothing else.
fn digits(text: &str) -> Option<usize> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}
