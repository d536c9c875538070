//! bitsandbytes' 4 bits: `w = table[code] · absmax`, a block of 64 numbers or so having one absmax.
//!
//! `weight` u8 `[n / 2, 1]`, the matrix row by row, high nibble first; `weight.quant_map` f32 `[16]`, the table;
//! `weight.absmax` a number a block. With double quantization, absmax is u8, and stands for
//! `nested_quant_map[absmax] · nested_absmax[block / nested_blocksize] + nested_offset`. The rest is in a JSON text,
//! `weight.quant_state.bitsandbytes__nf4` (or `__fp4`).

use super::{Dtype, Found, Grid, Layout, Part, Settings, Tensors, names};
use serde_json::Value;

#[derive(Debug)]
struct FourBit {
    kind: &'static str,
    cols: usize,
    block: usize,
    nested: Option<(usize, f32)>,
}

pub fn find(settings: &Settings<'_>, tensors: &Tensors<'_>) -> Result<Vec<Found>, String> {
    if settings.0.get("load_in_8bit").and_then(Value::as_bool) == Some(true) {
        return settings.wrong("load_in_8bit", "false: only its 4 bits can be read");
    }
    let mut found = Vec::new();
    for kind in ["nf4", "fp4"] {
        let state = format!(".quant_state.bitsandbytes__{kind}");
        for stem in tensors.ending(&state) {
            found.push(one(tensors, stem, kind, &state)?);
        }
    }
    Ok(found)
}

fn one(tensors: &Tensors<'_>, stem: &str, kind: &'static str, state: &str) -> Result<Found, String> {
    let text = (tensors.bytes)(&format!("{stem}{state}"));
    let json: Value = serde_json::from_slice(text).map_err(|e| format!("{stem}{state} is not JSON: {e}"))?;
    let size = |name: &str| {
        let n =
            json[name].as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=1 << 20).contains(n));
        n.ok_or_else(|| format!("{stem}{state}: {name} is {}, expected a size", json[name]))
    };
    let shape: Vec<usize> = (json["shape"].as_array().into_iter().flatten())
        .filter_map(|n| n.as_u64().and_then(|n| usize::try_from(n).ok()))
        .collect();
    let &[rows, cols] = shape.as_slice() else {
        return Err(format!("{stem}{state}: shape is {}, expected two sizes", json["shape"]));
    };
    let block = size("blocksize")?;
    let numbers = rows.checked_mul(cols).filter(|n| n.is_multiple_of(2));
    let numbers = numbers
        .ok_or_else(|| format!("{stem}{state}: shape is {shape:?}, expected an even number of weights"))?;
    let blocks = numbers.div_ceil(block);
    tensors.expect(stem, "", &[Dtype::U8], &[numbers / 2, 1])?;
    tensors.expect(stem, ".quant_map", &[Dtype::F32], &[16])?;
    let mut parts = names(stem, &["", ".quant_map", ".absmax"]);
    let mut nested = None;
    if tensors.get(stem, ".nested_absmax").is_some() {
        let nested_block = size("nested_blocksize")?;
        let offset = json["nested_offset"].as_f64();
        let offset = offset.ok_or_else(|| {
            format!("{stem}{state}: nested_offset is {}, expected a number", json["nested_offset"])
        })?;
        tensors.expect(stem, ".absmax", &[Dtype::U8], &[blocks])?;
        tensors.expect(stem, ".nested_quant_map", &[Dtype::F32], &[256])?;
        tensors.expect(stem, ".nested_absmax", &[Dtype::F32], &[blocks.div_ceil(nested_block)])?;
        parts.extend(names(stem, &[".nested_quant_map", ".nested_absmax"]));
        nested = Some((nested_block, offset as f32));
    } else {
        tensors.expect(stem, ".absmax", &[Dtype::F32], &[blocks])?;
    }
    let layout = FourBit { kind, cols, block, nested };
    let also = names(stem, &[state]);
    Ok(Found { name: stem.to_owned(), shape: [rows, cols], layout: Box::new(layout), parts, also })
}

impl FourBit {
    fn absmax(&self, parts: &[Part<'_>], block: usize) -> f32 {
        match self.nested {
            None => parts[2].float(block),
            Some((size, offset)) => {
                parts[3].float(usize::from(parts[2].bytes[block])) * parts[4].float(block / size) + offset
            }
        }
    }
}

impl Layout for FourBit {
    fn name(&self) -> String {
        format!("bitsandbytes {}", self.kind)
    }

    fn grid(&self) -> Option<Grid> {
        None
    }

    fn numbers(&self, parts: &[Part<'_>], row: usize, out: &mut [f32]) {
        let first = row * self.cols;
        let mut last = (usize::MAX, 0.0);
        for (i, out) in (first..).zip(out) {
            let block = i / self.block;
            if last.0 != block {
                last = (block, self.absmax(parts, block));
            }
            let byte = parts[0].bytes[i / 2];
            let code = if i % 2 == 0 { byte >> 4 } else { byte & 15 };
            *out = parts[1].float(code.into()) * last.1;
        }
    }
}
