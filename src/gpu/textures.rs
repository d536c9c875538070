//! Planes of weights in textures, for devices that read those faster than buffers; see `shaders/texels.wgsl`.

use crate::kernels::TEXELS;

/// Bytes of a row of texels.
const ROW: u64 = TEXELS as u64 * 16;

/// Bytes that a plane of `len` bytes takes.
pub fn bytes(len: u64) -> u64 {
    len.next_multiple_of(ROW)
}

/// Bytes of the largest plane there can be.
pub fn largest(limits: &wgpu::Limits) -> u64 {
    ROW * u64::from(limits.max_texture_dimension_2d)
}

/// A texture for a plane of `len` bytes.
pub fn create(device: &wgpu::Device, len: u64, name: &str) -> wgpu::Texture {
    device.create_texture(&wgpu::TextureDescriptor {
        label: Some(name),
        size: extent(TEXELS, len.div_ceil(ROW)),
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format: wgpu::TextureFormat::Rgba32Uint,
        usage: wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::COPY_DST,
        view_formats: &[],
    })
}

/// Copies a plane of `len` bytes, a multiple of 16, to its texture: whole rows, and what is left.
pub fn copy(encoder: &mut wgpu::CommandEncoder, buffer: &wgpu::Buffer, len: u64, texture: &wgpu::Texture) {
    let rows = len / ROW;
    let parts = [(0, TEXELS, rows), (rows, (len % ROW / 16) as u32, 1)];
    for (y, width, height) in parts.into_iter().filter(|&(_, width, height)| width > 0 && height > 0) {
        let layout = wgpu::TexelCopyBufferLayout {
            offset: y * ROW,
            bytes_per_row: Some(ROW as u32),
            rows_per_image: None,
        };
        encoder.copy_buffer_to_texture(
            wgpu::TexelCopyBufferInfo { buffer, layout },
            wgpu::TexelCopyTextureInfo {
                texture,
                mip_level: 0,
                origin: wgpu::Origin3d { x: 0, y: y as u32, z: 0 },
                aspect: wgpu::TextureAspect::All,
            },
            extent(width, height),
        );
    }
}

fn extent(width: u32, height: u64) -> wgpu::Extent3d {
    wgpu::Extent3d { width, height: height as u32, depth_or_array_layers: 1 }
}
