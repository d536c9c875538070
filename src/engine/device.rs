//! Which device runs a model.

use crate::cpu::Cpu;
use crate::error::Result;
use crate::gpu::{self, Gpu, Options};
use crate::recording::Executor;
use std::path::PathBuf;

/// What the user asked for.
#[derive(Clone, Debug, Default)]
pub struct DeviceChoice {
    /// A number, part of a name, or "cpu"; none for the best there is.
    pub name: Option<String>,
    /// Use no optional feature.
    pub baseline: bool,
    /// Let the driver check every access.
    pub checked: bool,
    /// Where compiled pipelines are kept from one run to the next, if anywhere.
    pub pipelines: Option<PathBuf>,
}

/// An open device.
pub struct Opened {
    /// The device.
    pub executor: Box<dyn Executor>,
    /// What the user should know about the choice, if anything.
    pub note: Option<String>,
}

/// Opens a device.
///
/// # Errors
/// When it is not there or cannot be opened.
pub async fn open_device(choice: &DeviceChoice) -> Result<Opened> {
    let cpu = |note| Ok(Opened { executor: Box::new(Cpu::new()), note });
    if choice.name.as_deref() == Some("cpu") {
        return cpu(None);
    }
    let pipelines = choice.pipelines.clone();
    let options = Options { baseline: choice.baseline, checked: choice.checked, pipelines };
    match gpu::choose(gpu::adapters().await, choice.name.as_deref())? {
        Some(adapter) => Ok(Opened { executor: Box::new(Gpu::open(adapter, options).await?), note: None }),
        None => {
            let advice = if cfg!(target_os = "linux") {
                "install a Vulkan driver (on Debian and Ubuntu: apt-get install mesa-vulkan-drivers)"
            } else {
                "install the graphics driver of your GPU's maker"
            };
            cpu(Some(format!("no GPU found, running on the CPU, slowly; {advice}")))
        }
    }
}
