//! `infer bench`: every form of output, and what cannot be measured.

use super::run::{llama, run, run_with};
use serde_json::Value;

#[test]
fn every_row_has_its_figures() {
    let model = llama();
    let common = ["bench", "-m", &model, "-d", "cpu", "-r", "2"];
    let tests = ["-b", "16,4", "-p", "40", "-n", "3", "-D", "0,33", "-B", "1,3"];
    let rows = run(&[&common[..], &tests, &["-o", "json"]].concat()).json();
    let names: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["test"].as_str().unwrap()).collect();
    let once =
        ["pp40", "pp40 @ d64", "pp40 ×3", "pp40 @ d64 ×3", "tg3", "tg3 @ d64", "tg3 ×3", "tg3 @ d64 ×3"];
    assert_eq!(names, [once, once].concat());
    for row in rows.as_array().unwrap() {
        for figure in ["tokens_per_s", "copy_bytes_per_s", "f32_flops", "load_s", "host_s"] {
            assert!(row[figure].as_f64().unwrap() > 0.0, "{figure}: {row}");
        }
        assert!(row["of_limit"].is_null(), "the twins' limits are not the processor's: {row}");
        assert!(row["first_token_warm_s"].as_f64().unwrap() > 0.0);
        assert_eq!(row["tokens_per_s_samples"].as_array().unwrap().len(), 2);
        let decode = row["test"].as_str().unwrap().starts_with("tg");
        assert_eq!(row["dispatches"].is_number(), decode);
    }
    // Four bits are read faster than sixteen, and deeper caches cost more.
    let bytes = |i: usize| rows[i]["bytes_per_step"].as_u64().unwrap();
    assert!(bytes(12) < bytes(4) && bytes(4) < bytes(5) && bytes(5) < bytes(7));
    assert_eq!(rows[0]["format"], "f16");
    assert!(rows[8]["format"].as_str().unwrap().starts_with("q4"));

    let one = [&common[..], &["-b", "8", "-p", "9", "-n", "0"]].concat();
    let lines = run(&[&one[..], &["-o", "jsonl"]].concat()).ok().out;
    assert_eq!(lines.lines().count(), 1);
    let row: Value = serde_json::from_str(lines.trim()).unwrap();
    assert_eq!(row["tokens"], 9);
    let csv = run(&[&one[..], &["-o", "csv"]].concat()).ok().out;
    let columns: Vec<usize> = csv.lines().map(|line| line.split(',').count()).collect();
    assert_eq!(columns, [columns[0]; 2], "{csv}");
    assert!(csv.ends_with(",\n"), "{csv}");
    let table = run(&one).ok().out;
    assert!(table.starts_with("| model") && table.contains("| pp9 "), "{table}");
    assert!(table.contains("GB/s") && table.contains("first token"), "{table}");
}

#[test]
fn what_does_not_fit_or_says_nothing_is_refused() {
    let model = llama();
    for (args, says) in [
        (&["-p", "100000"][..], "the model allows"),
        (&["-p", "256", "-n", "0"], "the model allows 256 in all, and this test needs 1 more"),
        (&["-p", "0", "-n", "255"], "the model allows 256 in all, and this test needs 2 more"),
        (&["--json", "-o", "md"], "--json means --output json"),
        (&["--json", "-o", "jsonl"], "--json means --output json"),
        (&["-n", "8", "-D", "18446744073709551615"], "the model allows"),
        (&["-p", "0", "-n", "0"], "nothing to measure"),
        (&["-r", "0"], "at least 1"),
        (&["-B", "0"], "at least 1"),
        (&["-b", "5"], "16|8|4"),
        (&["-o", "xml"], "xml"),
    ] {
        let args = [&["bench", "-m", &model, "-d", "cpu"], args].concat();
        run(&args).failed(2, says, &format!("{args:?}"));
    }
}

/// Every dispatch of every test, one after the other, and a table of them.
#[test]
fn a_profile_tells_time_by_kernel() {
    let model = llama();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trace.json");
    let profile = |tests: &[&str]| {
        let args = ["bench", "-m", &model, "-d", "cpu", "-b", "4", "-r", "1", "--profile"];
        run(&[&args[..], &[file.to_str().unwrap()], tests].concat()).ok()
    };
    // As many steps as tokens, also where whole pages would end with the last one.
    let ran = profile(&["-p", "0", "-n", "31"]);
    assert!(ran.out.contains(", 31 steps\n"), "{}", ran.out);
    let ran = profile(&["-p", "9", "-n", "2"]);
    for said in ["pp9: ", "tg2: ", "matmul_", "attention_", "of flops"] {
        assert!(ran.out.contains(said), "{said}: {}", ran.out);
    }
    let trace: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let tests: Vec<&Value> = events.iter().filter(|e| e["ph"] == "M").map(|e| &e["args"]["name"]).collect();
    assert!(tests.len() == 2 && tests[0].as_str().unwrap().ends_with("pp9"), "{tests:?}");
    // Two tokens after the first one: two steps, which are alike.
    let of = |step: u64| -> Vec<&Value> {
        let here = |e: &&Value| e["tid"] == 1 && e["args"]["step"] == step;
        events.iter().filter(here).map(|e| &e["name"]).collect()
    };
    assert!(of(0).len() > 10 && of(0) == of(1) && of(2).is_empty(), "{:?} {:?}", of(0), of(1));
}

/// What is measured is kept, and used until it is not wanted.
#[test]
fn kernels_are_measured_once() {
    let model = llama();
    let cache = tempfile::tempdir().unwrap();
    let env = [("XDG_CACHE_HOME", cache.path().to_str().unwrap())];
    let args = ["-m", &model, "-d", "cpu", "--temp", "0", "-n", "4", "The other thing"];
    let measured = run_with(&[&args[..], &["--tune"]].concat(), &env, b"").ok();
    assert!(measured.err.contains("measuring q4/32 "), "{}", measured.err);
    let files: Vec<_> =
        std::fs::read_dir(cache.path().join("sixteen-states/tuning")).unwrap().flatten().collect();
    let [file] = &files[..] else { panic!("one file: {files:?}") };
    let found: Value = serde_json::from_slice(&std::fs::read(file.path()).unwrap()).unwrap();
    let (name, product) = found["products"].as_object().unwrap().iter().next().unwrap();
    assert!(name.ends_with(" rows") && product["microseconds"].as_object().unwrap().len() > 1, "{found}");
    assert!(product["microseconds"][product["variant"].as_str().unwrap()].is_number(), "{found}");

    let again = run_with(&[&args[..], &["--tune"]].concat(), &env, b"").ok();
    assert!(!again.err.contains("measuring"), "{}", again.err);
    let without = run_with(&[&args[..], &["--no-tune"]].concat(), &env, b"").ok();
    assert_eq!((&again.out, &without.out), (&measured.out, &measured.out));
    run(&[&args[..], &["--tune", "--no-tune"]].concat()).failed(2, "cannot be used with", "both");
    // What is there but makes no sense counts for nothing.
    std::fs::write(file.path(), "{\"products\": 3}").unwrap();
    assert_eq!(run_with(&args, &env, b"").ok().out, measured.out);
}

#[test]
fn a_shape_is_measured_without_a_model() {
    run(&["bench", "--shape", "9b"]).failed(2, "135m", "a shape that there is not");
    run(&["bench", "--shape", "1b", "-m", "x"]).failed(2, "cannot be used with", "a shape and a model");
}
