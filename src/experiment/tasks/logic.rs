//! Nested boolean logic: comparisons of digits, joined from the innermost parenthesis outwards.

use super::{Made, Random, Task};

pub const TASK: Task = Task {
    name: "logic",
    summary: "nested and, or and xor of comparisons",
    steps: 1..=8,
    chance: 0.5,
    make,
    examples: "\
Question: Evaluate ((3<5 and 2>7) or 4>1).
Thought: 3<5 and 2>7: true and false = false; false or 4>1: false or true = true
Answer: true

Question: Evaluate (((8>6 xor 1<9) or 5<2) and 0<4).
Thought: 8>6 xor 1<9: true xor true = false; false or 5<2: false or false = false; false and 0<4: false and true = false
Answer: false

",
};

fn comparison(random: &mut Random) -> (String, bool) {
    let a = random.below(10);
    let b = (a + 1 + random.below(9)) % 10;
    if random.below(2) == 0 { (format!("{a}<{b}"), a < b) } else { (format!("{a}>{b}"), a > b) }
}

fn make(random: &mut Random, steps: usize) -> Made {
    let (first, mut value) = comparison(random);
    let mut prompt = format!("Evaluate {}{first}", "(".repeat(steps));
    let mut known = first;
    let mut thought = Vec::with_capacity(steps);
    for _ in 0..steps {
        let (text, other) = comparison(random);
        // Exclusive or is drawn as often as both others: after "and false" nothing before it matters.
        let (operator, result) = match random.below(4) {
            0 => ("and", value && other),
            1 => ("or", value || other),
            _ => ("xor", value != other),
        };
        prompt += &format!(" {operator} {text})");
        thought.push(format!("{known} {operator} {text}: {value} {operator} {other} = {result}"));
        value = result;
        known = result.to_string();
    }
    prompt += ".";
    Made { prompt, thought, answer: value.to_string() }
}
