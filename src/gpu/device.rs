//! An open device, and what is compiled for it.

use super::pipeline::{Layouts, Pipeline, compile};
use super::stored::Stored;
use super::{Adapter, Options};
use crate::capabilities::Capabilities;
use crate::error::{Error, Result};
use crate::kernels::Kernel;
use crate::recording::Recording;
use rayon::prelude::*;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// An open device. Clones are the same one.
#[derive(Clone)]
pub struct Device(Arc<Inner>);

struct Inner {
    device: wgpu::Device,
    queue: wgpu::Queue,
    capabilities: Capabilities,
    checked: bool,
    compiled: Mutex<Compiled>,
    /// The first thing that the device reported outside of any scope: an error, or its own loss.
    failure: Arc<Mutex<Option<String>>>,
}

/// Pipelines by the text of their kernels, and what making one takes.
struct Compiled {
    layouts: Layouts,
    pipelines: HashMap<String, Pipeline>,
    stored: Option<Stored>,
}

impl Device {
    /// Opens an adapter.
    ///
    /// # Errors
    /// When the driver refuses.
    pub async fn open(adapter: Adapter, options: Options) -> Result<Self> {
        let capabilities = match options.baseline {
            true => adapter.capabilities.baseline(),
            false => adapter.capabilities,
        };
        let optional = [
            (capabilities.subgroups.is_some(), wgpu::Features::SUBGROUP),
            (capabilities.timestamps, wgpu::Features::TIMESTAMP_QUERY),
            (capabilities.matrices.is_some(), wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX),
            (capabilities.f16, wgpu::Features::SHADER_F16),
            (capabilities.int64, wgpu::Features::SHADER_INT64),
            (capabilities.texture_read_write, wgpu::Features::TEXTURE_ADAPTER_SPECIFIC_FORMAT_FEATURES),
        ];
        let experimental_features = match capabilities.matrices {
            // SAFETY: the one experimental feature that is asked for is matrices. Of the two kernels that use them one measures
            // them, and the other is used only where it was measured and gave what the others do.
            Some(_) => unsafe { wgpu::ExperimentalFeatures::enabled() },
            None => wgpu::ExperimentalFeatures::disabled(),
        };
        let stores = adapter.adapter.features().contains(wgpu::Features::PIPELINE_CACHE);
        let directory = options.pipelines.filter(|_| stores);
        let mut required_features = wgpu::Features::empty();
        required_features.set(wgpu::Features::PIPELINE_CACHE, directory.is_some());
        optional.iter().filter(|(has, _)| *has).for_each(|(_, feature)| required_features |= *feature);
        let mut required_limits = adapter.adapter.limits();
        if options.baseline {
            // So that the device itself refuses what goes beyond.
            required_limits = wgpu::Limits::default().or_worse_values_from(&required_limits);
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("sixteen-states"),
            required_features,
            required_limits,
            experimental_features,
            memory_hints: wgpu::MemoryHints::Performance,
            ..Default::default()
        };
        let (device, queue) =
            adapter.adapter.request_device(&descriptor).await.map_err(|e| Error::Device {
                device: capabilities.device.clone(),
                problem: format!("could not be opened: {e}"),
            })?;
        let stored =
            directory.and_then(|directory| Stored::open(&device, &adapter.adapter.get_info(), &directory));
        let failure = Arc::new(Mutex::new(None));
        let note = |failure: &Arc<Mutex<Option<String>>>, text: String| {
            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
        };
        let shared = Arc::clone(&failure);
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| note(&shared, describe(&e))));
        let shared = Arc::clone(&failure);
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                let text = format!(
                    "was lost ({message}): its memory may have run out (try a shorter --ctx or fewer --bits), or a \
                     step may have taken longer than the system allows"
                );
                note(&shared, text);
            }
        });
        let compiled =
            Mutex::new(Compiled { layouts: Layouts::default(), pipelines: HashMap::new(), stored });
        let checked = options.checked;
        Ok(Device(Arc::new(Inner { device, queue, capabilities, checked, compiled, failure })))
    }

    /// What it can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    pub(super) fn wgpu(&self) -> &wgpu::Device {
        &self.0.device
    }

    pub(super) fn queue(&self) -> &wgpu::Queue {
        &self.0.queue
    }

    pub(super) fn error(&self, problem: impl Into<String>) -> Error {
        Error::Device { device: self.0.capabilities.device.clone(), problem: problem.into() }
    }

    /// What the device reported since it was opened, if anything.
    pub(super) fn check(&self) -> Result<()> {
        match &*self.0.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(problem) => Err(self.error(problem.clone())),
            None => Ok(()),
        }
    }

    /// The pipelines of a recording's dispatches. Compiles those that are not there yet, in parallel.
    pub(super) fn compile(&self, recording: &Recording) -> Result<Vec<Pipeline>> {
        // Held until all are there, so that nobody else compiles the same. None of the threads that help asks for it.
        let mut compiled = self.0.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let Compiled { layouts, pipelines, stored } = &mut *compiled;
        let mut keys = Vec::with_capacity(recording.dispatches.len());
        let mut missing = HashMap::new();
        for dispatch in &recording.dispatches {
            let kernel = Kernel::named(dispatch.kernel)
                .ok_or_else(|| self.error(format!("no kernel {}", dispatch.kernel)))?;
            let source = kernel.source(dispatch, self.capabilities());
            keys.push(source.text.clone());
            if !pipelines.contains_key(&source.text) && !missing.contains_key(&source.text) {
                let bindings = layouts.get(self.wgpu(), kernel.access);
                let plane = kernel.planes(dispatch, self.capabilities());
                let planes = (!dispatch.planes.is_empty())
                    .then(|| (plane, layouts.get(self.wgpu(), &vec![plane; dispatch.planes.len()])));
                missing.insert(source.text.clone(), (kernel, source, bindings, planes));
            }
        }
        let none = missing.is_empty();
        let cache = stored.as_ref().map(Stored::cache);
        let made: Result<Vec<_>, String> = missing
            .into_par_iter()
            .map(|(key, (kernel, source, bindings, planes))| {
                Ok((key, compile(self.wgpu(), kernel, &source, self.0.checked, bindings, planes, cache)?))
            })
            .collect();
        pipelines.extend(made.map_err(|problem| self.error(problem))?);
        stored.iter_mut().filter(|_| !none).for_each(Stored::save);
        Ok(keys.iter().map(|key| pipelines[key].clone()).collect())
    }
}

/// An error of wgpu in one line.
pub(super) fn describe(error: &wgpu::Error) -> String {
    match error {
        wgpu::Error::OutOfMemory { .. } => "out of memory; try a shorter --ctx or fewer --bits".to_owned(),
        wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
            description.replace('\n', " ")
        }
    }
}
