//! The GPU, through wgpu: the only module that names it.
//!
//! [`adapters`] lists what there is, [`Gpu::open`] makes an [`Executor`](crate::recording::Executor) of one. Several on one
//! [`Device`] share what was compiled for it.

mod device;
mod executor;
mod pipeline;
mod stored;
mod textures;
mod timing;

pub use device::Device;
pub use executor::Gpu;

use crate::capabilities::{Capabilities, Matrices};
use crate::error::{Error, Result};
use std::path::PathBuf;

/// A device that could be opened.
pub struct Adapter {
    adapter: wgpu::Adapter,
    /// What it can do.
    pub capabilities: Capabilities,
}

/// How a device is used.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Use no optional feature, and no limit beyond WebGPU's promise.
    pub baseline: bool,
    /// Let the driver check every access and bound every loop. Slow; for tests.
    pub checked: bool,
    /// Where compiled pipelines are kept from one run to the next, if anywhere.
    pub pipelines: Option<PathBuf>,
}

/// Every adapter of the native backends, real GPUs first. `WGPU_BACKEND` narrows the backends.
pub async fn adapters() -> Vec<Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    let native = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    descriptor.backends &= native;
    let instance = wgpu::Instance::new(descriptor);
    let found = instance.enumerate_adapters(native).await;
    let mut adapters: Vec<Adapter> =
        found.into_iter().map(|adapter| Adapter { capabilities: capabilities(&adapter), adapter }).collect();
    let rank = |a: &Adapter| match a.adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    };
    adapters.sort_by_key(rank);
    adapters
}

/// The adapter that `choice` means: the first one, a number, or part of a name in any case.
///
/// # Errors
/// When no adapter is meant; the message lists those there are.
pub fn choose(adapters: Vec<Adapter>, choice: Option<&str>) -> Result<Option<Adapter>> {
    let Some(choice) = choice else { return Ok(adapters.into_iter().next()) };
    let names: Vec<String> = adapters.iter().map(|a| a.capabilities.device.clone()).collect();
    let wanted = choice.to_lowercase();
    let index = match choice.parse::<usize>() {
        Ok(index) if index < names.len() => Some(index),
        _ => names.iter().position(|name| name.to_lowercase().contains(&wanted)),
    };
    let list = || {
        let list: Vec<String> = names.iter().enumerate().map(|(i, n)| format!("{i} {n:?}")).collect();
        if list.is_empty() { "none was found".to_owned() } else { list.join(", ") }
    };
    match index {
        Some(index) => Ok(adapters.into_iter().nth(index)),
        None => Err(Error::Usage(format!("no device {choice:?}; there are: {}; or \"cpu\"", list()))),
    }
}

fn capabilities(adapter: &wgpu::Adapter) -> Capabilities {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    let has = |f: wgpu::Features| features.contains(f);
    let software = info.device_type == wgpu::DeviceType::Cpu;
    Capabilities {
        device: info.name.clone(),
        backend: info.backend.to_str().to_owned(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        software,
        f16: has(wgpu::Features::SHADER_F16),
        int64: has(wgpu::Features::SHADER_INT64),
        textures: software,
        texture_read_write: has(wgpu::Features::TEXTURE_ADAPTER_SPECIFIC_FORMAT_FEATURES)
            && adapter
                .get_texture_format_features(textures::FORMAT)
                .flags
                .contains(wgpu::TextureFormatFeatureFlags::STORAGE_READ_WRITE),
        // naga's HLSL gives the number of a lane only to arguments, and to no member of a structure, as reductions have it.
        subgroups: (has(wgpu::Features::SUBGROUP) && info.backend != wgpu::Backend::Dx12)
            .then_some((info.subgroup_min_size, info.subgroup_max_size)),
        timestamps: has(wgpu::Features::TIMESTAMP_QUERY),
        immediates: has(wgpu::Features::IMMEDIATES),
        matrices: matrices(adapter, &info),
        // Bindings stop below 2 GiB even where more is reported.
        max_binding: limits.max_storage_buffer_binding_size.min((1 << 31) - 256).min(if software {
            textures::largest(&limits)
        } else {
            u64::MAX
        }),
        max_buffer: limits.max_buffer_size.min((1 << 31) - 256),
        max_uniform: limits.max_uniform_buffer_binding_size.min(64 << 10),
        window_alignment: u64::from(
            limits.min_storage_buffer_offset_alignment.max(limits.min_uniform_buffer_offset_alignment),
        ),
        max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
        max_workgroup_memory: limits.max_compute_workgroup_storage_size,
        max_invocations: limits.max_compute_invocations_per_workgroup,
        // These allocate from the machine's memory; of others nothing portable tells.
        free_memory: if software || info.device_type == wgpu::DeviceType::IntegratedGpu {
            crate::memory::available()
        } else {
            None
        },
    }
}

/// Matrix units that kernels can use: of halves, adding up floats, with subgroups of one size.
fn matrices(adapter: &wgpu::Adapter, info: &wgpu::AdapterInfo) -> Option<Matrices> {
    use wgpu::CooperativeScalarType::{F16, F32};
    let needed = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16;
    let (lanes, most) = match info.backend {
        // wgpu says 4 to 64 of all of them; those that have matrices are Apple's, of 32 lanes.
        wgpu::Backend::Metal => (32, 32),
        _ => (info.subgroup_min_size, info.subgroup_max_size),
    };
    if !adapter.features().contains(needed) || lanes == 0 || lanes != most {
        return None;
    }
    let fits = |p: &wgpu::CooperativeMatrixProperties| {
        (p.ab_type, p.cr_type) == (F16, F32) && p.m_size == p.n_size && p.n_size == p.k_size
    };
    let sizes = adapter.cooperative_matrix_properties().into_iter().filter(fits).map(|p| p.m_size);
    sizes.max().map(|size| Matrices { size, lanes })
}
