//! MLX's affine quantization: `w = scale · code + bias`.
//!
//! `weight` u32 `[rows, cols · bits / 32]`, codes one after the other from the lowest bit on, across words; `scales` and
//! `biases` `[rows, groups]`.

use super::{FLOATS, Form, Found, Grid, OnGrid, Part, Settings, Tensors, WORDS, names, ratio};

#[derive(Debug)]
struct Mlx {
    bits: u32,
    group: usize,
    words: usize,
    groups: usize,
}

pub fn find(settings: &Settings<'_>, tensors: &Tensors<'_>) -> Result<Vec<Found>, String> {
    if settings.text("mode").is_some_and(|mode| mode != "affine") {
        return settings.wrong("mode", "\"affine\"");
    }
    // A layer may have settings of its own, under its name.
    if let Some((name, _)) = settings.0.iter().find(|(_, value)| value.is_object()) {
        return settings.wrong(name, "the same settings for all layers");
    }
    let bits = settings.bits("bits", &[2, 3, 4, 5, 6, 8])?;
    let Some(group) = settings.group("group_size")? else {
        return settings.wrong("group_size", "a multiple of 8");
    };
    let find = |stem: &str| -> Result<Found, String> {
        let [rows, words] = tensors.matrix(stem, ".weight", WORDS)?;
        let cols = ratio(words, 32, bits as usize).filter(|cols| cols.is_multiple_of(group));
        let cols = cols.ok_or_else(|| {
            format!("{stem}.weight has {words} words a row, expected whole groups of {group}")
        })?;
        let groups = cols / group;
        tensors.expect(stem, ".scales", FLOATS, &[rows, groups])?;
        tensors.expect(stem, ".biases", FLOATS, &[rows, groups])?;
        Ok(Found {
            name: format!("{stem}.weight"),
            shape: [rows, cols],
            layout: Box::new(Mlx { bits, group, words, groups }),
            parts: names(stem, &[".weight", ".scales", ".biases"]),
            also: Vec::new(),
        })
    };
    tensors.ending(".scales").map(find).collect()
}

impl OnGrid for Mlx {
    fn name(&self) -> String {
        format!("MLX {} bits", self.bits)
    }

    fn grid(&self) -> Grid {
        Grid { bits: self.bits, form: Form::Offset, group: self.group }
    }

    fn codes(&self, parts: &[Part<'_>], row: usize, codes: &mut [u8]) {
        let first = row * self.words * 32;
        for (col, code) in codes.iter_mut().enumerate() {
            *code = parts[0].bits(first + col * self.bits as usize, self.bits);
        }
    }

    fn constants(&self, parts: &[Part<'_>], row: usize, constants: &mut [[f32; 2]]) {
        for (g, pair) in constants.iter_mut().enumerate() {
            let i = row * self.groups + g;
            *pair = [parts[1].float(i), parts[2].float(i)];
        }
    }
}
