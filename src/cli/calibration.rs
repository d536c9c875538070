//! What `infer quantize` calibrates on: a text of the user's, or one that ships with the program.

use super::perplexity;
use super::session::Description;
use crate::error::{Error, Result};
use crate::experiment::prompts::{Mode, Prompter, worked};
use crate::experiment::tasks::{Split, TASKS};
use std::path::Path;

/// Written for this project; its source is told in docs/quantizers.md.
const TEXT: &str = include_str!("../../models/calibration.txt");

/// Tokens of a window: each is read from its own beginning.
pub const WINDOW: usize = 512;

/// Windows that are in flight at once.
pub const SEQUENCES: usize = 4;

/// Tokens that are taken of a text unless more are asked for.
pub const TOKENS: usize = 4096;

/// Training questions of each task and number of steps.
const QUESTIONS: usize = 16;

/// A text, in windows.
pub struct Texts {
    /// What it is, for people.
    pub source: String,
    /// Its tokens.
    pub windows: Vec<Vec<u32>>,
}

impl Texts {
    /// Of a file, or else those that suit the model: training questions with their worked answers for models that were
    /// trained on the experiment's tasks, a short English text for all others.
    ///
    /// # Errors
    /// When the file cannot be read, is no UTF-8 text or holds nothing.
    pub fn new(file: Option<&Path>, model: &Description, window: usize, most: usize) -> Result<Self> {
        let tokenizer = &model.tokenizer;
        let of_text = |text: &str, source: String| -> Result<Self> {
            let mut tokens = tokenizer.encode(text, true)?;
            tokens.truncate(most);
            let windows = tokens.chunks(window).map(<[u32]>::to_vec).collect();
            Ok(Texts { source, windows })
        };
        let Some(file) = file else {
            let prompter = Prompter::new(tokenizer, &[])?;
            return match tokenizer.id("\nThought:") {
                Some(_) => Ok(Texts {
                    source: "training questions".to_owned(),
                    windows: tasks(&prompter, window, most)?,
                }),
                None => of_text(TEXT, "the text that ships with the program".to_owned()),
            };
        };
        let text = perplexity::read(file)?;
        if text.trim().is_empty() {
            return Err(Error::file(file, "holds no text to calibrate on"));
        }
        of_text(&text, file.display().to_string())
    }

    /// Tokens of all windows.
    pub fn tokens(&self) -> usize {
        self.windows.iter().map(Vec::len).sum()
    }
}

/// Training questions with thought and answer, tasks and steps in turn.
fn tasks(prompter: &Prompter<'_>, window: usize, most: usize) -> Result<Vec<Vec<u32>>> {
    let mut kinds = Vec::new();
    for task in TASKS {
        for steps in task.steps.clone() {
            kinds.push(task.generate(steps, QUESTIONS, 1, Split::Train)?);
        }
    }
    let (mut texts, mut left) = (Vec::new(), most);
    for i in 0..QUESTIONS {
        for question in kinds.iter().filter_map(|questions| questions.get(i)) {
            let mode = if i % 4 == 3 { Mode::Direct } else { Mode::Thought };
            let text = prompter.text(question, mode)? + &worked(question, mode) + "\n";
            let mut tokens = prompter.encode(&text)?;
            tokens.truncate(window.min(left));
            left -= tokens.len();
            if !tokens.is_empty() {
                texts.push(tokens);
            }
        }
    }
    Ok(texts)
}

/// Whether a pattern fits a matrix's name: part of it, or all of it where there are stars, which stand for anything.
pub fn fits(pattern: &str, name: &str) -> bool {
    let stem = name.strip_suffix(".weight").unwrap_or(name);
    let Some((first, rest)) = pattern.split_once('*') else { return name.contains(pattern) };
    let whole = |name: &str| -> bool {
        let Some(mut left) = name.strip_prefix(first) else { return false };
        let mut parts: Vec<&str> = rest.split('*').collect();
        let last = parts.pop().unwrap_or("");
        for part in parts {
            match left.find(part) {
                Some(at) => left = &left[at + part.len()..],
                None => return false,
            }
        }
        left.ends_with(last)
    };
    whole(stem) || whole(name)
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn patterns_fit_parts_or_all_of_a_name() {
        let name = "model.layers.11.mlp.down_proj.weight";
        for pattern in [
            "down_proj",
            ".layers.11.",
            "layers.1",
            "*down_proj",
            "*.11.*",
            "model.*.down_proj",
            "model*weight",
            "*",
            "",
        ] {
            assert!(fits(pattern, name), "{pattern}");
        }
        for pattern in
            ["up_proj", "layers.2", "down_proj*x", "*.1.*", "layers*down_proj", "model.*.up_proj", "*down"]
        {
            assert!(!fits(pattern, name), "{pattern}");
        }
        // What a star stands for does not overlap what comes after it.
        assert!(!fits("ab*ba", "aba") && fits("ab*ba", "abba"));
    }
}
