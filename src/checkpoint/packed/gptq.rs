//! GPTQ: `w = scale · (code − zero)`, a group's constants by `g_idx`, which tells each column's group.
//!
//! `qweight` i32 `[cols · bits / 32, rows]`, codes along the columns, of 3 bits also across words; `qzeros` i32
//! `[groups, rows · bits / 32]`; `scales` `[groups, rows]`; `g_idx` i32 `[cols]`. In version 1 of the format, a zero is stored as one less than it is.

use super::{FLOATS, Form, Found, Grid, OnGrid, Order, Part, Settings, Tensors, WORDS, names, ratio};

#[derive(Debug)]
struct Gptq {
    bits: u32,
    group: usize,
    rows: usize,
    /// 1 where zeros are stored as one less.
    less: u32,
    /// The groups of columns, where they are not neighbours.
    order: Option<Order>,
}

pub fn find(settings: &Settings<'_>, tensors: &Tensors<'_>) -> Result<Vec<Found>, String> {
    let bits = settings.bits("bits", &[2, 3, 4, 8])?;
    let group = settings.group("group_size")?;
    let less = match settings.text("checkpoint_format").unwrap_or("gptq") {
        "gptq" => 1,
        "gptq_v2" => 0,
        _ => return settings.wrong("checkpoint_format", "\"gptq\" or \"gptq_v2\""),
    };
    let find = |stem: &str| -> Result<Found, String> {
        let [words, rows] = tensors.matrix(stem, ".qweight", WORDS)?;
        let cols = ratio(words, 32, bits as usize).unwrap_or(0);
        let group = group.unwrap_or(cols).max(1);
        let groups = cols.div_ceil(group);
        let zero_words = ratio(rows, bits as usize, 32);
        let zero_words = zero_words
            .ok_or_else(|| format!("{stem}.qweight has {rows} rows, expected whole words of zeros"))?;
        tensors.expect(stem, ".qzeros", WORDS, &[groups, zero_words])?;
        tensors.expect(stem, ".scales", FLOATS, &[groups, rows])?;
        let mut parts = names(stem, &[".qweight", ".qzeros", ".scales"]);
        let order = Order::find(tensors, (stem, ".g_idx"), cols, group)?;
        parts.extend(tensors.get(stem, ".g_idx").map(|info| info.name.clone()));
        let also = parts.split_off(3);
        let layout = Gptq { bits, group, rows, less, order };
        Ok(Found {
            name: format!("{stem}.weight"),
            shape: [rows, cols],
            layout: Box::new(layout),
            parts,
            also,
        })
    };
    tensors.ending(".qweight").map(find).collect()
}

impl Gptq {
    /// The bits of number `i` of those that lie one after another in words, low bits first.
    fn bits(&self, i: usize, word: impl Fn(usize) -> u32) -> u32 {
        let (first, shift) = (i * self.bits as usize / 32, i * self.bits as usize % 32);
        let next = if shift + self.bits as usize > 32 { word(first + 1) } else { 0 };
        let both = u64::from(word(first)) | u64::from(next) << 32;
        (both >> shift) as u32 & ((1 << self.bits) - 1)
    }

    fn code(&self, weights: &Part<'_>, row: usize, col: usize) -> u8 {
        self.bits(col, |word| weights.word(word * self.rows + row)) as u8
    }

    fn constants(&self, parts: &[Part<'_>], row: usize, group: usize) -> [f32; 2] {
        let words = self.rows * self.bits as usize / 32;
        let zero = self.bits(row, |word| parts[1].word(group * words + word)) + self.less;
        [parts[2].float(group * self.rows + row), zero as f32]
    }
}

impl OnGrid for Gptq {
    fn name(&self) -> String {
        format!(
            "GPTQ {} bits{}",
            self.bits,
            if self.order.is_some() { " in the order of activations" } else { "" }
        )
    }

    fn grid(&self) -> Grid {
        Grid { bits: self.bits, form: Form::Zero, group: self.group }
    }

    fn order(&self) -> Option<&Order> {
        self.order.as_ref()
    }

    fn codes(&self, parts: &[Part<'_>], row: usize, codes: &mut [u8]) {
        codes.iter_mut().enumerate().for_each(|(col, code)| *code = self.code(&parts[0], row, col));
    }

    fn constants(&self, parts: &[Part<'_>], row: usize, constants: &mut [[f32; 2]]) {
        constants.iter_mut().enumerate().for_each(|(g, pair)| *pair = self.constants(parts, row, g));
    }
}
