//! Files that a run leaves: `results.json`, `samples_*.jsonl` (both with the names of lm-evaluation-harness) and
//! `report.html`. `docs/results.md` describes them.

use super::prompts::{Prompter, answer, is_right};
use super::report;
use super::results::Results;
use super::run::{Found, Plan};
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a file in one piece: under another name first, so that there is never half of it.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    std::fs::write(&part, text).map_err(|e| Error::io(&part, e))?;
    std::fs::rename(&part, path).map_err(|e| Error::io(path, e))
}

/// Results as JSON: all of [`Results`], and under `results` what lm-evaluation-harness would call its figures, by
/// task and arm.
pub fn results_json(results: &Results) -> Value {
    let mut all = match json!(results) {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    let mut by_task = Map::new();
    for cell in &results.cells {
        let entry = by_task.entry(format!("{} ({})", cell.task, cell.arm)).or_insert_with(|| json!({}));
        let old = |key: &str| entry[key].as_u64().unwrap_or(0);
        let (n_key, right_key) = (format!("n,{}", cell.mode), format!("right,{}", cell.mode));
        let (n, right) = (old(&n_key) + cell.n as u64, old(&right_key) + cell.right as u64);
        let share = right as f64 / n.max(1) as f64;
        let error = (share * (1.0 - share) / n.saturating_sub(1).max(1) as f64).sqrt();
        entry[n_key] = json!(n);
        entry[right_key] = json!(right);
        entry[format!("exact_match,{}", cell.mode)] = json!(share);
        entry[format!("exact_match_stderr,{}", cell.mode)] = json!(error);
    }
    all.insert("results".to_owned(), Value::Object(by_task));
    Value::Object(all)
}

/// Writes everything into `directory`; gives the paths of the report and of the results.
///
/// # Errors
/// When a file cannot be written.
pub fn write_all(
    directory: &Path,
    results: &Results,
    plan: &Plan,
    prompter: &Prompter<'_>,
    found: &Found,
) -> Result<PathBuf> {
    std::fs::create_dir_all(directory).map_err(|e| Error::io(directory, e))?;
    let json = serde_json::to_string_pretty(&results_json(results))
        .map_err(|e| Error::Model(format!("results cannot be written as JSON: {e}")))?;
    write(&directory.join("results.json"), &(json + "\n"))?;
    for (file, text) in samples(plan, prompter, found)? {
        write(&directory.join(file), &text)?;
    }
    let path = directory.join("report.html");
    write(&path, &report::html(results))?;
    Ok(path)
}

/// One file a task and arm.
fn samples(plan: &Plan, prompter: &Prompter<'_>, found: &Found) -> Result<Vec<(String, String)>> {
    let mut files: Vec<(String, String)> = Vec::new();
    for (m, &mode) in plan.modes.iter().enumerate() {
        for (a, arm) in plan.arms.iter().enumerate() {
            for ((doc_id, question), reply) in plan.questions.iter().enumerate().zip(&found.replies[m][a]) {
                let prompt = prompter.text(question, mode)?;
                let said = answer(mode, &reply.text).unwrap_or_default();
                let doc = json!(question);
                let line = json!({
                    "doc_id": doc_id,
                    "doc": doc,
                    "target": question.answer,
                    "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": {"do_sample": false, "max_gen_toks": plan.max_tokens}}},
                    "resps": [[reply.text]],
                    "filtered_resps": [said],
                    "filter": mode.name(),
                    "metrics": ["exact_match"],
                    "exact_match": f64::from(u8::from(is_right(question, Some(said).filter(|s| !s.is_empty())))),
                    "cut_off": reply.cut,
                    "doc_hash": sha256(doc.to_string().as_bytes()),
                    "prompt_hash": sha256(prompt.as_bytes()),
                    "target_hash": sha256(question.answer.as_bytes()),
                });
                let plain = |text: &str| -> String {
                    text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(60).collect()
                };
                let file = format!("samples_{}_{}.jsonl", plain(&question.task), plain(&arm.name));
                let index = files.iter().position(|(name, _)| *name == file).unwrap_or_else(|| {
                    files.push((file, String::new()));
                    files.len() - 1
                });
                let _ = writeln!(files[index].1, "{line}");
            }
        }
    }
    Ok(files)
}
