//! Kernels compiled for one device.

use super::textures;
use crate::kernels::{Access, Kernel, Source};
use std::collections::HashMap;

/// A compiled kernel with the layouts of its two groups, and how the second is bound.
#[derive(Clone)]
pub struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub bindings: wgpu::BindGroupLayout,
    pub planes: Option<(Access, wgpu::BindGroupLayout)>,
}

/// Bind group layouts, each made once.
#[derive(Default)]
pub struct Layouts(HashMap<Vec<Access>, wgpu::BindGroupLayout>);

impl Layouts {
    /// The layout of a group with these bindings.
    pub fn get(&mut self, device: &wgpu::Device, access: &[Access]) -> wgpu::BindGroupLayout {
        let make = || {
            let entries: Vec<_> =
                access.iter().enumerate().map(|(i, &access)| entry(i as u32, access)).collect();
            device
                .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries })
        };
        self.0.entry(access.to_vec()).or_insert_with(make).clone()
    }
}

fn entry(binding: u32, access: Access) -> wgpu::BindGroupLayoutEntry {
    let buffer = |ty| wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None };
    let storage = |access| wgpu::BindingType::StorageTexture {
        access,
        format: textures::FORMAT,
        view_dimension: wgpu::TextureViewDimension::D2,
    };
    let ty = match access {
        Access::Uniform => buffer(wgpu::BufferBindingType::Uniform),
        Access::Read => buffer(wgpu::BufferBindingType::Storage { read_only: true }),
        Access::ReadWrite => buffer(wgpu::BufferBindingType::Storage { read_only: false }),
        Access::Texture => wgpu::BindingType::Texture {
            sample_type: wgpu::TextureSampleType::Uint,
            view_dimension: wgpu::TextureViewDimension::D2,
            multisampled: false,
        },
        Access::TextureRead => storage(wgpu::StorageTextureAccess::ReadOnly),
        Access::TextureWrite => storage(wgpu::StorageTextureAccess::WriteOnly),
        Access::TextureReadWrite => storage(wgpu::StorageTextureAccess::ReadWrite),
    };
    wgpu::BindGroupLayoutEntry { binding, visibility: wgpu::ShaderStages::COMPUTE, ty, count: None }
}

/// Compiles a kernel. May be called from several threads at once.
///
/// # Errors
/// What the compiler said, with lines named by their WGSL files.
pub fn compile(
    device: &wgpu::Device,
    kernel: &Kernel,
    source: &Source,
    checked: bool,
    bindings: wgpu::BindGroupLayout,
    planes: Option<(Access, wgpu::BindGroupLayout)>,
    cache: Option<&wgpu::PipelineCache>,
) -> Result<Pipeline, String> {
    let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(kernel.name),
        source: wgpu::ShaderSource::Wgsl(source.text.as_str().into()),
    };
    let module = if checked {
        device.create_shader_module(descriptor)
    } else {
        // SAFETY: the kernels are ours; tests run each that needs no optional feature with all checks on too, and it keeps
        // its indices within its bindings and its loops finite for every shape that a model is checked to have.
        unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
    };
    let messages = pollster::block_on(module.get_compilation_info()).messages;
    let errors: Vec<String> = messages
        .iter()
        .filter(|m| m.message_type == wgpu::CompilationMessageType::Error)
        .map(|m| {
            let place = m.location.map_or_else(String::new, |l| source.locate(l.line_number as usize) + ": ");
            // The first line says it; the rest draws the source.
            place + m.message.lines().find(|line| !line.trim().is_empty()).unwrap_or_default()
        })
        .collect();
    let layouts = [Some(&bindings), planes.as_ref().map(|(_, layout)| layout)];
    let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: if planes.is_some() { &layouts } else { &layouts[..1] },
        immediate_size: 0,
    });
    let pipeline = errors.is_empty().then(|| {
        device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel.name),
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // No kernel reads workgroup memory that it has not written.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache,
        })
    });
    let error = pollster::block_on(scope.pop());
    match (pipeline, error) {
        (Some(pipeline), None) => Ok(Pipeline { pipeline, bindings, planes }),
        (_, error) if errors.is_empty() => Err(format!(
            "kernel {} was refused: {}",
            kernel.name,
            error.map(|e| e.to_string()).unwrap_or_default()
        )),
        _ => Err(format!("kernel {} does not compile: {}", kernel.name, errors.join("; "))),
    }
}
