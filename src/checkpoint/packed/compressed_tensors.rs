//! compressed-tensors' `pack-quantized`: `w = scale · (code − zero)`, with codes and zeros stored as 2^(bits − 1) more.
//!
//! `weight_packed` i32 `[rows, cols · bits / 32 rounded up]`; `weight_scale` `[rows, groups]`; `weight_shape` `[2]`; where
//! they are not all 0, `weight_zero_point`, packed along the rows: `[rows · bits / 32 rounded up, groups]`; where groups are
//! not in order, `weight_g_idx` `[cols]`.

use super::{Dtype, FLOATS, Form, Found, Grid, OnGrid, Order, Part, Settings, Tensors, WORDS, names};
use serde_json::Value;

#[derive(Debug)]
struct PackQuantized {
    bits: u32,
    group: usize,
    groups: usize,
    /// Whether there are zeros.
    zeros: bool,
    /// The group of each column, where they are not in order.
    order: Option<Order>,
    words: usize,
}

pub fn find(settings: &Settings<'_>, tensors: &Tensors<'_>) -> Result<Vec<Found>, String> {
    if settings.text("format") != Some("pack-quantized") {
        return settings.wrong("format", "\"pack-quantized\"");
    }
    let kinds: Vec<&Value> = settings
        .0
        .get("config_groups")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(_, group)| &group["weights"])
        .collect();
    // Which matrix belongs to which group of the configuration is told by patterns of names; of how many bits a code has,
    // the tensors' own shapes tell as much.
    let bits: Vec<Option<u64>> = kinds.iter().map(|weights| weights["num_bits"].as_u64()).collect();
    let mut bits: Vec<u32> = match bits.iter().all(|bits| matches!(bits, Some(4 | 8))) {
        true => bits.into_iter().flatten().map(|bits| bits as u32).collect(),
        false => return settings.wrong("config_groups", "weights of 4 or of 8 bits"),
    };
    bits.sort_unstable();
    bits.dedup();
    if bits.is_empty() {
        return settings.wrong("config_groups", "weights of 4 or of 8 bits");
    }
    if kinds.iter().any(|weights| weights["type"].as_str().is_some_and(|kind| kind != "int")) {
        return settings.wrong("config_groups", "weights of type \"int\"");
    }
    let find = |stem: &str| -> Result<Found, String> {
        let [rows, words] = tensors.matrix(stem, "weight_packed", WORDS)?;
        tensors.expect(stem, "weight_shape", &[Dtype::I64, Dtype::I32], &[2])?;
        let shape = shape(tensors, stem).filter(|shape| shape[0] == rows);
        let fits =
            |cols: usize| bits.iter().copied().find(|&bits| cols.div_ceil(32 / bits as usize) == words);
        let Some((cols, bits)) = shape.and_then(|[_, cols]| Some((cols, fits(cols)?))) else {
            return Err(format!(
                "{stem}weight_shape does not fit weight_packed of shape {:?}",
                [rows, words]
            ));
        };
        let per_word = 32 / bits as usize;
        let [scale_rows, groups] = tensors.matrix(stem, "weight_scale", FLOATS)?;
        if scale_rows != rows || groups == 0 || !cols.is_multiple_of(groups) {
            let found = format!("{stem}weight_scale has shape {:?}", [scale_rows, groups]);
            return Err(format!("{found}, expected [{rows}, groups] with groups that divide {cols} columns"));
        }
        let group = cols / groups;
        let mut parts = names(stem, &["weight_packed", "weight_scale"]);
        let zeros = tensors.get(stem, "weight_zero_point").is_some();
        if zeros {
            tensors.expect(stem, "weight_zero_point", WORDS, &[rows.div_ceil(per_word), groups])?;
            parts.push(format!("{stem}weight_zero_point"));
        }
        let mut also = names(stem, &["weight_shape"]);
        let order = Order::find(tensors, (stem, "weight_g_idx"), cols, group)?;
        also.extend(tensors.get(stem, "weight_g_idx").map(|info| info.name.clone()));
        let layout = PackQuantized { bits, group, groups, zeros, order, words };
        Ok(Found {
            name: format!("{stem}weight"),
            shape: [rows, cols],
            layout: Box::new(layout),
            parts,
            also,
        })
    };
    tensors.ending("weight_packed").map(find).collect()
}

/// What `weight_shape` says.
fn shape(tensors: &Tensors<'_>, stem: &str) -> Option<[usize; 2]> {
    let info = tensors.get(stem, "weight_shape")?;
    let bytes = (tensors.bytes)(&info.name);
    let wide = info.dtype() == Some(Dtype::I64);
    let number = |i: usize| match wide {
        true => Some(i64::from_le_bytes(bytes.get(i * 8..i * 8 + 8)?.try_into().ok()?)),
        false => Some(i32::from_le_bytes(bytes.get(i * 4..i * 4 + 4)?.try_into().ok()?).into()),
    };
    Some([usize::try_from(number(0)?).ok()?, usize::try_from(number(1)?).ok()?])
}

impl PackQuantized {
    fn constants(&self, parts: &[Part<'_>], row: usize, group: usize) -> [f32; 2] {
        let scale = parts[1].float(row * self.groups + group);
        let per_word = 32 / self.bits as usize;
        let zero = match self.zeros {
            true => {
                parts[2].word(row / per_word * self.groups + group) >> (row % per_word * self.bits as usize)
                    & ((1 << self.bits) - 1)
            }
            false => 1 << (self.bits - 1),
        };
        [scale, zero as f32]
    }
}

impl OnGrid for PackQuantized {
    fn name(&self) -> String {
        format!(
            "compressed-tensors {} bits{}",
            self.bits,
            if self.order.is_some() { " in the order of activations" } else { "" }
        )
    }

    fn grid(&self) -> Grid {
        let form = if self.zeros { Form::Zero } else { Form::Middle };
        Grid { bits: self.bits, form, group: self.group }
    }

    fn order(&self) -> Option<&Order> {
        self.order.as_ref()
    }

    fn codes(&self, parts: &[Part<'_>], row: usize, codes: &mut [u8]) {
        let first = row * self.words * 32;
        for (col, code) in codes.iter_mut().enumerate() {
            *code = parts[0].bits(first + col * self.bits as usize, self.bits);
        }
    }

    fn constants(&self, parts: &[Part<'_>], row: usize, constants: &mut [[f32; 2]]) {
        for (g, pair) in constants.iter_mut().enumerate() {
            let [scale, zero] = self.constants(parts, row, g);
            *pair = [scale, if self.zeros { zero } else { 0.0 }];
        }
    }
}
