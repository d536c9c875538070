//! Questions of a user's own, one JSON object a line.

use super::tasks::Question;
use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Longest file that is read, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// A line as the user writes it, or as `infer tasks generate` does.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    prompt: String,
    answer: Answer,
    id: Option<String>,
    choices: Option<Vec<String>>,
    thought: Option<Thought>,
    task: Option<String>,
    steps: Option<usize>,
    chance: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Text(String),
    Number(serde_json::Number),
    Truth(bool),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Thought {
    Text(String),
    Steps(Vec<String>),
}

/// Reads questions.
///
/// # Errors
/// When the file cannot be read, or a line is not a question with an answer that can be checked; the message names
/// the line.
pub fn read(path: &Path) -> Result<Vec<Question>> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::file(path, format!("is longer than {MAX_BYTES} bytes, expected fewer questions")));
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        Error::file(path, format!("is not UTF-8 text: byte {} is no character", e.utf8_error().valid_up_to()))
    })?;
    let (mut questions, mut ids) = (Vec::new(), HashSet::new());
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let bad = |problem: String| Error::file(path, format!("line {}: {problem}", i + 1));
        let question = parse(line, questions.len()).map_err(bad)?;
        if !ids.insert(question.id.clone()) {
            return Err(bad(format!("the id {:?} is there twice", question.id)));
        }
        questions.push(question);
    }
    match questions.is_empty() {
        true => Err(Error::file(
            path,
            "holds no question, expected lines such as {\"prompt\": \"2+2?\", \"answer\": \"4\"}",
        )),
        false => Ok(questions),
    }
}

fn parse(line: &str, number: usize) -> Result<Question, String> {
    let line: Line = serde_json::from_str(line).map_err(|e| {
        format!("{e}; expected {{\"prompt\": \"…\", \"answer\": \"…\"}} with \"id\", \"choices\", \"thought\" if you like")
    })?;
    let answer = match line.answer {
        Answer::Text(text) => text.trim().to_owned(),
        Answer::Number(number) => number.to_string(),
        Answer::Truth(truth) => truth.to_string(),
    };
    if line.prompt.trim().is_empty() {
        return Err("the prompt is empty".to_owned());
    }
    // A reply's answer is one line: what has none, or several, could never be right.
    if answer.trim_end_matches('.').is_empty() || answer.contains('\n') {
        return Err(format!("the answer is {answer:?}, expected one line of text that a reply can end with"));
    }
    let mut chance = line.chance.unwrap_or(0.0);
    if !(0.0..1.0).contains(&chance) {
        return Err(format!("\"chance\" is {chance}, expected 0 or more and less than 1"));
    }
    if let Some(choices) = &line.choices {
        let same = |choice: &&String| choice.trim().eq_ignore_ascii_case(&answer);
        if choices.len() < 2 || choices.iter().filter(same).count() != 1 {
            return Err(format!(
                "the answer {answer:?} is not one of its {} choices, expected it there once",
                choices.len()
            ));
        }
        chance = 1.0 / choices.len() as f64;
    }
    let mut prompt = line.prompt;
    if let Some(choices) = line.choices {
        prompt += &format!(" ({})", choices.join(", "));
    }
    let thought = match line.thought {
        None => Vec::new(),
        Some(Thought::Text(text)) => {
            text.split([';', '\n']).map(|step| step.trim().to_owned()).filter(|s| !s.is_empty()).collect()
        }
        Some(Thought::Steps(steps)) => steps,
    };
    Ok(Question {
        id: line.id.unwrap_or_else(|| format!("own-{number}")),
        task: line.task.filter(|task| !task.is_empty()).unwrap_or_else(|| "own".to_owned()),
        steps: line.steps.unwrap_or(thought.len()),
        prompt,
        answer,
        thought,
        chance,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Question>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.jsonl");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn questions_are_read() {
        let text = "{\"prompt\":\"2+2?\",\"answer\":4}\n\n{\"prompt\":\"Is it?\",\"answer\":true,\"id\":\"x\",\
                    \"choices\":[\"true\",\"false\"],\"thought\":\"a; b\"}\n";
        let questions = read_text(text).unwrap();
        assert_eq!((questions[0].answer.as_str(), questions[0].id.as_str()), ("4", "own-0"));
        assert_eq!((questions[1].chance, questions[1].steps), (0.5, 2));
        assert!(questions[1].prompt.ends_with("(true, false)"));
    }

    #[test]
    fn generated_questions_are_read_as_they_were() {
        let made = crate::experiment::tasks::TASKS[1]
            .generate(3, 4, 1, crate::experiment::tasks::Split::Test)
            .unwrap();
        let lines: Vec<String> = made.iter().map(|q| serde_json::to_string(q).unwrap()).collect();
        assert_eq!(read_text(&lines.join("\n")).unwrap(), made);
    }

    #[test]
    fn bad_lines_are_named() {
        let good = "{\"prompt\":\"2+2?\",\"answer\":\"4\"}\n";
        for (line, expected) in [
            ("{\"prompt\":\"x\"", "line 2: "),
            ("[1]", "line 2: "),
            ("{\"prompt\":\"x\"}", "missing field `answer`"),
            ("{\"prompt\":\"x\",\"answer\":\"\"}", "expected one line of text"),
            ("{\"prompt\":\"x\",\"answer\":\"a\\nb\"}", "expected one line of text"),
            ("{\"prompt\":\"x\",\"answer\":[1]}", "line 2: "),
            ("{\"prompt\":\" \",\"answer\":\"a\"}", "the prompt is empty"),
            ("{\"prompt\":\"x\",\"answer\":\"a\",\"choices\":[\"b\",\"c\"]}", "not one of its 2 choices"),
            ("{\"prompt\":\"x\",\"answer\":\"a\",\"anser\":\"b\"}", "unknown field"),
            ("{\"prompt\":\"x\",\"answer\":\"a\",\"chance\":1}", "\"chance\" is 1"),
            ("{\"prompt\":\"x\",\"answer\":\"a\",\"id\":\"own-0\"}", "there twice"),
        ] {
            let error = read_text(&format!("{good}{line}\n")).unwrap_err().to_string();
            assert!(error.contains("line 2") && error.contains(expected), "{line}: {error}");
        }
        assert!(read_text("\n").unwrap_err().to_string().contains("no question"));
    }
}
