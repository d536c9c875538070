//! Questions with exact answers, by task and number of reasoning steps.
//!
//! A task is one file and one line in [`TASKS`]. The same generator makes training data and evaluation
//! questions; whether a question is for training or for testing depends on a hash of its text alone, so no
//! question can be on both sides, whatever seed made it.

mod arithmetic;
mod logic;
mod ordering;
mod pointers;
mod recall;
mod tracking;

use super::random::{Random, hash};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::ops::RangeInclusive;

/// Every task there is.
pub const TASKS: &[&Task] =
    &[&arithmetic::TASK, &pointers::TASK, &logic::TASK, &ordering::TASK, &tracking::TASK, &recall::TASK];

/// One question in so many is for testing.
const TEST_SHARE: u64 = 16;

/// A kind of question.
pub struct Task {
    /// Its name.
    pub name: &'static str,
    /// What it asks for, in a line.
    pub summary: &'static str,
    /// Reasoning steps that its questions can take.
    pub steps: RangeInclusive<usize>,
    /// How often a guess is right; some questions know better.
    pub chance: f64,
    /// A random question of so many steps.
    make: fn(&mut Random, steps: usize) -> Made,
    /// Worked examples for models that were not trained on the task, frozen: an evaluation with other
    /// examples is another evaluation. Its questions belong to the training side.
    pub examples: &'static str,
}

/// A question as a task makes it.
struct Made {
    prompt: String,
    /// The steps written out, one an element.
    thought: Vec<String>,
    answer: String,
    /// How often a guess is right, where it isn't the task's chance.
    chance: Option<f64>,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Unique within a run.
    pub id: String,
    /// The task's name; for questions of a user's own, "own".
    pub task: String,
    /// Reasoning steps; 0 where they are not known.
    pub steps: usize,
    /// The question itself.
    pub prompt: String,
    /// The answer.
    pub answer: String,
    /// Steps that lead to the answer, in the one form in which the task writes them; may be empty.
    #[serde(default)]
    pub thought: Vec<String>,
    /// How often a guess is right.
    #[serde(default)]
    pub chance: f64,
}

/// Which side of the division into training and test questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// For training; the same question may come more than once.
    Train,
    /// For evaluation; all different.
    Test,
}

impl Split {
    /// The side that a question is on.
    pub fn of(prompt: &str) -> Self {
        if hash(prompt).is_multiple_of(TEST_SHARE) { Split::Test } else { Split::Train }
    }

    /// `train` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Test => "test",
        }
    }
}

impl Task {
    /// The task called `name`.
    ///
    /// # Errors
    /// When there is none; the message lists those that there are.
    pub fn named(name: &str) -> Result<&'static Task> {
        TASKS.iter().copied().find(|task| task.name == name).ok_or_else(|| {
            let names: Vec<&str> = TASKS.iter().map(|task| task.name).collect();
            Error::Usage(format!("there is no task {name:?}, expected one of {}", names.join(", ")))
        })
    }

    /// `n` questions of `steps` steps.
    ///
    /// # Errors
    /// When the task has no questions of so many steps, or fewer different ones for testing than asked for.
    pub fn generate(&self, steps: usize, n: usize, seed: u64, split: Split) -> Result<Vec<Question>> {
        if !self.steps.contains(&steps) {
            return Err(Error::Usage(format!(
                "{} has no questions of {steps} steps, expected {} to {}",
                self.name,
                self.steps.start(),
                self.steps.end()
            )));
        }
        let mut random = Random::new(seed, &[self.name, &steps.to_string(), split.name()]);
        let (mut questions, mut seen, mut missed) = (Vec::new(), HashSet::new(), 0);
        while questions.len() < n {
            let made = (self.make)(&mut random, steps);
            let wanted = Split::of(&made.prompt) == split
                && (split == Split::Train || seen.insert(hash(&made.prompt)));
            missed = if wanted { 0 } else { missed + 1 };
            // Where there are few different questions, the last ones are long in coming.
            if missed > 20_000 {
                return Err(Error::Usage(format!(
                    "{} has only {} different test questions of {steps} steps, expected {n}: ask for fewer",
                    self.name,
                    questions.len()
                )));
            }
            if wanted {
                questions.push(Question {
                    id: format!("{}-{steps}-{}", self.name, questions.len()),
                    task: self.name.to_owned(),
                    steps,
                    prompt: made.prompt,
                    answer: made.answer,
                    thought: made.thought,
                    chance: made.chance.unwrap_or(self.chance),
                });
            }
        }
        Ok(questions)
    }
}

/// `n` test questions of each task and of each number of steps in `steps` that the task has.
///
/// # Errors
/// When no task has questions of so many steps, or one has fewer different ones than asked for.
pub fn questions(
    tasks: &[&Task],
    steps: &RangeInclusive<usize>,
    n: usize,
    seed: u64,
) -> Result<Vec<Question>> {
    let mut questions = Vec::new();
    for task in tasks {
        for k in steps.clone().filter(|k| task.steps.contains(k)) {
            questions.extend(task.generate(k, n, seed, Split::Test)?);
        }
    }
    if !questions.is_empty() {
        return Ok(questions);
    }
    let range = |from: usize, to: usize| match from == to {
        true => from.to_string(),
        false => format!("{from} to {to}"),
    };
    let least = tasks.iter().map(|task| *task.steps.start()).min().unwrap_or_default();
    let most = tasks.iter().map(|task| *task.steps.end()).max().unwrap_or_default();
    let who = match tasks {
        [one] => format!("{} has", one.name),
        _ => "the tasks have".to_owned(),
    };
    Err(Error::Usage(format!(
        "{who} no questions of {} steps, expected {}",
        range(*steps.start(), *steps.end()),
        range(least, most)
    )))
}

/// So many different letters from the first twelve of the alphabet.
fn letters(random: &mut Random, n: usize) -> Vec<char> {
    let mut all: Vec<char> = ('a'..='l').collect();
    random.shuffle(&mut all);
    all.truncate(n);
    all
}

#[cfg(test)]
mod tests;
