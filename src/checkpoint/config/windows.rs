//! How far back each layer sees.

use super::MAX_POSITIONS;
use super::family::{Family, Windows};
use super::fields::{Fields, found};
use serde_json::Value;

/// For each of `layers` layers its window, if it has one: by `layer_types` where the configuration lists them, else by
/// the family's rule.
pub(super) fn windows(fields: &Fields, family: &Family, layers: usize) -> Result<Vec<Option<usize>>, String> {
    let window = match fields.get("sliding_window") {
        Some(_) => Some(fields.size("sliding_window", MAX_POSITIONS, None)?),
        None => family.window.filter(|_| !fields.has("sliding_window")),
    };
    // Qwen's configurations have such a switch, and SmolLM3's, and it is off if left out.
    let switched = matches!(family.windows, Windows::Later(_) | Windows::Still);
    let in_use = fields.flag("use_sliding_window", !switched)?;
    let window = window.filter(|_| in_use);
    let all = |has: &dyn Fn(usize) -> bool| (0..layers).map(|i| window.filter(|_| has(i))).collect();
    if let Some(kinds) = fields.get("layer_types") {
        let expected = format!("\"full_attention\" or \"sliding_attention\" for each of {layers} layers");
        let wrong = || found("layer_types", Some(kinds), &expected);
        let list = kinds.as_array().filter(|kinds| kinds.len() == layers).ok_or_else(wrong)?;
        let slides = |kind: &Value| match kind.as_str() {
            Some("full_attention") => Some(false),
            Some("sliding_attention") => Some(true),
            _ => None,
        };
        let slides: Vec<bool> = list.iter().map(slides).collect::<Option<_>>().ok_or_else(wrong)?;
        if window.is_none() && slides.contains(&true) {
            let expected = "a window for the layers with \"sliding_attention\"";
            return Err(found("sliding_window", fields.get("sliding_window"), expected));
        }
        return Ok(all(&|i| slides[i]));
    }
    Ok(match family.windows {
        Windows::All => all(&|_| true),
        Windows::Alternating => all(&|i| i % 2 == 0),
        Windows::Pattern => {
            let pattern = fields.size("sliding_window_pattern", 1000, Some(6))?;
            all(&|i| (i + 1) % pattern != 0)
        }
        Windows::Still => {
            let still = family.no_rope_layers(fields, layers)?;
            all(&|i| still[i])
        }
        Windows::Later(first) => {
            let first = match fields.get("max_window_layers") {
                None => first,
                Some(value) => value.as_u64().ok_or_else(|| {
                    found("max_window_layers", Some(value), "the number of layers without a window")
                })?,
            };
            all(&|i| i as u64 >= first)
        }
    })
}
