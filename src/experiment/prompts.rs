//! How questions are put to a model, and how its replies are read.

use super::tasks::{Question, Task};
use crate::error::{Error, Result};
use crate::text::{ChatTemplate, Message, Tokenizer};
use serde::{Deserialize, Serialize};

/// Whether the model writes down its steps before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Steps, then the answer.
    Thought,
    /// The answer alone.
    Direct,
}

impl Mode {
    /// `thought` or `direct`.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Thought => "thought",
            Mode::Direct => "direct",
        }
    }
}

/// How questions are put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// To a model that was trained on `Question: … Thought: … Answer: …`.
    Native,
    /// After the task's frozen examples.
    FewShot,
    /// Through the model's chat template, with an instruction.
    Chat,
    /// As they are, after `Question:`.
    Plain,
}

/// What a thought ends with and an answer begins with.
const ANSWER: &str = "Answer:";

const THINK: &str = "\nThink step by step. Then write one last line with \"Answer:\" and the answer alone.";
const ANSWER_AT_ONCE: &str = "\nReply with one line: \"Answer:\" and the answer alone.";

/// Puts questions to one model.
pub struct Prompter<'a> {
    /// The model's tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// How questions are put.
    pub style: Style,
    template: Option<ChatTemplate>,
}

impl<'a> Prompter<'a> {
    /// Chooses the style that suits the model: its own if it knows these questions; else the tasks' examples, or for
    /// questions of the user's own its chat template.
    ///
    /// # Errors
    /// When the chat template cannot be used.
    pub fn new(tokenizer: &'a Tokenizer, questions: &[Question]) -> Result<Self> {
        // A piece of the reasoner family's vocabulary, and of no other's.
        if tokenizer.id("\nThought:").is_some() {
            return Ok(Prompter { tokenizer, style: Style::Native, template: None });
        }
        if questions.iter().all(|question| Task::named(&question.task).is_ok()) {
            return Ok(Prompter { tokenizer, style: Style::FewShot, template: None });
        }
        let template = tokenizer.chat_template()?;
        let style = if template.is_some() { Style::Chat } else { Style::Plain };
        Ok(Prompter { tokenizer, style, template })
    }

    /// The prompt as text.
    ///
    /// # Errors
    /// When the chat template refuses it.
    pub fn text(&self, question: &Question, mode: Mode) -> Result<String> {
        let cue = match mode {
            Mode::Thought => "Thought:",
            Mode::Direct => ANSWER,
        };
        let plain = format!("Question: {}\n{cue}", question.prompt);
        match (&self.template, self.style) {
            (Some(template), Style::Chat) => {
                let instruction = if mode == Mode::Thought { THINK } else { ANSWER_AT_ONCE };
                let message = Message::new("user", format!("{}{instruction}", question.prompt));
                let rendered = template.render(&[message], true)?;
                Ok(if mode == Mode::Thought { rendered } else { rendered + ANSWER })
            }
            (_, Style::FewShot) => {
                let examples = Task::named(&question.task).map_or("", |task| task.examples);
                let wanted = |line: &&str| mode == Mode::Thought || !line.starts_with("Thought:");
                let examples: Vec<&str> = examples.split('\n').filter(wanted).collect();
                Ok(examples.join("\n") + &plain)
            }
            _ => Ok(plain),
        }
    }

    /// The ids of a prompt, and of what follows it.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        // A rendered template has its special tokens already.
        self.tokenizer.encode(text, self.style != Style::Chat)
    }

    /// The ids of `prompt` with `rest` after it, and how many of them are the prompt's.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn encode_after(&self, prompt: &str, rest: &str) -> Result<(Vec<u32>, usize)> {
        let (before, all) = (self.encode(prompt)?, self.encode(&format!("{prompt}{rest}"))?);
        let common = before.iter().zip(&all).take_while(|(a, b)| a == b).count();
        if common == all.len() {
            return Err(Error::Model(format!("{rest:?} adds no token to a prompt")));
        }
        Ok((all, common.max(1)))
    }

    /// Whether a reply is complete, the model's own end of text aside.
    pub fn complete(&self, mode: Mode, reply: &str) -> bool {
        let answer = match mode {
            Mode::Direct => Some(reply),
            Mode::Thought => reply.split_once(ANSWER).map(|(_, answer)| answer),
        };
        answer.is_some_and(|answer| answer.trim_start().contains('\n'))
    }
}

/// The worked reply to a question: what a perfect model writes after the prompt.
pub fn worked(question: &Question, mode: Mode) -> String {
    match mode {
        Mode::Thought if !question.thought.is_empty() => {
            format!(" {}\n{ANSWER} {}", question.thought.join("; "), question.answer)
        }
        Mode::Thought => format!("\n{ANSWER} {}", question.answer),
        Mode::Direct => format!(" {}", question.answer),
    }
}

/// What follows a prompt for a thought and the thought itself, so that an answer is next.
pub fn after_thought(thought: &str) -> String {
    format!("{thought}\n{ANSWER}")
}

/// The thought in a reply: everything before the answer.
pub fn thought(reply: &str) -> &str {
    reply.split_once(ANSWER).map_or(reply, |(thought, _)| thought).trim_end()
}

/// The answer in a reply, if there is one.
pub fn answer(mode: Mode, reply: &str) -> Option<&str> {
    let text = match mode {
        Mode::Direct => reply.split_once(ANSWER).map_or(reply, |(_, answer)| answer),
        Mode::Thought => reply.split_once(ANSWER)?.1,
    };
    text.lines().map(str::trim).find(|line| !line.is_empty())
}

/// Whether an answer is the right one. Case, blanks and a closing full stop do not matter; numbers are
/// compared as numbers.
pub fn is_right(question: &Question, answer: Option<&str>) -> bool {
    let Some(answer) = answer else { return false };
    let (found, target) = (plain(answer), plain(&question.answer));
    let number = |text: &str| text.replace(',', "").parse::<f64>().ok().filter(|n| n.is_finite());
    match (number(&found), number(&target)) {
        (Some(found), Some(target)) => found == target,
        _ => found == target,
    }
}

fn plain(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").trim_end_matches('.').to_lowercase()
}

/// Steps of a thought that are the worked solution's, as far as the first that is not, as a share of all.
pub fn steps_right(question: &Question, reply: &str) -> f64 {
    let bare = |step: &str| step.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let found: Vec<String> = thought(reply).split([';', '\n']).map(bare).filter(|s| !s.is_empty()).collect();
    let right = question.thought.iter().zip(&found).take_while(|(a, b)| bare(a) == **b).count();
    right as f64 / question.thought.len().max(1) as f64
}

/// Whether a thought holds what leads to the right answer: its last worked step; where no solution is known, the
/// answer as a word of its own.
pub fn reached(question: &Question, reply: &str) -> bool {
    let bare = |step: &str| step.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    match question.thought.last() {
        Some(last) => thought(reply).split([';', '\n']).any(|step| bare(step) == bare(last)),
        None => {
            let target = plain(&question.answer);
            thought(reply)
                .split(|c: char| c.is_whitespace() || ",;:()".contains(c))
                .any(|word| plain(word) == target)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(answer: &str, thought: &[&str]) -> Question {
        Question {
            id: "q".to_owned(),
            task: "own".to_owned(),
            steps: thought.len(),
            prompt: "?".to_owned(),
            answer: answer.to_owned(),
            thought: thought.iter().map(|s| (*s).to_owned()).collect(),
            chance: 0.0,
        }
    }

    #[test]
    fn answers_are_found_and_compared() {
        let q = question("39", &["37+8=45", "45-6=39"]);
        let reply = " 37+8=45; 45-6=39\nAnswer: 39";
        assert_eq!(worked(&q, Mode::Thought), reply);
        assert_eq!(answer(Mode::Thought, reply), Some("39"));
        assert!(is_right(&q, answer(Mode::Thought, reply)));
        assert_eq!(thought(reply), " 37+8=45; 45-6=39");
        assert_eq!(steps_right(&q, reply), 1.0);
        assert_eq!(steps_right(&q, " 37+8=45;45-6=38"), 0.5);
        assert!(reached(&q, " 45 - 6 = 39; 1+1=2\nAnswer: 2"));
        assert!(!reached(&q, " 37+8=45\nAnswer: 39"));
        // No answer is a wrong answer.
        assert_eq!(answer(Mode::Thought, " 37+8=45; 45"), None);
        assert!(!is_right(&q, None));
        assert_eq!(answer(Mode::Direct, " 39\nQuestion: more"), Some("39"));
        assert_eq!(answer(Mode::Direct, "  \n "), None);
        assert!(is_right(&q, Some("39.0")));
        assert!(is_right(&question("True", &[]), Some("true.")));
        assert!(!is_right(&question("NaN", &[]), Some("inf")));
        assert!(reached(&question("Paris", &[]), "it may be Paris, or not\nAnswer: Rome"));
    }
}
