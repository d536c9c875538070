//! bitsandbytes' 4 bits: `w = table[code] · absmax`, a block of 64 numbers or so having one absmax.
//!
//! `weight` u8 `[n / 2, 1]`, the matrix row by row, high nibble first; `weight.quant_map` f32 `[16]`, the table;
//! `weight.absmax` a number a block. With double quantization, absmax is u8, and stands for
//! `nested_quant_map[absmax] · nested_absmax[block / nested_blocksize] + nested_offset`. The rest is in a JSON text,
//! `weight.quant_state.bitsandbytes__nf4` (or `__fp4`).

use super::{Dtype, Found, Layout, Part, Settings, Tensors, names};
use crate::format::{BLOCK, Codes, Format, Kind, Packing, fp4, nf4};
use serde_json::Value;

#[derive(Debug)]
struct FourBit {
    kind: &'static Format,
    cols: usize,
    block: usize,
    nested: Option<(usize, f32)>,
}

pub fn find(settings: &Settings<'_>, tensors: &Tensors<'_>) -> Result<Vec<Found>, String> {
    if settings.0.get("load_in_8bit").and_then(Value::as_bool) == Some(true) {
        return settings.wrong("load_in_8bit", "false: only its 4 bits can be read");
    }
    let mut found = Vec::new();
    for kind in [&nf4::FORMAT, &fp4::FORMAT] {
        let state = format!(".quant_state.bitsandbytes__{}", kind.name);
        for stem in tensors.ending(&state) {
            found.push(one(tensors, stem, kind, &state)?);
        }
    }
    Ok(found)
}

fn one(tensors: &Tensors<'_>, stem: &str, kind: &'static Format, state: &str) -> Result<Found, String> {
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

/// The code of number `i`.
fn code_of(parts: &[Part<'_>], i: usize) -> u8 {
    let byte = parts[0].bytes[i / 2];
    if i.is_multiple_of(2) { byte >> 4 } else { byte & 15 }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Layout for FourBit {
    fn name(&self) -> String {
        format!("bitsandbytes {}", self.kind.name)
    }

    fn packing(&self, parts: &[Part<'_>], _: [usize; 2]) -> Result<Packing, &'static str> {
        let own = |(i, state): (usize, &f32)| parts[1].float(i).to_bits() == state.to_bits();
        match self.kind.kind {
            Kind::States(states) if states.iter().enumerate().all(own) => {}
            _ => return Err("their states are not those of the format"),
        }
        // A block may go on in the next row; then several groups have its absmax.
        let group = gcd(self.cols, self.block);
        match group.is_multiple_of(BLOCK) {
            true => Ok(Packing { format: self.kind, group }),
            false => Err("their blocks and rows have no multiple of 8 columns in common"),
        }
    }

    fn codes(&self, parts: &[Part<'_>], row: usize, at: usize, tile: &mut Codes) -> Result<(), (usize, f32)> {
        let Codes::States(tile) = tile else { unreachable!("{} is packed by its states", self.name()) };
        let first = row * self.cols;
        let codes = &mut tile.codes[at * self.cols..][..self.cols];
        (first..).zip(codes).for_each(|(i, code)| *code = code_of(parts, i));
        let groups = self.cols / tile.group;
        for (g, scale) in tile.scales[at * groups..][..groups].iter_mut().enumerate() {
            *scale = self.absmax(parts, (first + g * tile.group) / self.block);
            if !scale.is_finite() {
                return Err((g * tile.group, *scale));
            }
        }
        Ok(())
    }

    fn numbers(&self, parts: &[Part<'_>], row: usize, out: &mut [f32]) {
        let first = row * self.cols;
        let mut last = (usize::MAX, 0.0);
        for (i, out) in (first..).zip(out) {
            let block = i / self.block;
            if last.0 != block {
                last = (block, self.absmax(parts, block));
            }
            *out = parts[1].float(code_of(parts, i).into()) * last.1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::TILE_ROWS;

    /// Rows of 104 columns have blocks that go on in the next row.
    #[test]
    fn blocks_need_not_end_with_rows() {
        let (rows, cols, block) = (3, 104, 64);
        let codes: Vec<u8> = (0..rows * cols / 2).map(|i| (i * 89 % 256) as u8).collect();
        let floats = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let states = floats(&nf4::STATES);
        let absmax = floats(&[0.5, 0.25, 0.7, 0.01, 0.3]);
        let part = |dtype, bytes| Part { dtype, bytes };
        let parts = [part(Dtype::U8, &codes[..]), part(Dtype::F32, &states), part(Dtype::F32, &absmax)];
        let layout = FourBit { kind: &nf4::FORMAT, cols, block, nested: None };
        let packing = layout.packing(&parts, [rows, cols]).unwrap();
        assert_eq!(packing.name(), "nf4/8");
        let mut tile = Codes::new(packing, cols);
        let mut expected = vec![0.0; TILE_ROWS * cols];
        for row in 0..rows {
            layout.codes(&parts, row, row, &mut tile).unwrap();
            layout.numbers(&parts, row, &mut expected[row * cols..][..cols]);
        }
        let mut planes = vec![Vec::new(); packing.format.planes.len()];
        (packing.format.pack)(tile.tile(), cols, packing.group, &mut planes);
        let planes: Vec<&[u32]> = planes.iter().map(Vec::as_slice).collect();
        let mut found = vec![1.0; TILE_ROWS * cols];
        (packing.format.unpack)(&planes, cols, packing.group, &mut found);
        assert_eq!(found, expected);
        // What cannot run as it is, and why.
        let odd = FourBit { cols: 12, ..layout };
        assert!(odd.packing(&parts, [2, 12]).unwrap_err().contains("no multiple of 8 columns"));
        let fp4 = FourBit { kind: &fp4::FORMAT, cols, block, nested: None };
        assert!(fp4.packing(&parts, [rows, cols]).unwrap_err().contains("not those of the format"));
    }
}
