//! Matrices that a safetensors file holds as codes: several tensors together, as a quantizer's own format lays them out.
//!
//! A format is one file and one line in [`METHODS`]. It finds its matrices among a checkpoint's tensors and reads a row
//! of codes, or of numbers. What the file says is what runs; where no packing holds exactly that, say because a scale is not
//! exact in 16 bits, the matrix is unpacked to numbers.

mod awq;
mod bitsandbytes;
mod compressed_tensors;
mod gptq;
mod mlx;
mod mxfp4;
mod order;

use super::tensor::{Dtype, TensorInfo};
use super::{QUOTE, clip};
use crate::format::{Codes, Form, Packing, q4, q4_0, q4_1, q8, q8_0, q8_1};
use half::f16;
use order::Order;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

/// A format, by its `quant_method` in `quantization_config`.
struct Method {
    name: &'static str,
    find: fn(&Settings<'_>, &Tensors<'_>) -> Result<Vec<Found>, String>,
}

/// Every format that can be read.
const METHODS: &[Method] = &[
    Method { name: "gptq", find: gptq::find },
    Method { name: "awq", find: awq::find },
    Method { name: "compressed-tensors", find: compressed_tensors::find },
    Method { name: "bitsandbytes", find: bitsandbytes::find },
    Method { name: "mlx", find: mlx::find },
    Method { name: "mxfp4", find: mxfp4::find },
];

/// How a format's codes become numbers.
pub trait Layout: Debug + Send + Sync {
    /// What messages call it.
    fn name(&self) -> String;

    /// The packing that holds exactly what the file says of a matrix, or why none does.
    fn packing(&self, parts: &[Part<'_>], shape: [usize; 2]) -> Result<Packing, &'static str>;

    /// The column that stands in each place of a row of codes, where they are not in order.
    fn order(&self) -> Option<&Arc<[u32]>> {
        None
    }

    /// The codes of a row, as row `at` of a tile of its packing. An error is the column and the value of a constant that is
    /// not finite.
    fn codes(&self, parts: &[Part<'_>], row: usize, at: usize, tile: &mut Codes) -> Result<(), (usize, f32)>;

    /// The numbers of a row.
    fn numbers(&self, parts: &[Part<'_>], row: usize, out: &mut [f32]);
}

/// A layout whose codes lie on even grids.
pub trait OnGrid: Debug + Send + Sync {
    /// As [`Layout::name`].
    fn name(&self) -> String;

    /// The grid that each group of columns has.
    fn grid(&self) -> Grid;

    /// The groups of columns, where they are not neighbours.
    fn order(&self) -> Option<&Order> {
        None
    }

    /// The codes of a row, as the file has its columns.
    fn codes(&self, parts: &[Part<'_>], row: usize, codes: &mut [u8]);

    /// Scale and zero or offset of each group of a row.
    fn constants(&self, parts: &[Part<'_>], row: usize, constants: &mut [[f32; 2]]);

    /// As [`Layout::numbers`].
    fn numbers(&self, parts: &[Part<'_>], row: usize, out: &mut [f32]) {
        let grid = self.grid();
        let mut codes = vec![0; out.len()];
        let mut constants = vec![[0.0; 2]; out.len().div_ceil(grid.group)];
        self.codes(parts, row, &mut codes);
        self.constants(parts, row, &mut constants);
        for (i, (out, code)) in out.iter_mut().zip(codes).enumerate() {
            let group = self.order().map_or(i / grid.group, |order| order.group(i));
            *out = grid.form.value(grid.bits, f32::from(code), constants[group]);
        }
    }
}

impl<T: OnGrid> Layout for T {
    fn name(&self) -> String {
        OnGrid::name(self)
    }

    fn packing(&self, parts: &[Part<'_>], [rows, cols]: [usize; 2]) -> Result<Packing, &'static str> {
        OnGrid::order(self).map_or(Ok(()), |order| order.columns().map(drop))?;
        let packing = self.grid().packing().ok_or("no kernel reads them")?;
        // Rounding to 16 bits must not change a constant.
        let exact = |x: f32| f16::from_f32(x).to_f32() == x;
        let mut constants = vec![[0.0; 2]; cols.div_ceil(packing.group)];
        let all_exact = (0..rows).all(|row| {
            self.constants(parts, row, &mut constants);
            constants.iter().flatten().all(|&x| exact(x))
        });
        all_exact.then_some(packing).ok_or("some of their constants are not exact in 16 bits")
    }

    fn order(&self) -> Option<&Arc<[u32]>> {
        OnGrid::order(self)?.columns().ok()
    }

    fn codes(&self, parts: &[Part<'_>], row: usize, at: usize, tile: &mut Codes) -> Result<(), (usize, f32)> {
        let Codes::Affine(tile) = tile else { unreachable!("{} is packed on a grid", OnGrid::name(self)) };
        let (cols, groups) = (tile.cols, tile.cols.div_ceil(tile.group));
        let codes = &mut tile.codes[at * cols..][..cols];
        OnGrid::codes(self, parts, row, codes);
        if let Some(columns) = Layout::order(self) {
            let stored = codes.to_vec();
            codes.iter_mut().zip(&**columns).for_each(|(code, &col)| *code = stored[col as usize]);
        }
        let mut constants = vec![[0.0; 2]; groups];
        self.constants(parts, row, &mut constants);
        for (g, &[scale, zero]) in constants.iter().enumerate() {
            if let Some(&value) = [scale, zero].iter().find(|v| !v.is_finite()) {
                return Err((g * tile.group, value));
            }
            let place = at * groups + g;
            (tile.scales[place], tile.zeros[place]) = (f16::from_f32(scale), f16::from_f32(zero));
        }
        Ok(())
    }

    fn numbers(&self, parts: &[Part<'_>], row: usize, out: &mut [f32]) {
        OnGrid::numbers(self, parts, row, out);
    }
}

/// Grids of `2^bits` numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// Bits of a code.
    pub bits: u32,
    /// What codes are counted from.
    pub form: Form,
    /// Columns of a group.
    pub group: usize,
}

impl Grid {
    /// The packing that such codes run in. 2 to 16 states ride on codes of 4 bits, more on codes of 8.
    fn packing(self) -> Option<Packing> {
        let format = match (self.form, self.bits) {
            (Form::Zero, ..=4) => &q4::FORMAT,
            (Form::Zero, ..=8) => &q8::FORMAT,
            (Form::Middle, 4) => &q4_0::FORMAT,
            (Form::Middle, 8) => &q8_0::FORMAT,
            (Form::Offset, ..=4) => &q4_1::FORMAT,
            (Form::Offset, ..=8) => &q8_1::FORMAT,
            _ => return None,
        };
        Some(Packing { format, group: self.group })
    }
}

/// A tensor of a layout.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// What its numbers are.
    pub dtype: Dtype,
    /// Its bytes.
    pub bytes: &'a [u8],
}

impl Part<'_> {
    /// The 32-bit word `i`.
    fn word(&self, i: usize) -> u32 {
        let b = &self.bytes[i * 4..][..4];
        u32::from_le_bytes([b[0], b[1], b[2], b[3]])
    }

    /// The number `i`.
    fn float(&self, i: usize) -> f32 {
        let half = || u16::from_le_bytes([self.bytes[i * 2], self.bytes[i * 2 + 1]]);
        match self.dtype {
            Dtype::F16 => f16::from_bits(half()).to_f32(),
            Dtype::BF16 => f32::from_bits(u32::from(half()) << 16),
            _ => f32::from_bits(self.word(i)),
        }
    }

    /// The `bits` bits from bit `at` on, bits of a byte and bytes counted from the low end; at most 8.
    fn bits(&self, at: usize, bits: u32) -> u8 {
        let (byte, shift) = (at / 8, at % 8);
        let next = self.bytes.get(byte + 1).copied().unwrap_or(0);
        let both = u16::from(self.bytes[byte]) | u16::from(next) << 8;
        (both >> shift & ((1 << bits) - 1)) as u8
    }
}

/// A matrix that was found among a checkpoint's tensors.
pub(super) struct Found {
    /// The name of the matrix.
    pub name: String,
    pub shape: [usize; 2],
    pub layout: Box<dyn Layout>,
    /// The tensors that hold it, in the order in which the layout wants them.
    pub parts: Vec<String>,
    /// Tensors that belong to it and say nothing more.
    pub also: Vec<String>,
}

/// A matrix, ready to be read.
#[derive(Debug)]
pub struct Packed {
    pub(super) layout: Box<dyn Layout>,
    /// The tensors that hold it: file, and what is known of each.
    pub(super) parts: Vec<(usize, TensorInfo)>,
    /// The packing that holds exactly what the file says, or why none does.
    pub(super) packing: Result<Packing, &'static str>,
}

impl PartialEq for Packed {
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts
    }
}

impl Packed {
    /// A matrix `[rows, cols]`, for which `bytes` gives the bytes of its parts.
    pub(super) fn new<'a>(
        found: Box<dyn Layout>,
        parts: Vec<(usize, TensorInfo)>,
        shape: [usize; 2],
        bytes: impl Fn(&(usize, TensorInfo)) -> Part<'a>,
    ) -> Self {
        let opened: Vec<Part<'a>> = parts.iter().map(bytes).collect();
        let packing = found.packing(&opened, shape);
        Packed { layout: found, parts, packing }
    }

    /// Bytes of the tensors that hold it.
    pub(super) fn bytes(&self) -> usize {
        self.parts.iter().map(|(_, info)| info.bytes.len()).sum()
    }
}

/// What a checkpoint's configuration says of its codes.
pub(super) struct Quantization {
    method: &'static Method,
    settings: Map<String, Value>,
}

impl Quantization {
    /// Reads it from a `config.json`, if there is anything to read. The error is what was found and what was expected.
    pub fn of(config: &Value) -> Result<Option<Quantization>, String> {
        let (settings, mlx) = match (&config["quantization_config"], &config["quantization"]) {
            (Value::Object(settings), _) if settings.contains_key("quant_method") => (settings, false),
            // MLX names no method, and writes it under both names.
            (_, Value::Object(settings)) => (settings, true),
            (Value::Null, Value::Null) => return Ok(None),
            (other, _) => {
                let found = clip(&other.to_string(), QUOTE);
                return Err(format!(
                    "quantization_config is {found}, expected an object with a quant_method"
                ));
            }
        };
        let name = if mlx { Some("mlx") } else { settings["quant_method"].as_str() };
        match METHODS.iter().find(|method| Some(method.name) == name) {
            Some(method) => Ok(Some(Quantization { method, settings: settings.clone() })),
            None => {
                let known: Vec<_> = METHODS.iter().map(|method| method.name).collect();
                let found = clip(&settings["quant_method"].to_string(), QUOTE);
                Err(format!("quant_method is {found}, expected {}", known.join(", ")))
            }
        }
    }

    /// The matrices among `tensors`.
    pub fn find(&self, tensors: &Tensors<'_>) -> Result<Vec<Found>, String> {
        (self.method.find)(&Settings(&self.settings), tensors)
    }
}

/// Settings of a format, with errors that name them.
pub(super) struct Settings<'a>(&'a Map<String, Value>);

impl Settings<'_> {
    fn wrong<T>(&self, name: &str, expected: &str) -> Result<T, String> {
        let found = self.0.get(name).map_or("missing".to_owned(), |value| clip(&value.to_string(), QUOTE));
        Err(format!("{name} of the quantization is {found}, expected {expected}"))
    }

    /// Bits of a code, one of `known`.
    fn bits(&self, name: &str, known: &[u32]) -> Result<u32, String> {
        let found = self.0.get(name).and_then(Value::as_u64).and_then(|bits| u32::try_from(bits).ok());
        match found.filter(|bits| known.contains(bits)) {
            Some(bits) => Ok(bits),
            None => self.wrong(name, &format!("one of {known:?}")),
        }
    }

    /// Columns of a group; none for whole rows.
    fn group(&self, name: &str) -> Result<Option<usize>, String> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) if value.as_i64() == Some(-1) => Ok(None),
            Some(value) => {
                match value.as_u64().filter(|group| (8..=1 << 20).contains(group) && group % 8 == 0) {
                    Some(group) => Ok(Some(group as usize)),
                    None => self.wrong(name, "-1 or a multiple of 8"),
                }
            }
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }
}

/// The tensors of a checkpoint, with errors that name them.
pub(super) struct Tensors<'a> {
    /// What is known of each.
    pub infos: BTreeMap<&'a str, &'a TensorInfo>,
    /// The bytes of one.
    pub bytes: &'a dyn Fn(&str) -> &'a [u8],
}

const FLOATS: &[Dtype] = &[Dtype::F16, Dtype::BF16, Dtype::F32];
const WORDS: &[Dtype] = &[Dtype::I32, Dtype::U32];

impl<'a> Tensors<'a> {
    /// The names that end with `suffix`, without it.
    fn ending(&self, suffix: &str) -> impl Iterator<Item = &'a str> {
        self.infos.keys().filter_map(move |name| name.strip_suffix(suffix))
    }

    fn get(&self, stem: &str, suffix: &str) -> Option<&'a TensorInfo> {
        self.infos.get(format!("{stem}{suffix}").as_str()).copied()
    }

    /// The two dimensions of a tensor of one of those types.
    fn matrix(&self, stem: &str, suffix: &str, dtypes: &[Dtype]) -> Result<[usize; 2], String> {
        let Some(info) = self.get(stem, suffix) else {
            return Err(format!("{stem}{suffix:?} is missing, though there is more of that matrix"));
        };
        match (info.shape.as_slice(), info.dtype().is_some_and(|dtype| dtypes.contains(&dtype))) {
            (&[rows, cols], true) => Ok([rows, cols]),
            _ => {
                let found =
                    format!("{:?} is {} of shape {:?}", clip(&info.name, QUOTE), info.encoding, info.shape);
                Err(format!("{found}, expected two dimensions of {dtypes:?}"))
            }
        }
    }

    /// Checks a tensor of one of those types for its shape.
    fn expect(&self, stem: &str, suffix: &str, dtypes: &[Dtype], shape: &[usize]) -> Result<(), String> {
        let Some(info) = self.get(stem, suffix) else {
            return Err(format!("{:?} is missing, expected {shape:?}", format!("{stem}{suffix}")));
        };
        match info.shape == shape && info.dtype().is_some_and(|dtype| dtypes.contains(&dtype)) {
            true => Ok(()),
            false => {
                let found =
                    format!("{:?} is {} of shape {:?}", clip(&info.name, QUOTE), info.encoding, info.shape);
                Err(format!("{found}, expected {dtypes:?} of shape {shape:?}"))
            }
        }
    }
}

/// The names of `stem` with each suffix.
fn names(stem: &str, suffixes: &[&str]) -> Vec<String> {
    suffixes.iter().map(|suffix| format!("{stem}{suffix}")).collect()
}

/// `a · b / c`, if that is a whole number that can be counted.
fn ratio(a: usize, b: usize, c: usize) -> Option<usize> {
    let product = a.checked_mul(b)?;
    product.is_multiple_of(c).then_some(product / c)
}
