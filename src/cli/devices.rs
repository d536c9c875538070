//! `infer devices`: what there is to run on, and whether it computes what it should.

use super::args::Common;
use super::console::{Console, Output};
use crate::capabilities::Capabilities;
use crate::cpu::Cpu;
use crate::engine::check::{Outcome, check};
use crate::error::{Error, Result};
use crate::gpu::{self, Adapter, Gpu, Options};
use crate::kernels::KERNELS;
use crate::recording::Executor;
use pollster::block_on;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Wrong cases that are named in an error.
const LISTED: usize = 5;

const EXAMPLES: &str = "\
Examples:
  infer devices
  infer devices --check                    every GPU; exit code 1 if anything is wrong
  infer devices --check -d nvidia --baseline
  infer devices --json";

/// List the devices with their limits and features, and check what they compute
///
/// The number or any part of the name is what --device takes. With --check, every kernel runs on small
/// inputs and is compared with its twin, the same computation in plain Rust: a driver that miscompiles one
/// shows here, not as an odd text.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Run every kernel's cases on every GPU (or on --device) and compare with the CPU's results
    #[arg(long)]
    check: bool,
}

/// A device of the list.
struct Entry {
    /// What `--device` takes.
    index: String,
    /// None for the CPU.
    adapter: Option<Adapter>,
    capabilities: Capabilities,
}

/// Lists, and checks.
pub fn run(args: &Args, common: &Common, console: &Console) -> Result<()> {
    let mut out = Output::default();
    let mut list = Vec::new();
    let mut wrong = Vec::new();
    let entries = entries(common)?;
    if entries.iter().all(|e| e.adapter.is_none()) && common.device.is_none() {
        console.note("no GPU found; on Linux, install a Vulkan driver (Debian, Ubuntu: mesa-vulkan-drivers)");
    }
    for entry in entries {
        let mut object = json!(entry.capabilities);
        if !common.json && out.line(&describe(&entry))?.is_break() {
            return Ok(());
        }
        // The CPU runs the twins themselves: there is nothing to compare with, unless it is asked for.
        if args.check && (entry.adapter.is_some() || common.device.is_some()) {
            let name = entry.capabilities.device.clone();
            let checked = check_device(entry, common, console);
            let outcomes = match &checked {
                Ok(outcomes) => outcomes.as_slice(),
                Err(e) => {
                    wrong.push(format!("{name}: {e}"));
                    &[]
                }
            };
            let bad: Vec<&Outcome> = outcomes.iter().filter(|o| o.problem.is_some()).collect();
            wrong.extend(bad.iter().map(|o| format!("{name}: {}", sentence(o))));
            if common.json {
                object["checks"] = outcomes.iter().map(outcome_json).collect();
                object["check_error"] = json!(checked.as_ref().err().map(ToString::to_string));
            } else if let Ok(outcomes) = &checked {
                for outcome in &bad {
                    let _ = out.line(&format!("  WRONG {}", sentence(outcome)))?;
                }
                // Some kernels need what not every device has.
                let kernels: BTreeSet<_> = outcomes.iter().map(|outcome| outcome.kernel).collect();
                let (cases, kernels) = (outcomes.len(), kernels.len());
                let _ = out.line(&match bad.len() {
                    0 => format!("  check: all {cases} cases of {kernels} kernels are right"),
                    n => format!("  check: {n} of {cases} cases of {kernels} kernels are wrong"),
                })?;
            }
        }
        list.push(object);
    }
    if common.json {
        out.json(&Value::Array(list))?;
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let (count, more) = (wrong.len(), if wrong.len() > LISTED { "; …" } else { "" });
    wrong.truncate(LISTED);
    Err(Error::Model(format!("{count} checks failed: {}{more}", wrong.join("; "))))
}

/// Every device there is, the CPU last, or the one that was asked for.
fn entries(common: &Common) -> Result<Vec<Entry>> {
    let cpu =
        || Entry { index: "cpu".to_owned(), adapter: None, capabilities: Cpu::new().capabilities().clone() };
    if common.device.as_deref() == Some("cpu") {
        return Ok(vec![cpu()]);
    }
    let adapters = block_on(gpu::adapters());
    let names: Vec<String> = adapters.iter().map(|a| a.capabilities.device.clone()).collect();
    let entry = |index: usize, adapter: Adapter| Entry {
        index: index.to_string(),
        capabilities: match common.baseline {
            true => adapter.capabilities.baseline(),
            false => adapter.capabilities.clone(),
        },
        adapter: Some(adapter),
    };
    let Some(choice) = common.device.as_deref() else {
        let gpus = adapters.into_iter().enumerate().map(|(i, adapter)| entry(i, adapter));
        return Ok(gpus.chain([cpu()]).collect());
    };
    let chosen = gpu::choose(adapters, Some(choice))?;
    let found = chosen.into_iter().map(|adapter| {
        let number = choice.parse().ok().filter(|&i| i < names.len());
        let index = number.or(names.iter().position(|name| *name == adapter.capabilities.device));
        entry(index.unwrap_or_default(), adapter)
    });
    Ok(found.collect())
}

/// Every kernel's cases on one device.
fn check_device(entry: Entry, common: &Common, console: &Console) -> Result<Vec<Outcome>> {
    let mut executor: Box<dyn Executor> = match entry.adapter {
        Some(adapter) => {
            let options = Options { baseline: common.baseline, ..Options::default() };
            Box::new(block_on(Gpu::open(adapter, options))?)
        }
        None => Box::new(Cpu::new()),
    };
    let bar = console.bar(KERNELS.len() as u64, "checking", "kernel {pos} of {len}");
    let outcomes = KERNELS.iter().map(|kernel| {
        bar.inc(1);
        bar.set_message(format!("checking {}", kernel.name));
        block_on(check(&mut *executor, kernel, (kernel.cases)()))
    });
    let outcomes: Result<Vec<_>> = outcomes.collect();
    bar.finish_and_clear();
    Ok(outcomes?.into_iter().flatten().collect())
}

fn sentence(outcome: &Outcome) -> String {
    format!("{} ({}): {}", outcome.kernel, outcome.case, outcome.problem.as_deref().unwrap_or("right"))
}

fn outcome_json(outcome: &Outcome) -> Value {
    // An error that is not finite has no number in JSON: it is null.
    json!({
        "kernel": outcome.kernel, "case": outcome.case, "error": outcome.error, "problem": outcome.problem,
    })
}

/// A device in a few lines.
fn describe(entry: &Entry) -> String {
    let c = &entry.capabilities;
    let subgroups = c.subgroups.map(|(low, high)| match low == high {
        true => format!("subgroups of {low}"),
        false => format!("subgroups of {low} to {high}"),
    });
    let features = [
        c.software.then(|| "runs on the processor".to_owned()),
        c.f16.then(|| "f16".to_owned()),
        c.int64.then(|| "64-bit integers".to_owned()),
        c.textures.then(|| "weights in textures".to_owned()),
        c.texture_read_write.then(|| "textures read and written".to_owned()),
        subgroups,
        c.timestamps.then(|| "timestamps".to_owned()),
        c.immediates.then(|| "immediates".to_owned()),
        c.matrices.map(|m| format!("matrices of {}", m.size)),
    ];
    let features: Vec<String> = features.into_iter().flatten().collect();
    let features = if features.is_empty() { "none".to_owned() } else { features.join(", ") };
    let free = c.free_memory.map(|bytes| format!(", {} free", size(bytes)));
    format!(
        "{}: {}\n  driver:   {}, {}\n  features: {features}\n  limits:   binding {}, buffer {}, uniform {}, {} storage \
         buffers, workgroup {} and {} invocations{}",
        entry.index,
        c.device,
        c.backend,
        c.driver,
        size(c.max_binding),
        size(c.max_buffer),
        size(c.max_uniform),
        c.max_storage_buffers,
        size(u64::from(c.max_workgroup_memory)),
        c.max_invocations,
        free.unwrap_or_default(),
    )
}

fn size(bytes: u64) -> String {
    let units = [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let (unit, name) = units.into_iter().find(|(unit, _)| bytes >= *unit).unwrap_or((1, "B"));
    let whole = bytes.is_multiple_of(unit);
    if whole {
        format!("{} {name}", bytes / unit)
    } else {
        format!("{:.1} {name}", bytes as f64 / unit as f64)
    }
}
