//! What a device can do. Read once from the adapter, then handed to whoever records or compiles.
//!
//! Every feature is optional: [`Capabilities::baseline`] is what WebGPU promises everywhere, and each test
//! that passes with everything switched on passes with that too.

use serde::Serialize;

/// The features and limits of one device, as far as this crate cares.
#[derive(Clone, Debug, Serialize)]
pub struct Capabilities {
    /// The adapter's name.
    pub device: String,
    /// `vulkan`, `metal`, `dx12`, or `cpu` for the twins.
    pub backend: String,
    /// The driver and its version, as it names itself.
    pub driver: String,
    /// A GPU driver that runs on the processor. Such devices want other loops than a GPU does.
    pub software: bool,
    /// `enable f16;` is accepted.
    pub f16: bool,
    /// `u64` is accepted.
    pub int64: bool,
    /// Weights are to lie in textures. Devices that run on the processor read those faster: some load from a buffer lane by lane.
    pub textures: bool,
    /// Such a texture can be read and written by one kernel.
    pub texture_read_write: bool,
    /// Least and greatest subgroup size, where subgroup operations work.
    pub subgroups: Option<(u32, u32)>,
    /// Timestamps can be written at the ends of a compute pass.
    pub timestamps: bool,
    /// Small per-dispatch constants (push constants) are there.
    pub immediates: bool,
    /// Matrix units, where they are reachable.
    pub matrices: Option<Matrices>,
    /// Largest storage binding in bytes; a larger weight is split into shards by rows.
    pub max_binding: u64,
    /// Largest buffer in bytes.
    pub max_buffer: u64,
    /// Largest uniform binding in bytes.
    pub max_uniform: u64,
    /// Windows into buffers start at multiples of this many bytes.
    pub window_alignment: u64,
    /// Storage buffers that one kernel may bind.
    pub max_storage_buffers: u32,
    /// Bytes of workgroup memory.
    pub max_workgroup_memory: u32,
    /// Invocations of one workgroup.
    pub max_invocations: u32,
    /// Memory known to be free for buffers, in bytes, where anything tells.
    pub free_memory: Option<u64>,
}

/// Units of a device that multiply square matrices of 16-bit floats and add them to one of 32-bit floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Matrices {
    /// Rows and columns of each.
    pub size: u32,
    /// Lanes of the subgroup that holds them together.
    pub lanes: u32,
}

impl Capabilities {
    /// Whether lanes are four at a time, as SwiftShader's are, and not llvmpipe's.
    pub fn few_lanes(&self) -> bool {
        self.subgroups == Some((4, 4))
    }

    /// A device that has nothing but what WebGPU promises.
    pub fn promised(device: &str, backend: &str) -> Self {
        Capabilities {
            device: device.to_owned(),
            backend: backend.to_owned(),
            driver: String::new(),
            software: false,
            f16: false,
            int64: false,
            textures: false,
            texture_read_write: false,
            subgroups: None,
            timestamps: false,
            immediates: false,
            matrices: None,
            max_binding: 128 << 20,
            max_buffer: 256 << 20,
            max_uniform: 64 << 10,
            window_alignment: 256,
            max_storage_buffers: 8,
            max_workgroup_memory: 16 << 10,
            max_invocations: 256,
            free_memory: None,
        }
    }

    /// The same device with every optional feature masked off and every limit at WebGPU's promise.
    pub fn baseline(&self) -> Self {
        let promised = Capabilities::promised(&self.device, &self.backend);
        Capabilities {
            driver: self.driver.clone(),
            software: self.software,
            max_binding: self.max_binding.min(promised.max_binding),
            max_buffer: self.max_buffer.min(promised.max_buffer),
            max_uniform: self.max_uniform.min(promised.max_uniform),
            max_storage_buffers: self.max_storage_buffers.min(promised.max_storage_buffers),
            max_workgroup_memory: self.max_workgroup_memory.min(promised.max_workgroup_memory),
            max_invocations: self.max_invocations.min(promised.max_invocations),
            free_memory: self.free_memory,
            ..promised
        }
    }
}
