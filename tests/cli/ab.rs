//! `infer ab`, `infer sweep` and `infer tasks` as a user calls them.

use super::run::{command, llama, run};
use serde_json::{Value, json};
use std::path::Path;

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Results without what the clock says.
fn results(dir: &Path) -> Value {
    let mut found: Value = serde_json::from_str(&read(&dir.join("results.json"))).unwrap();
    found["seconds"] = Value::Null;
    found["date"] = Value::Null;
    found
}

fn short(dir: &Path) -> Vec<String> {
    let fixed = "ab -d cpu -q --no-controls --tasks arithmetic,recall -k 1-2 -n 3 --report";
    fixed.split(' ').map(str::to_owned).chain([dir.to_str().unwrap().to_owned()]).collect()
}

fn run_owned(args: &[String], more: &[&str]) -> super::run::Ran {
    let args: Vec<&str> = args.iter().map(String::as_str).chain(more.iter().copied()).collect();
    run(&args)
}

#[test]
fn an_interrupted_run_goes_on_and_ends_in_the_same_results() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    run_owned(&short(&whole), &[]).ok();
    let expected = results(&whole);
    // Killed after some units and in the middle of a line.
    let journal = read(&whole.join("journal.jsonl"));
    let lines: Vec<&str> = journal.split_inclusive('\n').collect();
    assert!(lines.len() > 8, "{} units", lines.len());
    for keep in [1, 4, lines.len() - 1] {
        std::fs::create_dir_all(&cut).unwrap();
        let half = &lines[keep][..lines[keep].len() / 2];
        std::fs::write(cut.join("journal.jsonl"), lines[..keep].concat() + half).unwrap();
        run_owned(&short(&cut), &[]).ok();
        assert_eq!(results(&cut), expected, "{keep} units kept");
    }
    for file in ["report.html", "samples_arithmetic_f16.jsonl", "samples_recall_q4-32.jsonl"] {
        assert!(!read(&whole.join(file)).is_empty());
    }
    // A journal of another run is refused, and left as it is.
    let refused = run_owned(&short(&cut), &["--seed", "2"]);
    refused.failed(1, "another run", "another seed");
    assert!(refused.err.contains("--report"));
    assert_eq!(results(&cut), expected);
    // A verdict that is not the expected one is exit code 1: so few questions never tell.
    let ran = run_owned(&short(&cut), &["--expect", "preserved"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("expected preserved, found inconclusive"), "{}", ran.err);
    assert_eq!(run_owned(&short(&cut), &["--expect", "inconclusive"]).code, Some(0));
}

#[test]
fn a_killed_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let args = short(dir.path());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut child = command(&args, &[]).spawn().unwrap();
    let journal = dir.path().join("journal.jsonl");
    for _ in 0..3000 {
        std::thread::sleep(std::time::Duration::from_millis(10));
        if std::fs::read_to_string(&journal).is_ok_and(|text| text.lines().count() > 2) {
            break;
        }
    }
    let _ = child.kill();
    child.wait().unwrap();
    let before = read(&journal);
    run(&args).ok();
    assert!(read(&journal).starts_with(&before[..before.rfind('\n').unwrap() + 1]));
    assert!(results(dir.path())["comparisons"].is_array());
}

#[test]
fn the_reference_against_itself_differs_in_nothing() {
    let dir = tempfile::tempdir().unwrap();
    run_owned(&short(dir.path()), &[]).ok();
    let found = results(dir.path());
    let again = found["comparisons"].as_array().unwrap().iter().find(|c| c["arm"] == "f16-again").unwrap();
    assert_eq!(again["teacher_forced"]["kl"]["max"], json!(0.0));
    assert_eq!(again["teacher_forced"]["same_top"], json!(1.0));
    assert_eq!(again["free_running"]["diverged"], json!(0));
    let flips = ["lost", "won", "changed"].map(|what| again["overall"][what].as_u64().unwrap());
    assert_eq!(flips, [0, 0, 0]);
    // Names of lm-evaluation-harness.
    let sample: Value =
        serde_json::from_str(read(&dir.path().join("samples_recall_f16.jsonl")).lines().next().unwrap())
            .unwrap();
    for field in [
        "doc_id",
        "doc",
        "target",
        "arguments",
        "resps",
        "filtered_resps",
        "doc_hash",
        "prompt_hash",
        "target_hash",
    ] {
        assert!(!sample[field].is_null(), "{field}");
    }
    assert!(found["results"]["recall (f16)"]["exact_match,thought"].is_number());
}

#[test]
fn two_arms_write_side_by_side() {
    let prompt = "Start with 37. Add 8. Subtract 6. What is the result modulo 100?";
    let ran = run(&["ab", "-d", "cpu", "--prompt", prompt]).ok();
    let first = ran.out.lines().next().unwrap();
    assert!(first.starts_with("f16") && first.ends_with("q4:32"), "{first}");
    assert!(ran.out.lines().all(|line| line.chars().count() <= 100));
    let same = run(&["ab", "-d", "cpu", "--arms", "f16,f16-again", "--prompt", prompt]);
    same.failed(2, "f16", "one arm twice");
    let found = run(&["ab", "-d", "cpu", "--arms", "f16,u2:tensor", "--prompt", prompt, "--json"]).json();
    assert_ne!(found["arms"][0]["text"], found["arms"][1]["text"]);
    assert!(found["diverged_at"].is_number());
}

/// Whatever a reply is cut to, the worked solution is predicted, and an answer follows the thought, whoever thinks.
#[test]
fn replies_may_be_cut_short() {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("q.jsonl");
    let question = |a: usize| {
        let prompt = format!("Start with {a}. Add 1. What is the result modulo 100?");
        json!({"prompt": prompt, "answer": a + 1}).to_string()
    };
    std::fs::write(&own, [question(83), question(12)].join("\n")).unwrap();
    let (own, tiny) = (own.to_str().unwrap(), llama());
    for args in [
        &["--tasks", "arithmetic", "-k", "1", "-n", "2", "--max-tokens", "8"][..],
        &["--tasks", "arithmetic", "-k", "8", "-n", "2", "--max-tokens", "10"],
        &["--questions", own, "--max-tokens", "5"],
        // Random weights: what they write has more tokens when it is encoded again.
        &["-m", &tiny, "--questions", own, "--max-tokens", "16"],
    ] {
        let found = run(&[&["ab", "-d", "cpu", "-q", "--json", "--no-controls"], args].concat()).json();
        let comparison = &found["comparisons"][0];
        assert!(comparison["free_running"]["cut_off_arm"].as_u64().unwrap() > 0, "{args:?}");
        assert!(comparison["crossover"].is_object() && comparison["information"].is_object(), "{args:?}");
    }
}

#[test]
fn two_questions_can_show_no_drop() {
    let args =
        ["ab", "-d", "cpu", "-q", "--no-controls", "--modes", "thought", "--tasks", "recall", "-n", "2"];
    let told = run(&args).ok().out.replace('\n', " ");
    assert!(told.contains("no drop could have been seen"), "{told}");
    let found = run(&[&args[..], &["--json"]].concat()).json();
    assert_eq!(found["comparisons"][0]["overall"]["smallest_visible"], Value::Null);
}

#[test]
fn own_questions_and_own_text() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name).to_str().unwrap().to_owned()
    };
    let good = path(
        "q.jsonl",
        "{\"prompt\":\"Start with 3. Add 4. What is the result modulo 100?\",\"answer\":7}\n",
    );
    let found = run(&[
        "ab",
        "-d",
        "cpu",
        "-q",
        "--json",
        "--no-controls",
        "--questions",
        &good,
        "--max-tokens",
        "40",
    ])
    .json();
    assert_eq!(found["plan"]["questions"], 1);
    assert_eq!(found["comparisons"][0]["overall"]["verdict"], "INCONCLUSIVE");
    let text = path("t.txt", "Start with 3. Add 4. Add 5. Add 6. Swap a and b. Where is the coin?");
    let found = run(&["ab", "-d", "cpu", "-q", "--json", "--text", &text]).json();
    assert!(found["comparisons"][0]["teacher_forced"]["kl"]["mean"].as_f64().unwrap() > 0.0);
    let sentence = found["comparisons"][0]["sentence"].as_str().unwrap();
    assert!(sentence.contains("perplexity"), "{sentence}");
    // Nothing was asked, so nothing is right, lost or judged.
    let report = dir.path().join("report");
    let told =
        run(&["ab", "-d", "cpu", "-q", "--text", &text, "--report", report.to_str().unwrap()]).ok().out;
    for told in [told, read(&report.join("report.html"))] {
        let told = told.split_once("</style>").map_or(told.as_str(), |(_, told)| told);
        for word in ["INCONCLUSIVE", "CATASTROPHIC", "Δ points", "ost/won", "Right,", "held out", "margin"] {
            assert!(!told.contains(word), "{word}: {told}");
        }
        assert!(told.contains("mean KL"), "{told}");
    }
}

#[test]
fn bad_use_is_refused_before_anything_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name).to_str().unwrap().to_owned()
    };
    let bad = path("bad.jsonl", "{\"prompt\":\"x\",\"answer\":\"y\"}\n{\"prompt\":\n");
    let unread = path("unread.jsonl", "{\"prompt\":\"x\",\"answer\":\"a\\nb\"}\n");
    let file = path("file", "");
    let (own, tiny) = (path("own.jsonl", "{\"prompt\":\"2+2?\",\"answer\":\"4\"}\n"), llama());
    let long = format!("{{\"prompt\":\"{}\",\"answer\":\"4\"}}\n", "2+2? ".repeat(200));
    let long = path("long.jsonl", &long);
    let endless = usize::MAX.to_string();
    let theirs = dir.path().join("theirs");
    std::fs::create_dir(&theirs).unwrap();
    std::fs::write(theirs.join("journal.jsonl"), "my thesis").unwrap();
    let theirs = theirs.to_str().unwrap();
    for (args, code, text) in [
        (&["ab", "--arms", "f16"][..], 2, "at least two arms"),
        (&["ab", "--arms", "f16,q5000"], 2, "q5000"),
        (&["ab", "--arms", "f16,broken:tensor"], 2, "broken:tensor"),
        (&["ab", "--arms", "f16,q4,q4:32"], 2, "twice"),
        (&["ab", "--margin", "0"], 2, "--margin"),
        (&["ab", "--tasks", "chess"], 2, "no task \"chess\""),
        (&["ab", "--tasks", "recall", "-k", "3"], 2, "recall has no questions of 3 steps, expected 1"),
        (&["ab", "-k", "9-12"], 2, "the tasks have no questions of 9 to 12 steps, expected 1 to 8"),
        (&["ab", "--text", &own, "--expect", "preserved"], 2, "cannot be used with"),
        (&["ab", "--arms", "f16,q4,q8", "--prompt", "hi"], 2, "--arms names 3"),
        (&["ab", "--prompt", "hi", "--max-tokens", &endless], 2, "--max-tokens is 1844"),
        (&["ab", "--tasks", "recall", "--max-tokens", &endless], 2, "--max-tokens is 1844"),
        (
            &["ab", "-m", &tiny, "--questions", &own, "--max-tokens", "250"],
            2,
            "--max-tokens is 250, the model",
        ),
        (&["ab", "-m", &tiny, "--questions", &long], 2, "the model allows 256: shorten those of"),
        (&["ab", "-m", &tiny, "-k", "8", "-n", "1"], 2, "the model allows 256: ask for fewer --steps"),
        (&["ab", "-k", "x"], 2, "number of steps"),
        (&["ab", "--expect", "good"], 2, "preserved"),
        (&["ab", "-n", "5000"], 2, "different test questions"),
        (&["ab", "--questions", &bad], 1, "line 2"),
        (&["ab", "--questions", &unread], 1, "line 1"),
        (&["ab", "--questions", "/no/such/file"], 1, "/no/such/file"),
        (&["ab", "--text", &file], 1, "at least 2"),
        (&["ab", "-m", "/no/such/model"], 1, "/no/such/model"),
        (&["ab", "-d", "cpu", "--report", &file], 1, "file"),
        (&["ab", "-d", "cpu", "--report", theirs], 1, "not a journal"),
        (&["ab", "--prompt", ""], 2, "the prompt is empty"),
        (&["sweep", "--states", "1"], 2, "u1"),
        (&["sweep", "--granularity", "row"], 2, "row"),
        (&["sweep", "-n", "1", "-k", "99"], 2, "the tasks have no questions of 99 steps, expected 1 to 8"),
        (&["sweep", "-m", "reasoner", "-m", "reasoner"], 2, "twice"),
        (&["tasks", "generate", "--task", "chess"], 2, "no task"),
        (&["tasks", "generate", "--task", "recall", "-k", "2"], 2, "expected 1 to 1"),
    ] {
        run(args).failed(code, text, &format!("{args:?}"));
    }
    assert_eq!(read(&dir.path().join("theirs/journal.jsonl")), "my thesis");
}

#[test]
fn a_sweep_finds_more_damage_with_fewer_states() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().to_str().unwrap();
    let args = ["sweep", "-d", "cpu", "-q", "--json", "-n", "1", "-k", "1-2", "--states", "2,16,256"];
    let found =
        run(&[&args[..], &["--granularity", "tensor", "--no-sensitivity", "--report", report]].concat())
            .json();
    let kl: Vec<f64> =
        found["points"].as_array().unwrap().iter().map(|p| p["kl"].as_f64().unwrap()).collect();
    assert_eq!(kl.len(), 4);
    assert!(kl[0] == 0.0 && kl[1] > kl[2] && kl[2] > kl[3], "{kl:?}");
    assert!(read(&dir.path().join("sweep.html")).contains("<svg"));
}

#[test]
fn a_sweep_finds_every_part_sensitive() {
    let args = ["sweep", "-m", "models/reasoner-0.1m", "-d", "cpu", "-q", "--json", "-n", "1", "-k", "1"];
    let found = run(&[&args[..], &["--states", "16", "--granularity", "tensor"]].concat()).json();
    let parts = found["sensitivity"].as_array().unwrap();
    let named = |name: &str| parts.iter().filter(|s| s["part"].as_str().unwrap().starts_with(name)).count();
    assert!(named("layer ") >= 2 && named("q_proj") == 1 && named("embed_tokens") == 1, "{parts:?}");
    // A part that meets no matrix leaves the model as it is, whose KL is 0.
    for part in parts {
        assert!(part["only"].as_f64().unwrap() > 0.0 && part["all_but"].as_f64().unwrap() > 0.0, "{part}");
    }
}

#[test]
fn tasks_are_listed_and_generated() {
    let list = run(&["tasks", "list"]).ok().out;
    assert_eq!(list.lines().count(), 6);
    let one = |seed: &str| {
        run(&["tasks", "generate", "-t", "logic", "-k", "3", "-n", "2", "--seed", seed]).ok().out
    };
    assert_eq!(one("1"), one("1"));
    assert_ne!(one("1"), one("2"));
    let question: Value = serde_json::from_str(one("1").lines().next().unwrap()).unwrap();
    assert_eq!(question["thought"].as_array().unwrap().len(), 3);
}
