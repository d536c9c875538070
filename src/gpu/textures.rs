//! What a buffer would hold, in textures, for devices that read those faster; see `shaders/texels.wgsl`.

use crate::kernels::TEXELS;

/// Bytes of a row of texels.
const ROW: u64 = TEXELS as u64 * 16;

/// Four words a texel.
pub const FORMAT: wgpu::TextureFormat = wgpu::TextureFormat::Rgba32Uint;

/// Bytes that what would be `len` bytes of a buffer takes.
pub fn bytes(len: u64) -> u64 {
    len.next_multiple_of(ROW)
}

/// Most rows of a texture: kernels work out with a 32-bit float which one a texel is in.
const MOST_ROWS: u64 = (1 << 24) / TEXELS as u64;

/// Bytes of the largest buffer that fits a texture.
pub fn largest(limits: &wgpu::Limits) -> u64 {
    ROW * MOST_ROWS.min(limits.max_texture_dimension_2d.into())
}

/// A texture for `len` bytes.
pub fn create(device: &wgpu::Device, len: u64, name: &str) -> wgpu::Texture {
    device.create_texture(&wgpu::TextureDescriptor {
        label: Some(name),
        size: extent(TEXELS, len.div_ceil(ROW)),
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format: FORMAT,
        usage: wgpu::TextureUsages::TEXTURE_BINDING
            | wgpu::TextureUsages::STORAGE_BINDING
            | wgpu::TextureUsages::COPY_DST
            | wgpu::TextureUsages::COPY_SRC,
        view_formats: &[],
    })
}

/// Copies the first `len` bytes of a buffer, a multiple of 16, to a texture.
pub fn copy(encoder: &mut wgpu::CommandEncoder, buffer: &wgpu::Buffer, len: u64, texture: &wgpu::Texture) {
    for (at, part) in parts(0, len) {
        let layout = wgpu::TexelCopyBufferLayout { offset: at, ..LAYOUT };
        let source = wgpu::TexelCopyBufferInfo { buffer, layout };
        encoder.copy_buffer_to_texture(source, place(texture, at), part);
    }
}

/// Copies `len` bytes from `offset` on, multiples of 16, to a buffer.
pub fn copy_out(
    encoder: &mut wgpu::CommandEncoder,
    texture: &wgpu::Texture,
    (offset, len): (u64, u64),
    buffer: &wgpu::Buffer,
) {
    for (at, part) in parts(offset, len) {
        let layout = wgpu::TexelCopyBufferLayout { offset: at - offset, ..LAYOUT };
        encoder.copy_texture_to_buffer(
            place(texture, at),
            wgpu::TexelCopyBufferInfo { buffer, layout },
            part,
        );
    }
}

/// Writes bytes, as many as a multiple of 16, at an `offset` that is one too.
pub fn write(queue: &wgpu::Queue, texture: &wgpu::Texture, offset: u64, bytes: &[u8]) {
    for (at, part) in parts(offset, bytes.len() as u64) {
        queue.write_texture(place(texture, at), &bytes[(at - offset) as usize..], LAYOUT, part);
    }
}

const LAYOUT: wgpu::TexelCopyBufferLayout =
    wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(ROW as u32), rows_per_image: None };

/// Where the texel of a byte is.
fn place(texture: &wgpu::Texture, at: u64) -> wgpu::TexelCopyTextureInfo<'_> {
    wgpu::TexelCopyTextureInfo {
        texture,
        mip_level: 0,
        origin: wgpu::Origin3d { x: (at % ROW / 16) as u32, y: (at / ROW) as u32, z: 0 },
        aspect: wgpu::TextureAspect::All,
    }
}

/// Rectangles of texels that `len` bytes from `offset` are, by their first byte: what is left of a row, whole rows, and the rest.
fn parts(offset: u64, len: u64) -> impl Iterator<Item = (u64, wgpu::Extent3d)> {
    let (mut at, end) = (offset, offset + len);
    std::iter::from_fn(move || {
        let (first, left) = (at, end - at);
        let (width, height) = match at % ROW {
            0 if left >= ROW => (ROW, left / ROW),
            begun => (left.min(ROW - begun), 1),
        };
        at += width * height;
        (left > 0).then(|| (first, extent((width / 16) as u32, height)))
    })
}

fn extent(width: u32, height: u64) -> wgpu::Extent3d {
    wgpu::Extent3d { width, height: height as u32, depth_or_array_layers: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_what_is_left_of_a_row_whole_rows_and_the_rest() {
        let all = |offset, len| {
            parts(offset, len).map(|(at, part)| (at, part.width, part.height)).collect::<Vec<_>>()
        };
        assert_eq!(all(0, 0), []);
        assert_eq!(all(0, 48), [(0, 3, 1)]);
        assert_eq!(all(0, 3 * ROW + 16), [(0, TEXELS, 3), (3 * ROW, 1, 1)]);
        assert_eq!(all(ROW - 32, 2 * ROW), [(ROW - 32, 2, 1), (ROW, TEXELS, 1), (2 * ROW, TEXELS - 2, 1)]);
        assert_eq!(all(32, 32), [(32, 2, 1)]);
    }
}
