//! Ordering by transitive comparison: neighbours compared in random order, two of three to ten things asked
//! about.

use super::{Made, Random, Task, letters};

pub const TASK: Task = Task {
    name: "ordering",
    summary: "which of two is heavier, by a chain of comparisons",
    steps: 1..=8,
    chance: 0.5,
    make,
    examples: "\
Question: d is heavier than j. b is heavier than k. k is heavier than i. j is heavier than b. h is heavier than l. a is heavier than d. l is heavier than f. i is heavier than c. c is heavier than h. a is the heaviest. Which is heavier, j or k?
Thought: j or k: a>d; d>j
Answer: j

Question: l is heavier than a. b is heavier than e. k is heavier than i. g is heavier than k. h is heavier than l. i is heavier than c. a is heavier than b. e is heavier than g. c is heavier than f. h is the heaviest. Which is heavier, b or f?
Thought: b or f: h>l; l>a; a>b
Answer: b

",
};

/// Things of a question at most.
const THINGS: usize = 10;

/// The heavier of the two stands `steps` comparisons below the heaviest of all: who walks down the chain meets it first.
fn make(random: &mut Random, steps: usize) -> Made {
    let count = steps + 2 + random.below(THINGS - steps - 1);
    let order = letters(random, count);
    let mut facts: Vec<String> =
        order.windows(2).map(|pair| format!("{} is heavier than {}. ", pair[0], pair[1])).collect();
    random.shuffle(&mut facts);
    let (heavier, lighter) = (order[steps], order[steps + 1 + random.below(order.len() - 1 - steps)]);
    let (x, y) = if random.below(2) == 0 { (heavier, lighter) } else { (lighter, heavier) };
    let prompt = format!("{}{} is the heaviest. Which is heavier, {x} or {y}?", facts.concat(), order[0]);
    let mut thought: Vec<String> =
        order.windows(2).take(steps).map(|pair| format!("{}>{}", pair[0], pair[1])).collect();
    thought[0] = format!("{x} or {y}: {}", thought[0]);
    Made { prompt, thought, answer: heavier.to_string(), chance: None }
}
