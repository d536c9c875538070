//! How figures are written, and how text from outside is made harmless.

use crate::experiment::stats::{Estimate, Verdict};

/// Stands where there is no figure.
pub(super) const NONE: &str = "–";

/// Characters of a text from outside that a report shows at most.
const LONGEST: usize = 4000;

/// A character as it may be shown: those that steer a terminal or turn the direction of writing become signs.
fn visible(c: char) -> char {
    match c {
        '\n' | '\t' => c,
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        '\x7f' => '\u{2421}',
        '\u{80}'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            '\u{fffd}'
        }
        '\u{fdd0}'..='\u{fdef}' => '\u{fffd}',
        c if u32::from(c) & 0xfffe == 0xfffe => '\u{fffd}',
        c => c,
    }
}

/// The first `limit` characters, and how many are left out.
pub(super) fn clip(text: &str, limit: usize) -> (&str, usize) {
    match text.char_indices().nth(limit) {
        Some((at, _)) => (&text[..at], text[at..].chars().count()),
        None => (text, 0),
    }
}

/// Text from outside, harmless in an element and in a quoted attribute; clipped, with a mark.
pub(super) fn escape(text: &str) -> String {
    let (kept, left_out) = clip(text, LONGEST);
    let mut out = String::with_capacity(kept.len() + kept.len() / 8);
    for c in kept.chars().map(visible) {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    if left_out > 0 {
        out.push_str(&format!(" … [{} characters left out]", count(left_out as u64)));
    }
    out
}

/// A name of at most `limit` characters on one line; not yet escaped.
pub(super) fn short(text: &str, limit: usize) -> String {
    let (kept, left_out) = clip(text, limit);
    let one_line = |c| if c == '\n' || c == '\t' { ' ' } else { visible(c) };
    let mut out: String = kept.chars().map(one_line).collect();
    if left_out > 0 {
        out.pop();
        out.push('…');
    }
    out
}

/// Lines of at most `width` characters; words that are longer are broken.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![];
    let mut line = String::new();
    let mut used = 0;
    for word in short(text, LONGEST).split_whitespace() {
        let letters: Vec<char> = word.chars().collect();
        for (i, piece) in letters.chunks(width).enumerate() {
            if used > 0 && (i > 0 || used + 1 + piece.len() > width) {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            line.extend(piece);
            used += piece.len();
        }
    }
    if used > 0 {
        lines.push(line);
    }
    lines
}

/// A true minus sign, and no zero below zero.
fn sign(figure: String) -> String {
    match figure.strip_prefix('-') {
        Some(rest) if !rest.contains(|c: char| ('1'..='9').contains(&c)) => rest.to_string(),
        _ => figure.replace('-', "−"),
    }
}

/// Three digits that count.
pub(super) fn number(x: f64) -> String {
    let size = x.abs();
    if !x.is_finite() {
        NONE.into()
    } else if size == 0.0 {
        "0".into()
    } else if !(1e-3..1e6).contains(&size) {
        let text = format!("{x:.1e}");
        sign(text.replace(".0e", "e"))
    } else {
        let decimals = (2 - size.log10().floor() as i32).max(0) as usize;
        sign(format!("{x:.decimals$}"))
    }
}

/// With so many decimals.
pub(super) fn fixed(x: f64, decimals: usize) -> String {
    if x.is_finite() { sign(format!("{x:.decimals$}")) } else { NONE.into() }
}

/// A share in percent.
pub(super) fn percent(share: f64) -> String {
    if share.is_finite() { format!("{}%", fixed(share * 100.0, 1)) } else { NONE.into() }
}

/// A difference of shares in points, with its sign.
pub(super) fn points(difference: f64) -> String {
    let figure = fixed(difference * 100.0, 1);
    let zero = !figure.contains(|c: char| ('1'..='9').contains(&c));
    if difference > 0.0 && difference.is_finite() && !zero { format!("+{figure}") } else { figure }
}

/// A value and its interval, each written by `write`.
pub(super) fn interval(e: &Estimate, write: impl Fn(f64) -> String) -> String {
    let (value, low, high) = (write(e.value), write(e.low), write(e.high));
    if low == NONE || high == NONE { value } else { format!("{value} [{low}, {high}]") }
}

/// A count with its thousands marked.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Parameters: 1.54 B.
pub(super) fn size(parameters: u64) -> String {
    match parameters as f64 {
        n if n >= 1e9 => format!("{} B", number(n / 1e9)),
        n if n >= 1e6 => format!("{} M", number(n / 1e6)),
        n if n >= 1e4 => format!("{} K", number(n / 1e3)),
        _ => count(parameters),
    }
}

/// Seconds as a reader says them.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        s if !s.is_finite() || s < 0.0 => NONE.into(),
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// A verdict's word.
pub(super) fn verdict(v: Verdict) -> &'static str {
    match v {
        Verdict::Preserved => "PRESERVED",
        Verdict::Degraded => "DEGRADED",
        Verdict::Catastrophic => "CATASTROPHIC",
        Verdict::Inconclusive => "INCONCLUSIVE",
    }
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn list(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}
