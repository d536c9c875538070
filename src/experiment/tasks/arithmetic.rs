//! Chained arithmetic: a running total modulo 100, each step from the one before.

use super::{Made, Random, Task};

pub const TASK: Task = Task {
    name: "arithmetic",
    summary: "chained additions and subtractions modulo 100",
    steps: 1..=8,
    chance: 0.01,
    make,
    examples: "\
Question: Start with 37. Add 8. Subtract 6. What is the result modulo 100?
Thought: 37+8=45; 45-6=39
Answer: 39

Question: Start with 95. Add 9. Add 3. Subtract 8. What is the result modulo 100?
Thought: 95+9=4; 4+3=7; 7-8=99
Answer: 99

",
};

fn make(random: &mut Random, steps: usize) -> Made {
    let mut total = random.below(100);
    let mut prompt = format!("Start with {total}. ");
    let mut thought = Vec::with_capacity(steps);
    for _ in 0..steps {
        let n = 1 + random.below(9);
        let add = random.below(2) == 0;
        let next = if add { total + n } else { total + 100 - n } % 100;
        let (verb, sign) = if add { ("Add", '+') } else { ("Subtract", '-') };
        prompt += &format!("{verb} {n}. ");
        thought.push(format!("{total}{sign}{n}={next}"));
        total = next;
    }
    prompt += "What is the result modulo 100?";
    Made { prompt, thought, answer: total.to_string(), chance: None }
}
