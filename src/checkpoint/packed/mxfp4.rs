//! MXFP4 (the OCP's microscaling formats), as gpt-oss has it: `w = state · 2^(scale − 127)`, 32 columns having one scale.
//!
//! `blocks` u8 `[…, groups, 16]`, two codes of four bits in a byte, low nibble first; `scales` u8 `[…, groups]`. What comes
//! before the groups are rows, of all experts where there are several. The states of E2M1 are 0, ½, 1, 1½, 2, 3, 4, 6 and
//! their negatives, at uneven distances. The names of the two tensors end with `.blocks` and `.scales`, or `_blocks` and
//! `_scales`.

use super::{Dtype, Found, Layout, Part, Settings, Tensors, names};
use crate::format::{Codes, Packing, mxfp4};

/// Columns that share a scale, and the bytes that they take.
const GROUP: usize = 32;
const BYTES: usize = GROUP / 2;

#[derive(Debug)]
struct Mxfp4 {
    groups: usize,
}

pub fn find(_: &Settings<'_>, tensors: &Tensors<'_>) -> Result<Vec<Found>, String> {
    let mut found = Vec::new();
    for dash in [".", "_"] {
        let (blocks, scales) = (format!("{dash}blocks"), format!("{dash}scales"));
        for stem in tensors.ending(&blocks) {
            found.push(one(tensors, stem, &blocks, &scales)?);
        }
    }
    Ok(found)
}

fn one(tensors: &Tensors<'_>, stem: &str, blocks: &str, scales: &str) -> Result<Found, String> {
    let shape = tensors.get(stem, blocks).map_or(&[][..], |info| &info.shape);
    let [rows @ .., groups, BYTES] = shape else {
        return Err(format!("{stem}{blocks} has shape {shape:?}, expected rows of groups of {BYTES} bytes"));
    };
    tensors.expect(stem, blocks, &[Dtype::U8], shape)?;
    tensors.expect(stem, scales, &[Dtype::U8], &shape[..shape.len() - 1])?;
    let rows = rows.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
    let (Some(rows), Some(cols)) = (rows, groups.checked_mul(GROUP)) else {
        return Err(format!("{stem}{blocks} has shape {shape:?}, too large for any file"));
    };
    Ok(Found {
        name: stem.to_owned(),
        shape: [rows, cols],
        layout: Box::new(Mxfp4 { groups: *groups }),
        parts: names(stem, &[blocks, scales]),
        also: Vec::new(),
    })
}

impl Layout for Mxfp4 {
    fn name(&self) -> String {
        "MXFP4".to_owned()
    }

    fn packing(&self, _: &[Part<'_>], _: [usize; 2]) -> Result<Packing, &'static str> {
        Ok(Packing { format: &mxfp4::FORMAT, group: GROUP })
    }

    fn codes(&self, parts: &[Part<'_>], row: usize, at: usize, tile: &mut Codes) -> Result<(), (usize, f32)> {
        let Codes::Blocks(tile) = tile else { unreachable!("MXFP4 is packed from blocks") };
        let blocks = tile.chunks_exact_mut(1 + BYTES).skip(at * self.groups).take(self.groups);
        for (g, block) in blocks.enumerate() {
            let stored = row * self.groups + g;
            block[0] = parts[1].bytes[stored];
            if block[0] == u8::MAX {
                return Err((g * GROUP, f32::NAN));
            }
            // Two halves of the columns, where here there are pairs of them.
            let pairs = &parts[0].bytes[stored * BYTES..][..BYTES];
            let code = |col: usize| pairs[col / 2] >> (col % 2 * 4) & 15;
            block[1..].iter_mut().enumerate().for_each(|(i, b)| *b = code(i) | code(i + BYTES) << 4);
        }
        Ok(())
    }

    fn numbers(&self, parts: &[Part<'_>], row: usize, out: &mut [f32]) {
        let first = row * self.groups;
        for (g, out) in (first..).zip(out.chunks_exact_mut(GROUP)) {
            let scale = mxfp4::half_scale(parts[1].bytes[g]);
            let number = |code: u8| scale * f32::from(mxfp4::E2M1[usize::from(code)]);
            for (pair, byte) in
                out.as_chunks_mut::<2>().0.iter_mut().zip(&parts[0].bytes[g * BYTES..][..BYTES])
            {
                *pair = [number(byte & 15), number(byte >> 4)];
            }
        }
    }
}
