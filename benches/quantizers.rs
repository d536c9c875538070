//! Quantizers by group, and budgets of bits, on the shipped models: the table in `docs/quantizers.md`. Takes minutes.
//! `cargo bench --bench quantizers`

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/common/compared.rs"]
mod compared;

use compared::{compared, quantize};

fn main() {
    for model in ["0.4m", "1m", "3m"] {
        let name = format!("{}/models/reasoner-{model}", env!("CARGO_MANIFEST_DIR"));
        let directory = tempfile::tempdir().unwrap();
        let (mut paths, mut rows) = (Vec::new(), Vec::new());
        let mut add = |args: &[&str]| -> f64 {
            let path = directory.path().join(paths.len().to_string());
            let bits = quantize(&name, args, &path)["bits_per_weight"].as_f64().unwrap();
            rows.push(format!("{} | {bits:.3}", args.join(" ")));
            paths.push(path);
            bits
        };
        for group in ["32", "64", "128"] {
            for quantizer in ["rtn", "mse", "hqq", "awq", "gptq"] {
                add(&["--to", "gptq", "--group", group, "--quantizer", quantizer]);
            }
        }
        for even in [&["--symmetric", "--group", "64"][..], &["--symmetric"], &[]] {
            let average = format!("{:.4}", add(even) + 5e-5);
            let symmetric: &[&str] = if even.is_empty() { &[] } else { &["--symmetric"] };
            // Where rows have no whole groups of 64, matrices are left out.
            if model != "0.4m" || !even.contains(&"64") {
                add(&[symmetric, &["--auto-bits", &average]].concat());
            }
        }
        let found = compared(&name, &paths, 2);
        println!("reasoner-{model}, perplexity {:.4}", found[0].1);
        for (row, (kl, ppl)) in rows.iter().zip(&found[1..]) {
            println!("| {row} | {kl:.3e} | {ppl:.4} |");
        }
    }
}
