//! State tracking: a coin in one of five labelled boxes, whose contents are swapped two at a time.

use super::{Made, Random, Task, letters};

pub const TASK: Task = Task {
    name: "tracking",
    summary: "where a coin is after swaps of labelled boxes",
    steps: 1..=8,
    chance: 0.2,
    make,
    examples: "\
Question: The coin is in box f. Swap f and k. Swap a and c. Where is the coin?
Thought: f,k: k; a,c: k
Answer: k

Question: The coin is in box b. Swap d and e. Swap b and d. Swap h and d. Where is the coin?
Thought: d,e: b; b,d: d; h,d: h
Answer: h

",
};

const BOXES: usize = 5;

fn make(random: &mut Random, steps: usize) -> Made {
    let boxes = letters(random, BOXES);
    let mut coin = 0;
    let mut prompt = format!("The coin is in box {}. ", boxes[coin]);
    let mut thought = Vec::with_capacity(steps);
    for _ in 0..steps {
        // Three swaps in five move the coin, which by chance alone would be two.
        let first = if random.below(5) < 3 { coin } else { (coin + 1 + random.below(BOXES - 1)) % BOXES };
        let mut other = (first + 1 + random.below(BOXES - 1)) % BOXES;
        if first != coin && other == coin {
            other = (0..BOXES).find(|&b| b != first && b != coin).unwrap_or(first);
        }
        if first == coin {
            coin = other;
        }
        let (x, y) = if random.below(2) == 0 { (first, other) } else { (other, first) };
        prompt += &format!("Swap {} and {}. ", boxes[x], boxes[y]);
        thought.push(format!("{},{}: {}", boxes[x], boxes[y], boxes[coin]));
    }
    prompt += "Where is the coin?";
    Made { prompt, thought, answer: boxes[coin].to_string(), chance: None }
}
