//! GPTQ's layout, version 1, in which a zero is stored as one less than it is: `src/checkpoint/packed/gptq.rs` tells how
//! the tensors lie. (It says nothing of how the codes were chosen.)

use super::{Alike, Layout, Piece, Pieces, Settings, words};
use crate::checkpoint::Dtype;
use crate::quantize::{Coded, Zeros};
use serde_json::{Value, json};

pub const LAYOUT: Layout = Layout {
    name: "gptq",
    // A zero of 0 would be stored as −1, of which programs make different things.
    zeros: |symmetric| if symmetric { Zeros::Middle } else { Zeros::Whole { least: 1 } },
    pieces,
    may_keep: false,
    mixes: false,
    encode,
    config,
};

fn pieces(settings: &Settings, stem: &str, [rows, cols]: [usize; 2]) -> Pieces {
    let per_word = 32 / settings.bits as usize;
    if !rows.is_multiple_of(per_word) || !cols.is_multiple_of(per_word) {
        return Err(format!("shape [{rows}, {cols}], expected multiples of {per_word}, a word's codes"));
    }
    let groups = cols.div_ceil(settings.group);
    let piece = |what: &str, dtype, shape: &[usize]| Piece::new(stem, what, dtype, shape);
    Ok(vec![
        piece(".qweight", Dtype::I32, &[cols / per_word, rows]),
        piece(".qzeros", Dtype::I32, &[groups, rows / per_word]),
        piece(".scales", Dtype::F16, &[groups, rows]),
        piece(".g_idx", Dtype::I32, &[cols]),
    ])
}

fn encode(settings: &Settings, coded: &Coded) -> Vec<Vec<u8>> {
    let Coded { rows, cols, bits, group, .. } = *coded;
    let (per_word, groups) = (32 / bits as usize, coded.groups());
    let mut weights = Vec::with_capacity(rows * cols * bits as usize / 8);
    for first in (0..cols).step_by(per_word) {
        for row in coded.codes.chunks(cols) {
            words(row[first..first + per_word].iter().copied(), bits, &mut weights);
        }
    }
    let middle = 1u8 << (bits - 1);
    let zero = |row: usize, g: usize| match settings.symmetric {
        true => middle - 1,
        false => coded.zeros[row * groups + g].to_f32() as u8 - 1,
    };
    let (mut zeros, mut scales) = (Vec::new(), Vec::new());
    for g in 0..groups {
        words((0..rows).map(|row| zero(row, g)), bits, &mut zeros);
        scales.extend((0..rows).flat_map(|row| coded.scales[row * groups + g].to_le_bytes()));
    }
    let order = (0..cols).flat_map(|col| ((col / group) as i32).to_le_bytes()).collect();
    vec![weights, zeros, scales, order]
}

fn config(settings: &Settings, _: &[Alike], _: &[String]) -> Value {
    json!({
        "quant_method": "gptq",
        "bits": settings.bits,
        "group_size": settings.group,
        "desc_act": false,
        "sym": settings.symmetric,
        "true_sequential": true,
        "lm_head": false,
        "checkpoint_format": "gptq",
    })
}
