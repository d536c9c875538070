//! Quantizers compared by what they do to a model's predictions. The table of them is `cargo bench --bench quantizers`.

mod common;
#[path = "common/compared.rs"]
mod compared;

use compared::{compared, quantize};

/// On the model inside the program, by the one number that matters, on questions that were not calibrated on.
#[test]
fn calibration_and_a_budget_pay() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let bits = |told: &serde_json::Value| told["bits_per_weight"].as_f64().unwrap();
    quantize("reasoner", &["--quantizer", "rtn", "--symmetric"], &path("rtn"));
    quantize("reasoner", &["--quantizer", "gptq", "--symmetric"], &path("gptq"));
    let even = quantize("reasoner", &["--symmetric"], &path("mse"));
    let average = format!("{:.4}", bits(&even) + 5e-5);
    let spent = quantize("reasoner", &["--symmetric", "--auto-bits", &average], &path("spent"));
    assert!(bits(&spent) <= bits(&even) + 1e-4);
    let found = compared("reasoner", &["rtn", "gptq", "mse", "spent"].map(path), 2);
    let [_, (rtn, _), (gptq, _), (mse, _), (spent, _)] = found[..] else { panic!("five arms") };
    println!("rtn {rtn:.3e} gptq {gptq:.3e} mse {mse:.3e} spent {spent:.3e}");
    assert!(gptq < rtn * 0.8, "{gptq} {rtn}");
    assert!(spent < mse, "{spent} {mse}");
}
