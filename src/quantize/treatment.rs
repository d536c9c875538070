//! Treatments: what a whole matrix goes through on the host before it is stored, so that a set of states can be
//! judged apart from any packed format. What is left is plain numbers, as a rule stored as 16-bit floats.

mod name;

use super::{Flaw, Grid, Quantizer, Zeros, held, inverse, lloyd, nf4};
use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a matrix goes through before it is stored. Made by [`parse`](Self::parse).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Treatment {
    /// Which states weights are rounded to.
    pub scheme: Scheme,
    /// Which weights share their states.
    pub granularity: Granularity,
    /// What is done besides.
    pub disturb: Disturb,
    quantizer: &'static Quantizer,
}

/// A set of states. Counts are taken as 2 where they are less, as 256 where they are more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Evenly spaced: `w = scale · (code − zero)`, scale and zero 16-bit floats that the quantizer chooses.
    Uniform {
        /// How many, 2 to 256.
        states: u32,
    },
    /// QLoRA's 16, spaced by the normal distribution, times a scale, which is a 16-bit float.
    Nf4,
    /// A table of 16-bit floats, placed by Lloyd and Max for the least squared error.
    Lloyd {
        /// How many, 2 to 256.
        states: u32,
    },
}

/// Which weights share their states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granularity {
    /// So many neighbours of a row; the last group of a row may be shorter.
    Group(usize),
    /// Each row of the matrix.
    Channel,
    /// The whole matrix: the states are literal.
    Tensor,
}

/// A control: what is done to what rounding would give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturb {
    /// Nothing.
    None,
    /// Weights stay as they are but for Gaussian noise. In each group its mean square is that of rounding: it is
    /// drawn, and then scaled to that in every group, and in every row of a matrix that is one group.
    Noise {
        /// Of the random numbers.
        seed: u64,
    },
    /// Codes stay, and each group of the matrix gets another one's scale and zero. Of no effect on a matrix of one
    /// group, and on other than evenly spaced states.
    Shuffled {
        /// Of the random numbers.
        seed: u64,
    },
}

/// What a treatment did to a matrix.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// How many weights it has.
    pub weights: u64,
    /// Σ (w − ŵ)², ŵ being the weight after it.
    pub error: f64,
    /// Σ w²
    pub power: f64,
    /// Different numbers after it, each as a 16-bit float.
    pub distinct: usize,
}

/// Whether a number is a finite 16-bit float once rounded: 65 520 lies half way from the greatest to infinity.
fn fits(w: f32) -> bool {
    w.abs() < 65_520.0
}

impl Treatment {
    /// How scale and zero of evenly spaced states are chosen.
    pub fn quantizer(&self) -> &'static Quantizer {
        self.quantizer
    }

    /// How many different numbers the weights of a group may be; none where any number may be.
    pub fn states(&self) -> Option<u32> {
        (!matches!(self.disturb, Disturb::Noise { .. })).then(|| self.scheme.states())
    }

    /// True bits of a weight of such a matrix: its code, on whole bits, and its share of what its group stores, a
    /// scale and a zero of 16 bits each (NF4: a scale, a table: each state). Weights with noise have 16.
    pub fn bits_per_weight(&self, rows: usize, cols: usize) -> f64 {
        if matches!(self.disturb, Disturb::Noise { .. }) {
            return 16.0;
        }
        let numbers = match self.scheme {
            Scheme::Uniform { .. } => 2.0,
            Scheme::Nf4 => 1.0,
            Scheme::Lloyd { .. } => f64::from(self.scheme.states()),
        };
        let code = f64::from(u32::BITS - (self.scheme.states() - 1).leading_zeros());
        let (rows, cols) = (rows.max(1) as f64, cols.max(1));
        let groups = match self.granularity {
            Granularity::Tensor => 1.0,
            _ => rows * cols.div_ceil(self.width(cols)) as f64,
        };
        code + numbers * 16.0 * groups / (rows * cols as f64)
    }

    /// Treats a matrix `[rows, cols]`. Random numbers depend on its name and on nothing else around it.
    ///
    /// # Errors
    /// Row and column of a weight that is not finite, or that is or would become greater than 16-bit floats hold.
    /// The matrix is of no use then.
    pub fn apply(&self, values: &mut [f32], rows: usize, cols: usize, name: &str) -> Result<Loss, Flaw> {
        let len = rows.saturating_mul(cols).min(values.len());
        let values = &mut values[..len];
        if values.is_empty() {
            return Ok(Loss::default());
        }
        let width = self.width(cols);
        let mut rules = self.rules(values, cols)?;
        if let Disturb::Shuffled { seed } = self.disturb {
            shuffle(&mut rules, &mut Random::new(seed, name, 0));
        }
        let seed = if let Disturb::Noise { seed } = self.disturb { seed } else { 0 };
        let seen: Vec<AtomicU64> = (0..1024).map(|_| AtomicU64::new(0)).collect();
        let treat = |(row, weights): (usize, &mut [f32])| {
            let before = weights.to_vec();
            let mut random = Random::new(seed, name, row as u64);
            // A matrix that is one group has one rule for all rows.
            let rules = &rules[row.min(rules.len() - 1)];
            for (group, rule) in weights.chunks_mut(width).zip(rules) {
                rule.treat(group, &mut random);
            }
            if let Some(col) = weights.iter().position(|&w| !fits(w)) {
                return Err(Flaw { row, col, value: weights[col] });
            }
            note(weights, &seen);
            let error = before.iter().zip(weights).map(|(&w, &mut v)| (f64::from(w) - f64::from(v)).powi(2));
            Ok((error.sum::<f64>(), before.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>()))
        };
        let sums: Vec<(f64, f64)> =
            values.par_chunks_mut(cols).enumerate().map(treat).collect::<Result<_, Flaw>>()?;
        let (error, power) = sums.into_iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        let distinct = seen.iter().map(|word| word.load(Relaxed).count_ones() as usize).sum();
        Ok(Loss { weights: len as u64, error, power, distinct })
    }

    /// Columns of a group within a row.
    fn width(&self, cols: usize) -> usize {
        match self.granularity {
            Granularity::Group(group) => group.clamp(1, cols.max(1)),
            Granularity::Channel | Granularity::Tensor => cols.max(1),
        }
    }

    /// What becomes of each group of each row, or of the matrix as if it were one row.
    fn rules(&self, values: &[f32], cols: usize) -> Result<Vec<Vec<Rule>>, Flaw> {
        let (line, width) = match self.granularity {
            Granularity::Tensor => (values.len(), values.len()),
            _ => (cols, self.width(cols)),
        };
        let rules = |(i, weights): (usize, &[f32])| {
            self.line(weights, width).map_err(|place| {
                let at = i * line + place;
                Flaw { row: at / cols, col: at % cols, value: values[at] }
            })
        };
        values.par_chunks(line).enumerate().map(rules).collect()
    }

    /// What becomes of the groups of `width` neighbours; else the place of a weight that cannot be held.
    fn line(&self, weights: &[f32], width: usize) -> Result<Vec<Rule>, usize> {
        if let Some(place) = weights.iter().position(|&w| !fits(w)) {
            return Err(place);
        }
        let (states, groups) = (self.scheme.states(), weights.chunks(width));
        let rules: Vec<Rule> = match self.scheme {
            Scheme::Uniform { .. } => {
                let grids = (self.quantizer.choose)(weights, width, states, Zeros::Free);
                let rule = |(g, (group, grid)): (usize, (&[f32], Grid))| {
                    let (scale, zero) =
                        held(grid, group, states, Zeros::Free).map_err(|place| g * width + place)?;
                    let grid = Grid { scale: scale.to_f32(), zero: zero.to_f32() };
                    Ok(Rule::Even { own: grid, read: grid, top: (states - 1) as f32 })
                };
                groups.clone().zip(grids).enumerate().map(rule).collect::<Result<_, usize>>()?
            }
            Scheme::Nf4 => groups.clone().map(|group| Rule::Nf4(nf4::scale(group).to_f32())).collect(),
            Scheme::Lloyd { .. } => {
                let table = |group: &[f32]| lloyd::table(group, states as usize).into_iter().map(f16::to_f32);
                groups.clone().map(|group| Rule::Table(table(group).collect())).collect()
            }
        };
        Ok(match self.disturb {
            Disturb::Noise { .. } => {
                let noise = |(rule, group): (Rule, &[f32])| Rule::Noise(rule.mean_square(group).sqrt());
                rules.into_iter().zip(groups).map(noise).collect()
            }
            Disturb::None | Disturb::Shuffled { .. } => rules,
        })
    }
}

impl Scheme {
    /// How many states there are.
    fn states(self) -> u32 {
        match self {
            Scheme::Uniform { states } | Scheme::Lloyd { states } => states.clamp(2, 256),
            Scheme::Nf4 => nf4::STATES.len() as u32,
        }
    }
}

/// What becomes of a group.
enum Rule {
    /// Codes by one grid, and the numbers that they stand for by another, as a rule the same.
    Even { own: Grid, read: Grid, top: f32 },
    /// NF4 of this scale.
    Nf4(f32),
    /// The nearest of these, which are in order.
    Table(Box<[f32]>),
    /// Noise of this root mean square.
    Noise(f64),
}

impl Rule {
    fn treat(&self, group: &mut [f32], random: &mut Random) {
        match *self {
            Rule::Even { own, read, top } => {
                let inverse = inverse(own.scale);
                for w in group {
                    let code = own.code(inverse, top, *w);
                    *w = read.scale * (code - read.zero);
                }
            }
            Rule::Nf4(scale) => {
                let inverse = inverse(scale);
                group.iter_mut().for_each(|w| *w = scale * nearest(&nf4::STATES, *w * inverse));
            }
            Rule::Table(ref table) => group.iter_mut().for_each(|w| *w = nearest(table, *w)),
            Rule::Noise(size) => {
                let mut noise = vec![0.0; group.len()];
                random.normals(&mut noise);
                let square = noise.iter().map(|z| z * z).sum::<f64>() / group.len() as f64;
                let factor = if square > 0.0 { size / square.sqrt() } else { 0.0 };
                group.iter_mut().zip(&noise).for_each(|(w, z)| *w = (f64::from(*w) + factor * z) as f32);
            }
        }
    }

    /// Mean square of what rounding changes.
    fn mean_square(&self, group: &[f32]) -> f64 {
        let error = |weights: &[f32]| {
            let mut rounded = weights.to_vec();
            self.treat(&mut rounded, &mut Random(0));
            rounded.iter().zip(weights).map(|(&v, &w)| (f64::from(w) - f64::from(v)).powi(2)).sum::<f64>()
        };
        // In pieces, or a whole matrix would be held twice.
        let errors: Vec<f64> = group.par_chunks(1 << 16).map(error).collect();
        errors.iter().sum::<f64>() / group.len() as f64
    }
}

/// The nearest of a table in order, the lesser one of two as near.
fn nearest(table: &[f32], w: f32) -> f32 {
    let (mut low, mut high) = (0, table.len().saturating_sub(1));
    while low < high {
        let middle = (low + high) / 2;
        if (table[middle] + table[middle + 1]) / 2.0 < w { low = middle + 1 } else { high = middle }
    }
    table.get(low).copied().unwrap_or(0.0)
}

/// Gives every group another one's grid (Sattolo, "An algorithm to generate a random cyclic permutation", 1986: a
/// permutation at random may leave some where they are).
fn shuffle(rules: &mut [Vec<Rule>], random: &mut Random) {
    let mut grids: Vec<&mut Grid> = rules
        .iter_mut()
        .flatten()
        .filter_map(|rule| if let Rule::Even { read, .. } = rule { Some(read) } else { None })
        .collect();
    for i in (1..grids.len()).rev() {
        let (head, tail) = grids.split_at_mut(i);
        std::mem::swap(&mut *head[random.below(i)], &mut *tail[0]);
    }
}

/// Marks the numbers of a row, one bit for each 16-bit float.
fn note(weights: &[f32], seen: &[AtomicU64]) {
    let mut halves = vec![f16::ZERO; weights.len()];
    halves.convert_from_f32_slice(weights);
    for half in halves {
        // 0 and −0 are one number.
        let bits = if half == f16::ZERO { 0 } else { usize::from(half.to_bits()) };
        let (word, bit) = (&seen[bits / 64], 1 << (bits % 64));
        if word.load(Relaxed) & bit == 0 {
            word.fetch_or(bit, Relaxed);
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
struct Random(u64);

impl Random {
    /// The stream of a row of a matrix.
    fn new(seed: u64, name: &str, row: u64) -> Self {
        let mixed = |x: u64| Random(x).next();
        Random(name.bytes().fold(mixed(mixed(seed) ^ row), |state, byte| mixed(state ^ u64::from(byte))))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// Standard normal numbers, two at a time (Box and Muller, "A note on the generation of random normal deviates",
    /// 1958).
    fn normals(&mut self, out: &mut [f64]) {
        let mut unit = || (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        for pair in out.chunks_mut(2) {
            let radius = (-2.0 * (1.0 - unit()).ln()).sqrt();
            let (sin, cos) = (std::f64::consts::TAU * unit()).sin_cos();
            pair.iter_mut().zip([radius * cos, radius * sin]).for_each(|(out, z)| *out = z);
        }
    }
}

#[cfg(test)]
mod tests;
