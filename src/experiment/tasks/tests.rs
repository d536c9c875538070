use super::*;

/// Every task, its steps and some questions of each.
fn questions(n: usize, split: Split) -> impl Iterator<Item = Question> {
    TASKS.iter().flat_map(move |task| {
        task.steps.clone().flat_map(move |steps| task.generate(steps, n, 7, split).unwrap())
    })
}

#[test]
fn training_and_test_questions_are_disjoint() {
    let test: HashSet<String> = questions(60, Split::Test).map(|q| q.prompt).collect();
    assert_eq!(test.len(), 60 * 41);
    assert!(questions(2_000, Split::Train).all(|q| !test.contains(&q.prompt)));
}

#[test]
fn a_seed_makes_the_same_questions() {
    let task = Task::named("pointers").unwrap();
    let ask = |seed| task.generate(3, 5, seed, Split::Test).unwrap();
    assert_eq!(ask(1), ask(1));
    assert_ne!(ask(1), ask(2));
}

#[test]
fn no_questions_at_all_are_refused() {
    let refused = |tasks: &[&Task], steps| super::questions(tasks, &steps, 1, 1).unwrap_err().to_string();
    assert_eq!(refused(TASKS, 99..=99), "the tasks have no questions of 99 steps, expected 1 to 8");
    let recall = Task::named("recall").unwrap();
    assert_eq!(refused(&[recall], 3..=4), "recall has no questions of 3 to 4 steps, expected 1");
    // Of a range, what the tasks have.
    assert_eq!(super::questions(&[recall], &(1..=8), 2, 1).unwrap().len(), 2);
}

#[test]
fn a_thought_has_a_line_a_step_and_ends_in_the_answer() {
    for q in questions(40, Split::Test) {
        assert_eq!(q.thought.len(), q.steps, "{q:?}");
        let last = q.thought.last().unwrap();
        assert!(last.ends_with(&q.answer), "{q:?}");
    }
}

/// Each answer again from the text of the question alone, by other means than the generator's.
#[test]
fn answers_follow_from_the_text() {
    for q in questions(40, Split::Test) {
        assert_eq!(solve(&q.prompt, &q.task), q.answer, "{}", q.prompt);
    }
}

#[test]
fn frozen_examples_are_worked_training_questions() {
    for task in TASKS {
        let mut found = 0;
        for example in task.examples.split("\n\n").filter(|e| !e.is_empty()) {
            let [question, thought, answer] = example.lines().collect::<Vec<_>>()[..] else {
                panic!("{example}")
            };
            let question = question.strip_prefix("Question: ").unwrap();
            let answer = answer.strip_prefix("Answer: ").unwrap();
            assert_eq!(solve(question, task.name), answer, "{question}");
            assert!(thought.starts_with("Thought: "), "{thought}");
            assert_eq!(Split::of(question), Split::Train, "{question}");
            found += 1;
        }
        assert_eq!(found, 2, "{}", task.name);
    }
}

#[test]
fn too_many_or_impossible_questions_are_refused() {
    let task = Task::named("arithmetic").unwrap();
    let error = task.generate(1, 5_000, 1, Split::Test).unwrap_err().to_string();
    assert!(error.contains("different test questions of 1 steps"), "{error}");
    assert!(task.generate(9, 1, 1, Split::Test).is_err());
    assert!(Task::named("recall").unwrap().generate(2, 1, 1, Split::Test).is_err());
    assert!(Task::named("chess").is_err());
}

fn solve(prompt: &str, task: &str) -> String {
    let words: Vec<&str> = prompt.split([' ', '.', ',', '?']).filter(|w| !w.is_empty()).collect();
    let after = |word: &str| words[words.iter().position(|w| *w == word).unwrap() + 1];
    match task {
        "arithmetic" => {
            let n = |i: usize| words[i].parse::<i64>().unwrap();
            let mut total = n(2);
            for (i, word) in words.iter().enumerate() {
                match *word {
                    "Add" => total += n(i + 1),
                    "Subtract" => total -= n(i + 1),
                    _ => {}
                }
            }
            total.rem_euclid(100).to_string()
        }
        "pointers" => {
            let mut at = after("at");
            for _ in 0..after("follow").parse::<usize>().unwrap() {
                let arrow = words.iter().find(|w| w.contains("->") && w.starts_with(at)).unwrap();
                at = arrow.split_once("->").unwrap().1;
            }
            at.to_owned()
        }
        "logic" => {
            let truth = |name: &str| words.contains(&format!("{name}->1").as_str());
            let (_, expression) = prompt.split_once("Evaluate ").unwrap();
            let mut tokens = expression.split([' ', '(', ')', '.']).filter(|t| !t.is_empty());
            let mut value = truth(tokens.next().unwrap());
            while let (Some(operator), Some(name)) = (tokens.next(), tokens.next()) {
                value = match operator {
                    "and" => value & truth(name),
                    "or" => value | truth(name),
                    _ => value ^ truth(name),
                };
            }
            u8::from(value).to_string()
        }
        "ordering" => {
            let above = |x: &str| {
                (0..words.len() - 4)
                    .find(|&i| words[i + 2] == "heavier" && words[i + 4] == x)
                    .map(|i| words[i])
            };
            let depth = |x: &str| {
                std::iter::successors(Some(words[words.iter().rposition(|w| *w == x).unwrap()]), |&w| {
                    above(w)
                })
                .count()
            };
            let (x, y) = (words[words.len() - 3], words[words.len() - 1]);
            if depth(x) < depth(y) { x } else { y }.to_owned()
        }
        "tracking" => {
            let mut coin = after("box");
            for i in (0..words.len()).filter(|&i| words[i] == "Swap") {
                let (x, y) = (words[i + 1], words[i + 3]);
                coin = if coin == x {
                    y
                } else if coin == y {
                    x
                } else {
                    coin
                };
            }
            coin.to_owned()
        }
        "recall" => {
            let letter = after("of");
            words.iter().find_map(|w| w.strip_prefix(letter)?.strip_prefix("->")).unwrap().to_owned()
        }
        other => panic!("{other}"),
    }
}
