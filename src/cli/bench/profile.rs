//! `infer bench --profile`: time by kernel as a table, and every dispatch as a trace that browsers show.

use crate::engine::{Launch, Limits};
use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

/// Every test's dispatches, in the trace event format that chrome://tracing and ui.perfetto.dev read.
#[derive(Default)]
pub struct Trace(Vec<Value>);

impl Trace {
    /// Adds a test; each has a row of its own.
    pub fn add(&mut self, test: &str, launches: &[Launch]) {
        let thread = self.0.iter().filter(|event| event["ph"] == "M").count();
        self.0.push(json!({
            "ph": "M", "name": "thread_name", "pid": 0, "tid": thread, "args": { "name": test },
        }));
        // Dispatches follow one another; the time between them, which the timing itself makes, is left out.
        let mut now = Duration::ZERO;
        for launch in launches {
            self.0.push(json!({
                "ph": "X", "name": launch.kernel, "cat": launch.part, "pid": 0, "tid": thread,
                "ts": now.as_nanos() as f64 / 1e3, "dur": launch.time.as_nanos() as f64 / 1e3,
                "args": {
                    "part": launch.part, "shape": launch.shape, "step": launch.step,
                    "weight_bytes": launch.weight_bytes, "operations": launch.operations,
                },
            }));
            now += launch.time;
        }
    }

    /// Writes the file.
    pub fn write(self, path: &Path) -> Result<()> {
        let text = json!({ "traceEvents": self.0, "displayTimeUnit": "ms" }).to_string();
        std::fs::write(path, text).map_err(|e| Error::io(path, e))
    }
}

/// Launches of one kernel and shape, over all steps.
#[derive(Default)]
struct Sum {
    calls: usize,
    time: Duration,
    longest: Duration,
    weight_bytes: u64,
    operations: u64,
}

/// Time by kernel, the longest first, a step's; and what the longest dispatch took, which systems with a watchdog limit.
pub fn table(test: &str, launches: &[Launch], limits: Limits) -> String {
    let steps = launches.last().map_or(1, |last| last.step + 1);
    let mut sums: BTreeMap<(&str, &str), Sum> = BTreeMap::new();
    for launch in launches {
        let sum = sums.entry((launch.kernel, launch.shape.as_deref().unwrap_or(""))).or_default();
        sum.calls += 1;
        sum.time += launch.time;
        sum.longest = sum.longest.max(launch.time);
        sum.weight_bytes += launch.weight_bytes;
        sum.operations += launch.operations;
    }
    let total: Duration = launches.iter().map(|launch| launch.time).sum();
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.time));
    let mut text = format!(
        "\n{test}: {:.3} ms a step on the device, {} steps\n{:<23} {:<34} {:>6} {:>10} {:>10} {:>6} {:>10} {:>10}\n",
        total.as_secs_f64() * 1e3 / steps as f64,
        steps,
        "kernel",
        "weight",
        "calls",
        "ms",
        "longest",
        "share",
        "of copies",
        "of flops"
    );
    for ((kernel, shape), sum) in sums {
        let seconds = sum.time.as_secs_f64().max(1e-12);
        // More than there is to have is no share: in most steps of a long prompt the output layer has no row to work on.
        let of = |amount: u64, limit: f64| match limits.share(amount as f64 / seconds, limit) {
            Some(share) if amount > 0 && share <= 1.2 => format!("{:.1}%", share * 100.0),
            _ => String::new(),
        };
        let _ = writeln!(
            text,
            "{kernel:<23} {shape:<34} {:>6} {:>10.3} {:>10.3} {:>5.1}% {:>10} {:>10}",
            sum.calls / steps,
            seconds * 1e3 / steps as f64,
            sum.longest.as_secs_f64() * 1e3,
            seconds / total.as_secs_f64().max(1e-12) * 100.0,
            of(sum.weight_bytes, limits.copy_bytes_per_s),
            of(sum.operations, limits.flops()),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(step: usize, kernel: &'static str, micros: u64) -> Launch {
        Launch {
            step,
            part: "layer 0".to_owned(),
            kernel,
            shape: (kernel == "matmul").then(|| "q4 8×8, 1 rows".to_owned()),
            time: Duration::from_micros(micros),
            weight_bytes: 1000,
            operations: 500,
        }
    }

    #[test]
    fn the_table_is_of_a_step_and_its_shares_add_up() {
        let launches = [
            launch(0, "copy", 100),
            launch(0, "matmul", 300),
            launch(1, "copy", 200),
            launch(1, "matmul", 400),
        ];
        let text = table(
            "tg2",
            &launches,
            Limits {
                copy_bytes_per_s: 1e7,
                f32_flops: 1e7,
                f16_flops: None,
                matrix_flops: None,
                of_twins: false,
            },
        );
        assert!(text.contains("0.500 ms a step on the device, 2 steps"), "{text}");
        let line = |kernel: &str| text.lines().find(|line| line.starts_with(kernel)).unwrap();
        let cells = |kernel: &str| line(kernel).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        // 2000 bytes in 700 µs are 2.86 MB/s of 10; 1000 operations half of that.
        assert!(
            cells("matmul").ends_with(&["1", "0.350", "0.400", "70.0%", "28.6%", "14.3%"].map(str::to_owned)),
            "{text}"
        );
        assert!(
            cells("copy").starts_with(&["copy", "1", "0.150", "0.200", "30.0%"].map(str::to_owned)),
            "{text}"
        );
        assert!(text.find("matmul") < text.find("copy"), "the longest is first: {text}");
    }

    #[test]
    fn a_trace_has_a_row_a_test_and_no_gaps() {
        let mut trace = Trace::default();
        trace.add("pp8", &[launch(0, "copy", 100), launch(0, "matmul", 300)]);
        trace.add("tg8", &[launch(0, "copy", 50)]);
        let of = |i: usize, key: &str| trace.0[i][key].clone();
        assert_eq!((of(2, "ts"), of(2, "dur"), of(2, "tid")), (json!(100.0), json!(300.0), json!(0)));
        assert_eq!((of(4, "ts"), of(4, "dur"), of(4, "tid")), (json!(0.0), json!(50.0), json!(1)));
    }
}
