//! MXFP4 (the OCP's microscaling formats), as gpt-oss has it: `w = state · 2^(scale − 127)`, 32 columns having one scale.
//!
//! `blocks` u8 `[…, groups, 16]`, two codes of four bits in a byte, low nibble first; `scales` u8 `[…, groups]`. What comes
//! before the groups are rows, of all experts where there are several. The states of E2M1 are 0, ½, 1, 1½, 2, 3, 4, 6 and
//! their negatives, at uneven distances. The names of the two tensors end with `.blocks` and `.scales`, or `_blocks` and
//! `_scales`.

use super::{Dtype, Found, Grid, Layout, Part, Settings, Tensors, names};
use crate::checkpoint::ggml::{E2M1, half_power_of_two};

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

    fn grid(&self) -> Option<Grid> {
        None
    }

    fn numbers(&self, parts: &[Part<'_>], row: usize, out: &mut [f32]) {
        let first = row * self.groups;
        for (g, out) in (first..).zip(out.chunks_exact_mut(GROUP)) {
            let scale = half_power_of_two(parts[1].bytes[g]);
            let number = |code: u8| scale * f32::from(E2M1[usize::from(code)]);
            for (pair, byte) in
                out.as_chunks_mut::<2>().0.iter_mut().zip(&parts[0].bytes[g * BYTES..][..BYTES])
            {
                *pair = [number(byte & 15), number(byte >> 4)];
            }
        }
    }
}
