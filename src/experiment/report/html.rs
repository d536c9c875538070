//! The pieces that every page is made of.

use super::text::{NONE, escape, verdict};
use crate::experiment::results::DeviceInfo;
use crate::experiment::stats::Verdict;

/// A whole page. Nothing may be loaded and nothing may run.
pub(super) fn skeleton(title: &str, version: &str, body: &str) -> String {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
    let (title, version, style) = (escape(title), escape(version), include_str!("style.css"));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n<title>{title}</title>\n\
         <style>\n{style}</style>\n</head>\n<body>\n<main>\n{body}\n\
         <footer>Made by sixteen-states {version}. The same figures, as data, lie beside this page.</footer>\n\
         </main>\n</body>\n</html>\n"
    )
}

/// A section's heading.
pub(super) fn heading(text: &str) -> String {
    format!("\n<h2>{text}</h2>\n")
}

/// Plots with their legend and caption; the caption is markup already.
pub(super) fn figure(plots: &[String], legend: &str, caption: &str) -> String {
    let plots = plots.concat();
    format!("<figure>{legend}<div class=\"plots\">{plots}</div><figcaption>{caption}</figcaption></figure>\n")
}

/// A table that scrolls where it is too wide. Cells are markup; the first of a row is its heading, and the first
/// `words` columns hold words, not figures.
pub(super) fn table(words: usize, head: &[&str], rows: &[(&str, Vec<String>)], caption: &str) -> String {
    let side = |i| if i > 0 && i < words { " class=\"text\"" } else { "" };
    let named = head.iter().enumerate().map(|(i, h)| format!("<th scope=\"col\"{}>{h}</th>", side(i)));
    let named: String = named.collect();
    let cell = |(i, cell): (usize, &String)| match i {
        0 => format!("<th scope=\"row\">{cell}</th>"),
        _ => format!("<td{}>{cell}</td>", side(i)),
    };
    let row = |(class, cells): &(&str, Vec<String>)| {
        let cells: String = cells.iter().enumerate().map(cell).collect();
        format!("<tr class=\"{class}\">{cells}</tr>")
    };
    let body: String = rows.iter().map(row).collect();
    // Beneath the table, not in it: there it would scroll away with the table, or be as narrow.
    let caption =
        if caption.is_empty() { String::new() } else { format!("<p class=\"caption\">{caption}</p>") };
    format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"Table by {}\" tabindex=\"0\"><table><thead><tr>{named}</tr></thead>\
         <tbody>{body}</tbody></table></div>{caption}\n",
        head.first().unwrap_or(&"row").to_lowercase()
    )
}

/// Names and values; values are markup.
pub(super) fn facts(pairs: &[(&str, String)]) -> String {
    let pairs: String =
        pairs.iter().map(|(name, value)| format!("<dt>{name}</dt><dd>{value}</dd>")).collect();
    format!("<dl>{pairs}</dl>\n")
}

/// Sentences from outside as a list.
pub(super) fn sentences(all: &[String]) -> String {
    let items: String = all.iter().map(|s| format!("<li>{}</li>", escape(s))).collect();
    if items.is_empty() { items } else { format!("<ul>{items}</ul>\n") }
}

/// A device in words; markup.
pub(super) fn device(d: &DeviceInfo) -> String {
    let parts = [&d.name, &d.backend, &d.driver];
    parts.iter().filter(|p| !p.is_empty()).map(|p| escape(p)).collect::<Vec<_>>().join(" · ")
}

/// The class that gives a verdict its colour.
pub(super) fn class(v: Verdict) -> String {
    verdict(v).to_lowercase()
}

/// A verdict in a table.
pub(super) fn word(v: Verdict) -> String {
    format!("<span class=\"word {}\">{}</span>", class(v), verdict(v))
}

/// A figure with its interval beneath it.
pub(super) fn two_lines(value: String, low: String, high: String) -> String {
    if low == NONE || high == NONE { value } else { format!("{value}<small>{low} to {high}</small>") }
}
