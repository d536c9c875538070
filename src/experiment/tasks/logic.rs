//! Nested boolean logic: named bits, joined from the innermost parenthesis outwards.

use super::{Made, Random, Task, letters};

pub const TASK: Task = Task {
    name: "logic",
    summary: "nested and, or and xor of named bits",
    steps: 1..=8,
    chance: 0.5,
    make,
    examples: "\
Question: Bits: c->1, h->0, a->1. Evaluate ((a and h) or c).
Thought: a and h: a->1, h->0 = 0; 0 or c: c->1 = 1
Answer: 1

Question: Bits: b->0, f->1, k->1, d->1. Evaluate (((k xor d) or b) and f).
Thought: k xor d: k->1, d->1 = 0; 0 or b: b->0 = 0; 0 and f: f->1 = 0
Answer: 0

",
};

fn make(random: &mut Random, steps: usize) -> Made {
    let names = letters(random, steps + 1);
    let bits: Vec<bool> = names.iter().map(|_| random.below(2) == 0).collect();
    let digit = u8::from;
    let mut table: Vec<String> =
        names.iter().zip(&bits).map(|(name, &bit)| format!("{name}->{}", digit(bit))).collect();
    random.shuffle(&mut table);
    let mut prompt = format!("Bits: {}. Evaluate {}{}", table.join(", "), "(".repeat(steps), names[0]);
    let (mut value, mut known) = (bits[0], names[0].to_string());
    let mut thought: Vec<String> = Vec::with_capacity(steps);
    for (name, &bit) in names[1..].iter().zip(&bits[1..]) {
        // Exclusive or is drawn as often as both others: after "and 0" nothing before it matters.
        let (operator, result) = match random.below(4) {
            0 => ("and", value && bit),
            1 => ("or", value || bit),
            _ => ("xor", value != bit),
        };
        prompt += &format!(" {operator} {name})");
        // A value that the step before came to is not looked up again.
        let looked_up =
            if thought.is_empty() { format!("{known}->{}, ", digit(value)) } else { String::new() };
        let step =
            format!("{known} {operator} {name}: {looked_up}{name}->{} = {}", digit(bit), digit(result));
        thought.push(step);
        value = result;
        known = digit(result).to_string();
    }
    prompt += ".";
    Made { prompt, thought, answer: digit(value).to_string(), chance: None }
}
