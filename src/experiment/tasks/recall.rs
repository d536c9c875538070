//! Recall, the control: one look into a table, nothing to reason about.

use super::{Made, Random, Task, letters};

pub const TASK: Task = Task {
    name: "recall",
    summary: "one look into a table of up to ten: the control",
    steps: 1..=1,
    chance: 0.1,
    make,
    examples: "\
Question: Codes: e->0, g->0, k->9, f->3, l->6, h->7, j->1, d->0, i->4, b->2. What is the code of h?
Thought: h->7
Answer: 7

Question: Codes: b->5, d->8, a->1, l->1, k->3, c->6, i->2, e->9, j->4, g->7. What is the code of l?
Thought: l->1
Answer: 1

",
};

/// Codes of a question at most.
const CODES: usize = 10;

fn make(random: &mut Random, _: usize) -> Made {
    let count = 2 + random.below(CODES - 1);
    let codes: Vec<(char, usize)> =
        letters(random, count).into_iter().map(|letter| (letter, random.below(10))).collect();
    let list: Vec<String> = codes.iter().map(|(letter, code)| format!("{letter}->{code}")).collect();
    let &(letter, code) = random.pick(&codes);
    Made {
        prompt: format!("Codes: {}. What is the code of {letter}?", list.join(", ")),
        thought: vec![format!("{letter}->{code}")],
        answer: code.to_string(),
        chance: None,
    }
}
