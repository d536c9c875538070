use super::super::arms::arms;
use super::super::journal::Header;
use super::super::tasks::{Split, TASKS, Task};
use super::*;
use crate::checkpoint::{Checkpoint, Config, locate, shipped};
use crate::cpu::Cpu;
use crate::engine::OpenOptions;
use crate::model::Weights;
use crate::text::Tokenizer;
use serde_json::{Value, json};

/// What a run says that goes on from a journal with these units, none of which it has to do.
fn resumed(units: &[(&str, Value)]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.jsonl");
    let header =
        Header { journal: "test 1".to_owned(), date: String::new(), hash: String::new(), plan: Value::Null };
    let units = units.iter().map(|(unit, data)| json!({"unit": unit, "seconds": 0.1, "data": data}));
    let lines: Vec<String> =
        [json!(header)].into_iter().chain(units).map(|line| format!("{line}\n")).collect();
    std::fs::write(&path, lines.concat()).unwrap();
    let source = locate(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny/llama")).unwrap();
    let checkpoint = Checkpoint::of(&source).unwrap();
    let options =
        OpenOptions { weights: Weights::F16, context: Some(32), sequences: 1, progress: &mut |_| {} };
    let mut engine = Engine::open(&source, &checkpoint, Box::new(Cpu::new()), options).unwrap();
    let vocabulary = Config::open(&source.directory).unwrap().vocab_size;
    let tokenizer = Tokenizer::open(&source.directory, vocabulary).unwrap();
    let questions = TASKS[0].generate(1, 2, 1, Split::Test).unwrap();
    let prompter = Prompter::new(&tokenizer, &questions).unwrap();
    let plan = Plan {
        arms: arms(&["f16".to_owned(), "q4".to_owned()], false, true).unwrap(),
        questions,
        modes: vec![Mode::Direct],
        text: Some(("text".to_owned(), vec![5, 6, 7, 8, 9])),
        window: 3,
        max_tokens: 4,
        end: Vec::new(),
        closing: None,
    };
    let run = Run {
        plan: &plan,
        engine: &mut engine,
        prompter: &prompter,
        journal: &mut Journal::open(&path, header).unwrap(),
        progress: &mut |_| {},
        interrupted: &|| false,
    };
    run.all().map_or_else(|e| e.to_string(), |_| "done".to_owned())
}

/// Somebody's edit must not be taken for what another question gave, nor end in a panic.
#[test]
fn units_of_another_size_are_damaged() {
    let reply = json!({"text": "7", "tokens": [5], "cut": false});
    let text = |arms: usize, tokens: usize| {
        let tokens = vec![[0.5; 3]; tokens];
        json!({"reference": tokens, "arms": vec![tokens; arms]})
    };
    let run = |replies: usize, predicted: Vec<Value>| {
        let replies = json!(vec![&reply; replies]);
        let written = ["f16", "q4:32", "f16-again"].map(|arm| format!("write/{arm}/direct/0"));
        let mut units: Vec<(&str, Value)> = written.iter().map(|unit| (&**unit, replies.clone())).collect();
        units.extend([("predict/0", json!(predicted)), ("attention/q4:32", json!([]))]);
        resumed(&units)
    };
    let whole = || vec![text(3, 2), text(3, 1)];
    assert_eq!(run(2, whole()), "done");
    for (found, expected) in [
        (run(0, whole()), "unit \"write/f16/direct/0\" is damaged: it has 0 replies, expected 2; delete"),
        (run(3, whole()), "it has 3 replies, expected 2"),
        (run(2, vec![text(3, 2)]), "unit \"predict\" is damaged: it has 1 texts, expected 2"),
        (run(2, vec![text(0, 2), text(3, 1)]), "a text has 0 arms, expected 3"),
        (run(2, vec![text(3, 2), text(3, 2)]), "a text has 2 tokens, expected 1"),
    ] {
        assert!(found.contains("journal.jsonl") && found.contains(expected), "{found}");
    }
}

/// A thought that is too long is clipped to the longest beginning that leaves room for an answer, whichever of the
/// prompts it follows; one that fits is left as it is.
#[test]
fn thoughts_are_clipped_to_what_fits() {
    let directory = shipped::source().directory;
    let vocab = Config::open(&directory).unwrap().vocab_size;
    let tokenizer = Tokenizer::open(&directory, vocab).unwrap();
    let questions = Task::named("recall").unwrap().generate(1, 4, 1, Split::Test).unwrap();
    let prompter = Prompter::new(&tokenizer, &questions).unwrap();
    let plan = Plan {
        arms: arms(&["f16".to_owned(), "q4".to_owned()], false, true).unwrap(),
        questions,
        modes: vec![Mode::Thought],
        text: None,
        window: 0,
        max_tokens: 0,
        end: Vec::new(),
        closing: None,
    };
    let reply = " 1+1=2; 2+2=4; 4+4=8; 8+8=16\nAnswer: 16";
    let clipped = |context, q| fitting(&plan, &prompter, context, q, reply).unwrap();
    let tokens = |thought: &str, q: usize| {
        let prompt = prompter.text(&plan.questions[q], Mode::Thought).unwrap();
        prompter.encode(&(prompt + &after_thought(thought))).unwrap().len()
    };
    let longest = (0..4).max_by_key(|&q| tokens("", q)).unwrap();
    for q in 0..4 {
        assert_eq!(clipped(1000, q), thought(reply));
        let context = tokens("", longest) + ANSWER_TOKENS + 6;
        let kept = clipped(context, q);
        assert!(!kept.is_empty() && reply.starts_with(kept) && kept.len() < 12, "{kept:?}");
        assert!(tokens(kept, longest) + ANSWER_TOKENS <= context);
        assert!(tokens(&reply[..=kept.len()], longest) + ANSWER_TOKENS > context);
    }
}
