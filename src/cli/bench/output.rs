//! The rows of `infer bench` as text.

use super::Row;
use crate::engine::Limits;
use std::fmt::Write;

/// A table, and below it what is true of all rows, or of all of a format.
pub fn markdown(rows: &[Row], limits: Limits) -> String {
    let head = ["model", "size", "params", "format", "test", "tok/s", "of limit", "device", "host"];
    let mut lines = vec![head.map(str::to_owned)];
    for row in rows {
        let per = if row.dispatches.is_some() { "step" } else { "token" };
        let time = |seconds: f64| format!("{:.3} ms/{per}", seconds * 1e3);
        lines.push([
            row.model.clone(),
            format!("{:.2} MiB", row.weight_bytes as f64 / f64::from(1 << 20)),
            format!("{:.2} M", row.parameters as f64 / 1e6),
            row.format.clone(),
            row.test.clone(),
            format!("{:.2} ± {:.2}", row.tokens_per_s, row.tokens_per_s_sd),
            row.of_limit.map_or("–".to_owned(), |share| format!("{:.1}%", share * 100.0)),
            row.device_s.map_or("–".to_owned(), time),
            time(row.host_s),
        ]);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for (i, line) in lines.iter().enumerate() {
        for (column, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            let pad = " ".repeat(width - cell.chars().count());
            let _ = match column >= 5 {
                true => write!(text, "| {pad}{cell} "),
                false => write!(text, "| {cell}{pad} "),
            };
        }
        text += "|\n";
        if i == 0 {
            for (column, &width) in widths.iter().enumerate() {
                let _ = write!(text, "| {}{} ", "-".repeat(width - 1), if column >= 5 { ':' } else { '-' });
            }
            text += "|\n";
        }
    }
    if let Some(row) = rows.first() {
        let makes = [
            (Some(limits.f32_flops), "f32"),
            (limits.f16_flops, "f16"),
            (limits.matrix_flops, "matrices of f16"),
        ];
        let makes: Vec<String> = makes
            .iter()
            .filter_map(|(flops, name)| Some(format!("{:.2} ({name})", (*flops)? / 1e9)))
            .collect();
        let _ = writeln!(
            text,
            "\n{} ({}, {}): copies {:.2} GB/s (read and written), makes {} GFLOP/s",
            row.device,
            row.backend,
            row.driver,
            limits.copy_bytes_per_s / 1e9,
            makes.join(", ")
        );
    }
    let mut last = "";
    for row in rows.iter().filter(|row| std::mem::replace(&mut last, &row.format) != row.format) {
        let _ = writeln!(
            text,
            "{}: loaded in {:.2} s{}, first token {:.2} s after that, {:.2} s once warm, at most {:.1} MiB on the device",
            row.format,
            row.load_s,
            if row.packed_on_device > 0 { " (packed on the device)" } else { "" },
            row.first_token_cold_s,
            row.first_token_warm_s,
            row.peak_bytes as f64 / f64::from(1 << 20)
        );
    }
    text
}

/// All figures, a row a line.
pub fn csv(rows: &[Row]) -> String {
    let mut text = "model,parameters,format,device,backend,driver,test,tokens,depth,sequences,weight_bytes,peak_bytes,load_s,\
                    packed_on_device,first_token_cold_s,first_token_warm_s,tokens_per_s,tokens_per_s_sd,device_s,host_s,dispatches,\
                    bytes_per_step,copy_bytes_per_s,f32_flops,f16_flops,matrix_flops,of_limit\n"
        .to_owned();
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let or_empty = |value: Option<String>| value.unwrap_or_default();
    for r in rows {
        let texts = [&r.model, &r.format, &r.device, &r.backend, &r.driver, &r.test].map(|text| quoted(text));
        let [model, format, device, backend, driver, test] = texts;
        let _ = writeln!(
            text,
            "{model},{},{format},{device},{backend},{driver},{test},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}",
            r.parameters,
            r.work.tokens,
            r.work.depth,
            r.work.sequences,
            r.weight_bytes,
            r.peak_bytes,
            r.load_s,
            r.packed_on_device,
            r.first_token_cold_s,
            r.first_token_warm_s,
            r.tokens_per_s,
            r.tokens_per_s_sd,
            or_empty(r.device_s.map(|s| s.to_string())),
            r.host_s,
            or_empty(r.dispatches.map(|n| n.to_string())),
            or_empty(r.bytes_per_step.map(|n| n.to_string())),
            r.limits.copy_bytes_per_s,
            r.limits.f32_flops,
            or_empty(r.limits.f16_flops.map(|f| f.to_string())),
            or_empty(r.limits.matrix_flops.map(|f| f.to_string())),
            or_empty(r.of_limit.map(|share| share.to_string()))
        );
    }
    text
}
