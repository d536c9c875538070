//! The README.md of a model that was quantized here.

use super::Summary;
use std::fmt::Write;

/// What a card tells.
pub(super) struct Card<'a> {
    /// The model that was quantized.
    pub model: &'a str,
    /// The layout of its codes.
    pub layout: &'a str,
    /// Bits, groups, and what chose them.
    pub how: &'a str,
    /// The directory's own name.
    pub out: &'a str,
    /// Who else reads it, by the layout's name.
    pub loads: &'a str,
    /// Whether there are no zeros in it.
    pub symmetric: bool,
    /// What was measured.
    pub summary: &'a Summary,
}

pub(super) fn card(card: &Card<'_>) -> String {
    let Summary { matrices, kept, bytes_before, bytes, bits_per_weight, relative_error, kinds, .. } =
        card.summary;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let mut text = format!(
        "# {}\n\n\
         {} with the matrices of its layers as codes, in the layout {}: {}. Written by `infer quantize` {}.\n\n\
         {matrices} matrices at {bits_per_weight:.2} bits a weight; {:.1} MiB of weights, {:.1} before. The rest are \
         floats: vectors as they were, {} in 16 bits.\n\n\
         ## What rounding changed\n\n\
         Σ (w − ŵ)² / Σ w² over all matrices of a kind, measured as they were written. It tells how far weights moved, \
         not what that does to the model's texts: `infer perplexity` and `infer ab` tell that.\n\n\
         | kind | matrices | weights | relative squared error |\n|---|---:|---:|---:|\n",
        card.out,
        card.model,
        card.layout,
        card.how,
        env!("CARGO_PKG_VERSION"),
        mib(*bytes),
        mib(*bytes_before),
        if kept.is_empty() { "no other matrix".to_owned() } else { names(kept) },
    );
    for kind in kinds {
        // Writing to a text cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.3e} |",
            kind.kind, kind.matrices, kind.weights, kind.relative_error
        );
    }
    let Summary { stored, unseen, unscaled, .. } = card.summary;
    let _ = writeln!(text, "| all | {matrices} | | {relative_error:.3e} |");
    if stored.len() > 1 {
        let stored: Vec<String> = stored.iter().map(|(how, count)| format!("{count} at {how}")).collect();
        let _ = writeln!(
            text,
            "\nMatrices are stored in several ways, by bits and group: {}.",
            stored.join(", ")
        );
    }
    for (list, problem) in [
        (unseen, "Rounded without looking at activations"),
        (unscaled, "Without factors, for which there was no place"),
    ] {
        if !list.is_empty() {
            let _ = writeln!(text, "\n{problem}: {}.", names(list));
        }
    }
    let others = match (card.loads, card.symmetric) {
        ("compressed-tensors", true) => {
            "vLLM, and transformers with the package compressed-tensors, read it too."
        }
        ("compressed-tensors", false) => {
            "vLLM reads it too. transformers does not: compressed-tensors, up to 0.12.2 at least, cannot unpack zeros \
             (`infer quantize --symmetric` stores none)."
        }
        _ => "Programs that read this layout run it too.",
    };
    let _ = write!(text, "\n## Use\n\n`infer -m {}` runs the codes as they are. {others}\n", card.out);
    text
}

/// The first few names.
fn names(kept: &[String]) -> String {
    let listed: Vec<&str> = kept.iter().take(4).map(String::as_str).collect();
    let more = if kept.len() > 4 { format!(" and {} more", kept.len() - 4) } else { String::new() };
    format!("{}{more}", listed.join(", "))
}
