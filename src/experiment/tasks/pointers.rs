//! Pointer chasing: arrows from letter to letter, one cycle through all of them, in random order.

use super::{Made, Random, Task, letters};

pub const TASK: Task = Task {
    name: "pointers",
    summary: "follow arrows through a table of up to ten",
    steps: 1..=8,
    chance: 0.1,
    make,
    examples: "\
Question: Arrows: h->j, c->b, l->c, d->g, b->k, i->l, k->i, g->a, a->h, j->d. Start at l and follow 2 arrows. Where do you end?
Thought: 1: l->c; 2: c->b
Answer: b

Question: Arrows: e->b, a->h, f->e, h->g, k->f, g->c, c->l, b->i, l->k, i->a. Start at i and follow 3 arrows. Where do you end?
Thought: 1: i->a; 2: a->h; 3: h->g
Answer: g

",
};

/// Arrows of a question at most; at least two more than steps, or the end would be what points to the start.
const ARROWS: usize = 10;

fn make(random: &mut Random, steps: usize) -> Made {
    let count = steps + 2 + random.below(ARROWS - steps - 1);
    let cycle = letters(random, count);
    let mut arrows: Vec<String> =
        (0..count).map(|i| format!("{}->{}", cycle[i], cycle[(i + 1) % count])).collect();
    let thought =
        arrows.iter().take(steps).enumerate().map(|(i, arrow)| format!("{}: {arrow}", i + 1)).collect();
    random.shuffle(&mut arrows);
    let prompt = format!(
        "Arrows: {}. Start at {} and follow {steps} arrow{}. Where do you end?",
        arrows.join(", "),
        cycle[0],
        if steps == 1 { "" } else { "s" },
    );
    Made { prompt, thought, answer: cycle[steps].to_string(), chance: Some(1.0 / count as f64) }
}
