//! Kernels: what the device computes, each as WGSL and as a plain Rust *twin*.
//!
//! A kernel is one file here, one in `shaders/`, and one line in [`KERNELS`]. The file holds: the
//! [`Recorder`](crate::recording::Recorder) method that a model calls; the twin, with the same bindings in
//! the same order and the same constants, accumulating in `f64`; and the cases on which any device is
//! checked against the twin, by the tests and by `infer devices --check`.

mod activate;
mod add_bias;
mod add_experts;
mod add_position;
pub mod attention;
mod attention_append;
mod attention_cases;
mod attention_rows;
mod case;
mod copy;
mod divergence;
mod embed;
mod gather;
mod halve;
mod head_norm;
mod layer_norm;
mod log_prob;
pub mod matmul;
mod matmul_cases;
mod matmul_cooperative;
mod matmul_dot;
mod matmul_experts;
mod matmul_experts_tile;
mod matmul_tile_half;
mod matrix;
mod multiply_add;
mod multiply_add_half;
mod multiply_matrices;
mod pack;
mod planes;
mod quantize;
mod reorder;
mod rms_norm;
mod rope_store;
mod route;
pub mod sample;
mod sample_parts;
mod scale;
mod shape;
mod sort_experts;
mod twin;
mod variant;

pub use activate::Activation;
pub use attention::Cache;
pub use case::{Case, Compare, Input};
pub use divergence::Divergence;
pub use layer_norm::LayerNorm;
pub use matmul_experts::Experts;
pub use matrix::{Matrix, Shard};
pub use pack::{Batch, Pack};
pub use rms_norm::RmsNorm;
pub use rope_store::{Heads, Rotation};
pub use scale::Scale;
pub use shape::{FEW_ROWS_T, Product};
pub use twin::{Invocation, Slot};
pub use variant::Variant;

use crate::capabilities::{Capabilities, Matrices};
use crate::format::{Format, Part, Plane};
use crate::recording::{Const, Dispatch};
use std::fmt::Write;

/// Every kernel there is.
pub const KERNELS: &[&Kernel] = &[
    &embed::KERNEL,
    &add_position::KERNEL,
    &rms_norm::KERNEL,
    &layer_norm::KERNEL,
    &matmul::UNIFORM,
    &matmul::FLAT,
    &matmul::ROWS,
    &matmul::FEW_ROWS,
    &matmul::SPLIT,
    &matmul::TILE,
    &matmul_tile_half::KERNEL,
    &matmul_cooperative::KERNEL,
    &halve::KERNEL,
    &matmul_dot::FEW,
    &matmul_dot::TILE,
    &quantize::KERNEL,
    &matmul_experts::KERNEL,
    &matmul_experts_tile::KERNEL,
    &route::KERNEL,
    &sort_experts::KERNEL,
    &add_experts::KERNEL,
    &add_bias::KERNEL,
    &head_norm::KERNEL,
    &rope_store::WORDS,
    &rope_store::TEXELS,
    &attention::SHARED,
    &attention::LANE,
    &attention::TEXELS,
    &attention_rows::KERNEL,
    &attention_append::SHARED,
    &attention_append::LANE,
    &attention_append::TEXELS,
    &attention::MERGE,
    &activate::KERNEL,
    &scale::KERNEL,
    &gather::KERNEL,
    &reorder::KERNEL,
    &pack::KERNEL,
    &log_prob::KERNEL,
    &divergence::KERNEL,
    &sample_parts::GREATEST,
    &sample_parts::COUNT,
    &sample_parts::COLLECT,
    &sample::KERNEL,
    &copy::KERNEL,
    &multiply_add::KERNEL,
    &multiply_add_half::KERNEL,
    &multiply_matrices::KERNEL,
];

/// No row, no token: what `NONE` is in `shaders/common.wgsl`.
pub const NONE: u32 = u32::MAX;

/// Texels, of 16 bytes, of a row of a texture that holds what a buffer would.
pub const TEXELS: u32 = 1024;

/// How a kernel binds a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// `var<storage, read>`
    Read,
    /// `var<storage, read_write>`
    ReadWrite,
    /// `var<uniform>`
    Uniform,
    /// `texture_2d<u32>`: planes of a weight, where a device has them in textures.
    Texture,
    /// `texture_storage_2d<rgba32uint, read>`: keys and values there, and planes where that is faster.
    TextureRead,
    /// `texture_storage_2d<rgba32uint, write>`
    TextureWrite,
    /// `texture_storage_2d<rgba32uint, read_write>`
    TextureReadWrite,
}

/// What a kernel builds on that differs between devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// It reduces over the workgroup: `Thread`, `workgroup_sum`, `workgroup_max`.
    Reduction,
    /// Lanes load for each other: `Lane`, `SHARED`, `share`, `share_vectors`, `least_of_all`.
    Sharing,
    /// Subgroups of four lanes or more, that swap numbers within quads.
    Quads,
    /// 16-bit floats.
    Halves,
    /// Matrix units: `SIZE`, `LANES` (of a subgroup), `MatrixA`, `MatrixB`, `MatrixC`.
    Matrices,
}

/// Whether a device loads number by number, so that it should load long ones.
fn loads_long(device: &Capabilities) -> bool {
    device.software && device.int64
}

impl Access {
    /// Whether it is of a texture.
    pub fn texture(self) -> bool {
        matches!(
            self,
            Access::Texture | Access::TextureRead | Access::TextureWrite | Access::TextureReadWrite
        )
    }

    /// Whether what is bound is written.
    pub fn writes(self) -> bool {
        matches!(self, Access::ReadWrite | Access::TextureWrite | Access::TextureReadWrite)
    }
}

impl Needs {
    /// Whether a device has it.
    fn met(self, device: &Capabilities) -> bool {
        match self {
            Needs::Nothing | Needs::Reduction | Needs::Sharing => true,
            Needs::Quads => device.subgroups.is_some_and(|(least, _)| least >= 4),
            Needs::Halves => device.f16,
            Needs::Matrices => device.matrices.is_some(),
        }
    }
}

/// A kernel.
pub struct Kernel {
    /// Its name, which is also the stem of its WGSL file, or begins with it.
    pub name: &'static str,
    /// Its WGSL, after which come nothing but the parts it builds on.
    pub wgsl: &'static [Part],
    /// Bindings of group 0.
    pub access: &'static [Access],
    /// What it builds on that differs between devices.
    pub needs: Needs,
    /// The same computation in plain Rust.
    pub twin: fn(Invocation<'_>),
    /// What it is checked on.
    pub cases: fn() -> Vec<Case>,
}

/// Names a WGSL file under `shaders/` together with its text.
macro_rules! wgsl {
    ($file:literal) => {
        ($file, include_str!(concat!("../../shaders/", $file)))
    };
}
use wgsl;

impl Kernel {
    /// The kernel called `name`.
    pub fn named(name: &str) -> Option<&'static Kernel> {
        KERNELS.iter().copied().find(|k| k.name == name)
    }

    /// Whether a device has all that it needs.
    pub fn possible(&self, device: &Capabilities) -> bool {
        let binds = |access: &Access| match access {
            Access::TextureReadWrite => device.textures && device.texture_read_write,
            access => device.textures || !access.texture(),
        };
        self.needs.met(device) && self.access.iter().all(binds)
    }

    /// How a dispatch binds the planes of a weight. What llvmpipe makes of storage textures is half as many instructions, but in
    /// line, which for several rows takes a little longer; SwiftShader takes half as long again for them.
    pub fn planes(&self, dispatch: &Dispatch, device: &Capabilities) -> Access {
        // Also by what the limit of bandwidth is measured with.
        let once = self.name == copy::KERNEL.name
            || self.name == matmul::UNIFORM.name && dispatch.consts.get("T") == 1;
        match device.textures {
            true if once && !device.few_lanes() => Access::TextureRead,
            true => Access::Texture,
            false => Access::Read,
        }
    }

    /// The source of a dispatch on a device: the constants, what is common, how numbers are loaded, a reduction, the format, and
    /// the kernel itself. Every shape is baked in, so the text is the pipeline's cache key.
    pub fn source(&self, dispatch: &Dispatch, capabilities: &Capabilities) -> Source {
        let mut source = Source::default();
        let mut header = String::new();
        if self.needs == Needs::Halves {
            header.push_str("enable f16;\n");
        }
        if let (Needs::Matrices, Some(Matrices { size, lanes })) = (self.needs, capabilities.matrices) {
            let _ = writeln!(
                header,
                "enable f16;\nenable wgpu_cooperative_matrix;\n\
                 const SIZE: u32 = {size}u;\nconst LANES: u32 = {lanes}u;\n\
                 alias MatrixA = coop_mat{size}x{size}<f16, A>;\n\
                 alias MatrixB = coop_mat{size}x{size}<f16, B>;\n\
                 alias MatrixC = coop_mat{size}x{size}<f32, C>;"
            );
        }
        for (name, value) in &dispatch.consts.0 {
            let _ = match value {
                Const::U32(v) => writeln!(header, "const {name}: u32 = {v}u;"),
                // Shortest text that reads back as the same float.
                Const::F32(v) => writeln!(header, "const {name}: f32 = {v:?};"),
                Const::Bool(v) => writeln!(header, "const {name}: bool = {v};"),
            };
        }
        let planes = (!dispatch.planes.is_empty()).then(|| self.planes(dispatch, capabilities));
        let textures = self.access.iter().copied().chain(planes).find(|access| access.texture());
        if textures.is_some() {
            let _ = writeln!(header, "const TEXELS: u32 = {TEXELS}u;");
        }
        source.add("constants", &header);
        let common = wgsl!("common.wgsl");
        source.add(common.0, common.1);
        let floats =
            if loads_long(capabilities) { wgsl!("floats/long.wgsl") } else { wgsl!("floats/plain.wgsl") };
        source.add(floats.0, floats.1);
        let halves = match capabilities.software && capabilities.few_lanes() {
            true => wgsl!("halves/bits.wgsl"),
            false => wgsl!("halves/unpack.wgsl"),
        };
        source.add(halves.0, halves.1);
        let words = match capabilities.software {
            true => wgsl!("words/signed.wgsl"),
            false => wgsl!("words/unsigned.wgsl"),
        };
        source.add(words.0, words.1);
        if let Some(access) = textures {
            let bound = match access {
                Access::TextureRead => wgsl!("texels/storage.wgsl"),
                Access::TextureReadWrite => wgsl!("texels/both.wgsl"),
                _ => wgsl!("texels/sampled.wgsl"),
            };
            for (file, text) in [bound, wgsl!("texels.wgsl")] {
                source.add(file, text);
            }
        }
        let format = dispatch.format.and_then(Format::named);
        if !dispatch.planes.is_empty() {
            const PLAIN: &[Plane] = &[Plane::words("words")];
            let planes = format.map_or(PLAIN, |f| f.planes);
            source.add("planes", &planes::source(planes, capabilities.textures));
        }
        if format.is_some() {
            let (file, text) = wgsl!("format/blocks.wgsl");
            source.add(file, text);
        }
        let least = capabilities.subgroups.map_or(0, |(least, _)| least);
        let part = match self.needs {
            Needs::Reduction if least > 0 => Some(wgsl!("reduce/subgroup.wgsl")),
            Needs::Reduction => Some(wgsl!("reduce/tree.wgsl")),
            Needs::Sharing if least >= 8 => Some(wgsl!("share/subgroup.wgsl")),
            Needs::Sharing => Some(wgsl!("share/none.wgsl")),
            _ => None,
        };
        if let Some((file, text)) = part {
            source.add(file, text);
        }
        for (file, text) in format.map_or(&[][..], |f| f.wgsl).iter().chain(self.wgsl) {
            source.add(file, text);
        }
        source
    }
}

/// The assembled WGSL of a pipeline, and where each line came from.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The text.
    pub text: String,
    parts: Vec<(String, usize)>,
}

impl Source {
    fn add(&mut self, file: &str, text: &str) {
        self.parts.push((file.to_owned(), self.text.lines().count()));
        self.text.push_str(text);
        if !text.ends_with('\n') {
            self.text.push('\n');
        }
    }

    /// `file:line` of a line (counted from 1) of the assembled text.
    pub fn locate(&self, line: usize) -> String {
        let part = self.parts.iter().rev().find(|(_, first)| *first < line);
        part.map_or_else(|| line.to_string(), |(file, first)| format!("{file}:{}", line - first))
    }
}
