//! AWQ's GEMM layout: `w = scale · (code − zero)`, 4 bits.
//!
//! `qweight` i32 `[cols, rows / 8]`, codes along the rows; `qzeros` i32 `[groups, rows / 8]` likewise; `scales`
//! `[groups, rows]`. Of eight neighbouring rows, the nibbles of a word hold 0, 2, 4, 6, 1, 3, 5, 7.

use super::{FLOATS, Form, Found, Grid, OnGrid, Part, Settings, Tensors, WORDS, names};

/// The nibble of each of eight rows.
const NIBBLE: [usize; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

#[derive(Debug)]
struct Awq {
    group: usize,
    rows: usize,
}

pub fn find(settings: &Settings<'_>, tensors: &Tensors<'_>) -> Result<Vec<Found>, String> {
    settings.bits(if settings.0.contains_key("w_bit") { "w_bit" } else { "bits" }, &[4])?;
    let group = settings.group(if settings.0.contains_key("q_group_size") {
        "q_group_size"
    } else {
        "group_size"
    })?;
    if !settings.text("version").unwrap_or("gemm").eq_ignore_ascii_case("gemm") {
        return settings.wrong("version", "\"gemm\"");
    }
    let find = |stem: &str| -> Result<Found, String> {
        let [cols, words] = tensors.matrix(stem, ".qweight", WORDS)?;
        let rows = words.checked_mul(8).ok_or("a matrix of more rows than can be counted")?;
        let group = group.unwrap_or(cols).max(1);
        let groups = cols.div_ceil(group);
        tensors.expect(stem, ".qzeros", WORDS, &[groups, words])?;
        tensors.expect(stem, ".scales", FLOATS, &[groups, rows])?;
        Ok(Found {
            name: format!("{stem}.weight"),
            shape: [rows, cols],
            layout: Box::new(Awq { group, rows }),
            parts: names(stem, &[".qweight", ".qzeros", ".scales"]),
            also: Vec::new(),
        })
    };
    tensors.ending(".qweight").map(find).collect()
}

impl Awq {
    fn nibble(&self, part: &Part<'_>, line: usize, row: usize) -> u8 {
        (part.word(line * (self.rows / 8) + row / 8) >> (4 * NIBBLE[row % 8]) & 15) as u8
    }
}

impl OnGrid for Awq {
    fn name(&self) -> String {
        "AWQ".to_owned()
    }

    fn grid(&self) -> Grid {
        Grid { bits: 4, form: Form::Zero, group: self.group }
    }

    fn codes(&self, parts: &[Part<'_>], row: usize, codes: &mut [u8]) {
        codes.iter_mut().enumerate().for_each(|(col, code)| *code = self.nibble(&parts[0], col, row));
    }

    fn constants(&self, parts: &[Part<'_>], row: usize, constants: &mut [[f32; 2]]) {
        for (g, pair) in constants.iter_mut().enumerate() {
            *pair = [parts[2].float(g * self.rows + row), f32::from(self.nibble(&parts[1], g, row))];
        }
    }
}
