//! What an experiment is about: a model whose weights are loaded in several ways, the device for it, and the journal of
//! what was found.

use super::args::Common;
use super::console::Console;
use super::session::Description;
use crate::capabilities::Capabilities;
use crate::checkpoint::shipped;
use crate::engine::{Engine, OpenOptions, open_device};
use crate::error::Result;
use crate::experiment::arms::Arm;
use crate::experiment::journal::{Header, Journal};
use crate::experiment::output::sha256;
use crate::experiment::results::{DeviceInfo, ModelInfo};
use crate::recording::Executor;
use indicatif::ProgressBar;
use pollster::block_on;
use serde_json::Value;
use std::ops::Deref;
use std::path::Path;
use std::time::SystemTime;

/// A model of which all is known but what its weights are treated with.
pub struct Subject(Description);

impl Deref for Subject {
    type Target = Description;

    fn deref(&self) -> &Description {
        &self.0
    }
}

impl Subject {
    /// Finds a model; none is the one inside the program.
    pub fn open(name: Option<&str>) -> Result<Self> {
        let name = name.filter(|name| !name.is_empty()).unwrap_or(shipped::NAME);
        Description::named(name).map(Subject)
    }

    /// What is told of it.
    pub fn info(&self) -> ModelInfo {
        ModelInfo {
            name: self.name.clone(),
            architecture: self.config.architecture.clone(),
            parameters: self.checkpoint.parameters(),
            layers: self.config.num_hidden_layers,
            weights_hash: self.checkpoint.hash(),
        }
    }

    /// Loads every arm.
    pub fn load(
        &self,
        arms: &[Arm],
        (context, sequences): (usize, usize),
        executor: Box<dyn Executor>,
        bar: &ProgressBar,
    ) -> Result<Engine> {
        let options = OpenOptions {
            weights: arms[0].weights(),
            context: Some(context),
            sequences,
            progress: &mut |bytes| bar.inc(bytes),
        };
        let mut engine = Engine::open(&self.source, arms[0].checkpoint(&self.checkpoint), executor, options)?;
        for arm in &arms[1..] {
            engine.add_arm(arm.checkpoint(&self.checkpoint), &arm.weights(), &mut |bytes| bar.inc(bytes))?;
        }
        Ok(engine)
    }
}

/// Parameters below which a processor does better by itself than through a driver that plays a GPU on it. With a
/// million, on two cores, a run took 40 s on the CPU and 100 s on llvmpipe; the bound between them was not looked for.
const SMALL: u64 = 10_000_000;

/// Opens the device that was asked for, or else the one that suits a model of so many parameters.
pub fn open_for(parameters: u64, common: &Common, console: &Console) -> Result<Box<dyn Executor>> {
    let mut choice = common.choice();
    let mut opened = block_on(open_device(&choice))?;
    let software = opened.executor.capabilities().software && opened.executor.capabilities().device != "cpu";
    if software && choice.name.is_none() && !choice.baseline && parameters < SMALL {
        console
            .detail("no GPU but a software one: so small a model is faster on the CPU itself (-d 0 insists)");
        choice.name = Some("cpu".to_owned());
        opened = block_on(open_device(&choice))?;
    }
    if let Some(note) = &opened.note {
        console.note(note);
    }
    Ok(opened.executor)
}

/// What is told of a device.
pub fn device_info(capabilities: &Capabilities) -> DeviceInfo {
    DeviceInfo {
        name: capabilities.device.clone(),
        backend: capabilities.backend.clone(),
        driver: capabilities.driver.clone(),
    }
}

/// Opens the journal of a run of `command` in which `plan` is fixed: `file` in `report`, or else one in the cache
/// directory.
pub fn open_journal(
    (command, file): (&str, &str),
    plan: Value,
    report: Option<&Path>,
    console: &Console,
) -> Result<Journal> {
    let header = Header {
        journal: format!("sixteen-states {command} 1"),
        date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        hash: sha256(plan.to_string().as_bytes()),
        plan,
    };
    let path = match report {
        Some(directory) => directory.join(file),
        None => super::cache().join(format!("{command}-{}.jsonl", &header.hash[..16])),
    };
    let journal = Journal::open(&path, header)?;
    if !journal.is_empty() {
        console.note(format_args!("going on with the run of {} ({})", journal.header.date, path.display()));
    }
    Ok(journal)
}
