//! `infer bench`: every form of output, and what cannot be measured.

use super::run::{llama, run};
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
        for figure in ["tokens_per_s", "of_limit", "copy_bytes_per_s", "f32_flops", "load_s", "host_s"] {
            assert!(row[figure].as_f64().unwrap() > 0.0, "{figure}: {row}");
        }
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
    let table = run(&one).ok().out;
    assert!(table.starts_with("| model") && table.contains("| pp9 "), "{table}");
    assert!(table.contains("GB/s") && table.contains("first token"), "{table}");
}

#[test]
fn what_does_not_fit_or_says_nothing_is_refused() {
    let model = llama();
    for (args, says) in [
        (&["-p", "100000"][..], "the model allows"),
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
