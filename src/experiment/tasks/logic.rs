//! Nested boolean logic: named facts, joined from the innermost parenthesis outwards.

use super::{Made, Random, Task, letters};

pub const TASK: Task = Task {
    name: "logic",
    summary: "nested and, or and xor of named facts",
    steps: 1..=8,
    chance: 0.5,
    make,
    examples: "\
Question: c is true. h is false. a is true. Evaluate ((a and h) or c).
Thought: a and h: true and false = false; false or c: false or true = true
Answer: true

Question: f is true. b is false. k is true. d is true. Evaluate (((k xor d) or b) and f).
Thought: k xor d: true xor true = false; false or b: false or false = false; false and f: false and true = false
Answer: false

",
};

fn make(random: &mut Random, steps: usize) -> Made {
    let names = letters(random, steps + 1);
    let truths: Vec<bool> = names.iter().map(|_| random.below(2) == 0).collect();
    let mut facts: Vec<String> =
        names.iter().zip(&truths).map(|(name, truth)| format!("{name} is {truth}. ")).collect();
    random.shuffle(&mut facts);
    let mut prompt = format!("{}Evaluate {}{}", facts.concat(), "(".repeat(steps), names[0]);
    let (mut value, mut known) = (truths[0], names[0].to_string());
    let mut thought = Vec::with_capacity(steps);
    for (name, &truth) in names[1..].iter().zip(&truths[1..]) {
        // Exclusive or is drawn as often as both others: after "and false" nothing before it matters.
        let (operator, result) = match random.below(4) {
            0 => ("and", value && truth),
            1 => ("or", value || truth),
            _ => ("xor", value != truth),
        };
        prompt += &format!(" {operator} {name})");
        thought.push(format!("{known} {operator} {name}: {value} {operator} {truth} = {result}"));
        value = result;
        known = result.to_string();
    }
    prompt += ".";
    Made { prompt, thought, answer: value.to_string() }
}
