//! Treatments: what a whole matrix goes through on the host before it is stored, so that a set of states can be
//! judged apart from any packed format. What is left is plain numbers, as a rule stored as 16-bit floats.

use super::{Flaw, Grid, LONGEST_GROUP, QUANTIZERS, Quantizer, inverse, lloyd, nf4, round};
use crate::format::BLOCK;
use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;
use std::fmt::Write;
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
            let groups = weights.chunks(width).enumerate();
            let rule = |(g, group): (usize, &[f32])| {
                let flaw = |place: usize| {
                    let at = i * line + g * width + place;
                    Flaw { row: at / cols, col: at % cols, value: values[at] }
                };
                self.rule(group).map_err(flaw)
            };
            groups.map(rule).collect()
        };
        values.par_chunks(line).enumerate().map(rules).collect()
    }

    /// What becomes of a group; else the place of a weight that cannot be held.
    fn rule(&self, group: &[f32]) -> Result<Rule, usize> {
        if let Some(place) = group.iter().position(|&w| !fits(w)) {
            return Err(place);
        }
        let rule = match self.scheme {
            Scheme::Uniform { .. } => {
                let (scale, zero) = self.quantizer.fit(group, self.scheme.states())?;
                let grid = Grid { scale: scale.to_f32(), zero: zero.to_f32() };
                Rule::Even { own: grid, read: grid, top: (self.scheme.states() - 1) as f32 }
            }
            Scheme::Nf4 => Rule::Nf4(nf4::scale(group).to_f32()),
            Scheme::Lloyd { .. } => {
                let table = lloyd::table(group, self.scheme.states() as usize);
                Rule::Table(table.into_iter().map(f16::to_f32).collect())
            }
        };
        Ok(match self.disturb {
            Disturb::Noise { .. } => Rule::Noise(rule.mean_square(group).sqrt()),
            Disturb::None | Disturb::Shuffled { .. } => rule,
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
                    let code = round((*w * inverse + own.zero).clamp(0.0, top));
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

/// What arms are called.
const GRAMMAR: &str =
    "f16, q8, q4, uN, nf4, lutN (N being 2 to 256 states), noise, noise-ARM, broken or broken-ARM";

/// What may follow an arm's name.
const GROUPS: &str = "32, 64, 128 (or another multiple of 8 up to 128), channel or tensor";

impl Treatment {
    /// The treatment that an arm's name stands for; none for `f16`.
    ///
    /// `q8`, `q4` and `uN` are 256, 16 and N evenly spaced states, `lutN` a table of N. `:G` says which weights share
    /// them: groups of 32 as a rule, of 64 for `nf4`, `tensor` for `lutN`. `noise-ARM` is noise as large as that arm's
    /// rounding and `broken-ARM` that arm with scales shuffled; both are of `q4` where none is named. `@rtn` names
    /// the quantizer, else it is [`QUANTIZERS`]' first.
    ///
    /// # Errors
    /// What was found, what is expected, and an example.
    pub fn parse(text: &str) -> Result<Option<Treatment>, String> {
        if text == "f16" {
            return Ok(None);
        }
        let wrong = |problem: String| format!("arm {text:?}: {problem}");
        let (arm, quantizer) = match text.split_once('@') {
            Some((arm, name)) => (arm, Some(name)),
            None => (text, None),
        };
        let (kind, group) = match arm.split_once(':') {
            Some((kind, group)) => (kind, Some(group)),
            None => (arm, None),
        };
        let (kind, disturb) = match kind.split_once('-').unwrap_or((kind, "q4")) {
            ("noise", kind) => (kind, Disturb::Noise { seed: 0 }),
            ("broken", kind) => (kind, Disturb::Shuffled { seed: 0 }),
            _ => (kind, Disturb::None),
        };
        let states = |count: &str| match digits(count).and_then(|n| u32::try_from(n).ok()) {
            Some(states @ 2..=256) => Ok(states),
            _ => Err(wrong(format!("{count:?} states, expected 2 to 256, as in u16 or lut16"))),
        };
        let scheme = match (kind, kind.strip_prefix("lut"), kind.strip_prefix('u')) {
            ("q8", ..) => Scheme::Uniform { states: 256 },
            ("q4", ..) => Scheme::Uniform { states: 16 },
            ("nf4", ..) => Scheme::Nf4,
            (_, Some(count), _) => Scheme::Lloyd { states: states(count)? },
            (_, _, Some(count)) => Scheme::Uniform { states: states(count)? },
            _ => return Err(wrong(format!("{kind:?} is none, expected {GRAMMAR}, as in q4:32"))),
        };
        let granularity = match (group, scheme) {
            (Some("channel"), _) => Granularity::Channel,
            (Some("tensor"), _) | (None, Scheme::Lloyd { .. }) => Granularity::Tensor,
            (None, Scheme::Nf4) => Granularity::Group(64),
            (None, Scheme::Uniform { .. }) => Granularity::Group(32),
            (Some(group), _) => match digits(group) {
                Some(n) if (BLOCK..=LONGEST_GROUP).contains(&n) && n.is_multiple_of(BLOCK) => {
                    Granularity::Group(n)
                }
                _ => return Err(wrong(format!("groups of {group:?}, expected {GROUPS}, as in q4:32"))),
            },
        };
        let even = matches!(scheme, Scheme::Uniform { .. });
        if matches!(disturb, Disturb::Shuffled { .. })
            && !(even && matches!(granularity, Granularity::Group(_)))
        {
            let problem = "scales are shuffled between groups of evenly spaced states, as in broken:32";
            return Err(wrong(problem.to_owned()));
        }
        let quantizer = match quantizer {
            None => QUANTIZERS[0],
            Some(_) if !even => {
                let problem = "a quantizer is for evenly spaced states, as in q4:32@rtn";
                return Err(wrong(problem.to_owned()));
            }
            Some(name) => Quantizer::named(name).ok_or_else(|| {
                let names: Vec<&str> = QUANTIZERS.iter().map(|q| q.name).collect();
                wrong(format!("quantizer {name:?}, expected {}, as in q4:32@rtn", names.join(" or ")))
            })?,
        };
        Ok(Some(Treatment { scheme, granularity, disturb, quantizer }))
    }

    /// Its name as an arm, in full; seeds are no part of it.
    pub fn name(&self) -> String {
        let kind = match self.scheme {
            Scheme::Uniform { states: 256 } => "q8".to_owned(),
            Scheme::Uniform { states: 16 } => "q4".to_owned(),
            Scheme::Uniform { states } => format!("u{states}"),
            Scheme::Nf4 => "nf4".to_owned(),
            Scheme::Lloyd { states } => format!("lut{states}"),
        };
        let mut name = match (self.disturb, kind.as_str()) {
            (Disturb::None, _) => kind,
            (Disturb::Noise { .. }, "q4") => "noise".to_owned(),
            (Disturb::Noise { .. }, _) => format!("noise-{kind}"),
            (Disturb::Shuffled { .. }, "q4") => "broken".to_owned(),
            (Disturb::Shuffled { .. }, _) => format!("broken-{kind}"),
        };
        // Writing to a text cannot fail.
        let _ = match self.granularity {
            Granularity::Group(group) => write!(name, ":{group}"),
            Granularity::Channel => write!(name, ":channel"),
            Granularity::Tensor => write!(name, ":tensor"),
        };
        if self.quantizer != QUANTIZERS[0] {
            let _ = write!(name, "@{}", self.quantizer.name);
        }
        name
    }

    /// In words.
    pub fn description(&self) -> String {
        let plain = Treatment { disturb: Disturb::None, ..*self };
        match self.disturb {
            Disturb::Noise { .. } => {
                return format!("16-bit floats plus Gaussian noise as large as {}'s rounding", plain.name());
            }
            Disturb::Shuffled { .. } => {
                return format!("{} with scales shuffled between groups", plain.name());
            }
            Disturb::None => {}
        }
        let states = self.scheme.states();
        let placed = match self.scheme {
            Scheme::Uniform { .. } => "evenly spaced",
            Scheme::Nf4 => "spaced by the normal distribution (NF4)",
            Scheme::Lloyd { .. } => "placed by Lloyd-Max",
        };
        let mut text = match (self.granularity, self.scheme) {
            (Granularity::Group(group), _) => {
                format!("{states} states, {placed}, in groups of {group} weights")
            }
            (Granularity::Channel, _) => format!("{states} states, {placed}, for each row"),
            (Granularity::Tensor, _) => {
                format!("the literal {states} states for each whole matrix, {placed}")
            }
        };
        if self.quantizer != QUANTIZERS[0] {
            let _ = write!(text, ", chosen by {}", self.quantizer.name);
        }
        text
    }
}

/// A whole number in digits and nothing else.
fn digits(text: &str) -> Option<usize> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Affine, TILE_ROWS};
    use proptest::prelude::*;

    fn arm(name: &str) -> Treatment {
        Treatment::parse(name).unwrap().unwrap()
    }

    /// Normal numbers with a heavy one here and there, as weights have.
    fn weights(n: usize, seed: u64) -> Vec<f32> {
        let (mut random, mut normal) = (Random(seed), vec![0.0; n]);
        random.normals(&mut normal);
        normal.iter().enumerate().map(|(i, &z)| (z * if i % 97 == 5 { 0.2 } else { 0.04 }) as f32).collect()
    }

    fn applied(name: &str, weights: &[f32], cols: usize) -> (Vec<f32>, Loss) {
        let mut values = weights.to_vec();
        let loss = arm(name).apply(&mut values, weights.len() / cols, cols, "w").unwrap();
        (values, loss)
    }

    #[test]
    fn packed_formats_hold_the_same_numbers() {
        for (cols, group) in [(96, 32), (200, 64), (320, 128), (8, 32)] {
            let weights = weights(TILE_ROWS * cols, group as u64);
            for (kind, bits) in [("q4", 4), ("q8", 8)] {
                for quantizer in QUANTIZERS {
                    let mut tile = Affine::new(cols, group);
                    quantizer.quantize(&weights, bits, &mut tile).unwrap();
                    let (values, _) = applied(&format!("{kind}:{group}@{}", quantizer.name), &weights, cols);
                    for (i, v) in values.iter().enumerate() {
                        assert_eq!(
                            v.to_bits(),
                            tile.value(i / cols, i % cols).to_bits(),
                            "{kind} {group} at {i}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn more_states_err_less_and_tables_least() {
        let (weights, cols) = (weights(64 * 512, 7), 512);
        for shared in ["32", "channel", "tensor"] {
            let mut last = (f64::INFINITY, f64::INFINITY);
            for states in [2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 256] {
                let error = |kind: &str| applied(&format!("{kind}{states}:{shared}"), &weights, cols).1.error;
                let (even, table) = (error("u"), error("lut"));
                // A table of more states than a group has weights errs by its rounding alone.
                assert!(even < last.0 && table <= last.1, "{states} {shared}");
                // Grids for a few weights are fitted in 32 bits, and tables are rounded to 16.
                assert!(table <= even * 1.001, "{states} {shared}: {table} {even}");
                last = (even, table);
            }
        }
    }

    #[test]
    fn finer_groups_err_less() {
        let weights = weights(64 * 512, 8);
        for kind in ["u16", "nf4", "lut16"] {
            let error = |shared| applied(&format!("{kind}:{shared}"), &weights, 512).1.error;
            let errors = ["32", "64", "128", "channel", "tensor"].map(error);
            assert!(errors.is_sorted(), "{kind} {errors:?}");
        }
    }

    #[test]
    fn whole_matrices_have_literally_so_many_numbers() {
        let weights = weights(64 * 1040, 3);
        for states in [2, 3, 16, 100, 256] {
            for kind in ["u", "lut"] {
                let (values, loss) = applied(&format!("{kind}{states}:tensor"), &weights, 1040);
                let mut bits: Vec<u32> = values.iter().map(|v| v.to_bits()).collect();
                bits.sort_unstable();
                bits.dedup();
                assert_eq!(bits.len(), loss.distinct);
                assert!(loss.distinct <= states && loss.distinct > states / 2, "{kind}{states} {loss:?}");
            }
        }
        assert_eq!(applied("nf4:tensor", &weights, 1040).1.distinct, 16);
    }

    /// Mean of its cell, and cells that part half way, but for the rounding of states to 16 bits.
    #[test]
    fn tables_are_as_lloyd_and_max_demand() {
        let weights = weights(32 * 256, 4);
        let (values, _) = applied("lut16:tensor", &weights, 256);
        let mut states = values.clone();
        states.sort_by(f32::total_cmp);
        states.dedup();
        for &state in &states {
            let cell: Vec<f32> =
                weights.iter().zip(&values).filter(|p| *p.1 == state).map(|p| *p.0).collect();
            let mean = cell.iter().map(|&w| f64::from(w)).sum::<f64>() / cell.len() as f64;
            assert!(
                (mean - f64::from(state)).abs() <= f64::from(state).abs() * 2e-3 + 1e-5,
                "{state} {mean}"
            );
        }
        for (&w, &v) in weights.iter().zip(&values) {
            let least = states.iter().map(|s| (s - w).abs()).fold(f32::MAX, f32::min);
            assert!((v - w).abs() <= least + 1e-6);
        }
    }

    #[test]
    fn nf4_rounds_to_the_nearest_of_its_states() {
        let weights = weights(8 * 128, 5);
        let (values, _) = applied("nf4", &weights, 128);
        for (group, values) in weights.chunks(64).zip(values.chunks(64)) {
            let scale = nf4::scale(group).to_f32();
            for (w, v) in group.iter().zip(values) {
                let least = nf4::STATES.iter().map(|s| (s * scale - w).abs()).fold(f32::MAX, f32::min);
                assert!((v - w).abs() <= least + scale * 1e-6);
            }
        }
    }

    #[test]
    fn noise_is_as_large_as_rounding() {
        let (weights, cols) = (weights(64 * 320, 6), 320);
        let square = |values: &[f32], from: &[f32]| -> f64 {
            values.iter().zip(from).map(|(&v, &w)| (f64::from(v) - f64::from(w)).powi(2)).sum()
        };
        for (kind, shared, width) in [
            ("q4", "32", 32),
            ("nf4", "64", 64),
            ("u6", "channel", cols),
            ("q4", "tensor", weights.len()),
            ("lut16", "tensor", weights.len()),
        ] {
            let (rounded, plain) = applied(&format!("{kind}:{shared}"), &weights, cols);
            let (noisy, noise) = applied(&format!("noise-{kind}:{shared}"), &weights, cols);
            for ((r, n), w) in rounded.chunks(width).zip(noisy.chunks(width)).zip(weights.chunks(width)) {
                let ratio = square(n, w) / square(r, w);
                assert!((ratio - 1.0).abs() < 1e-3, "{kind}:{shared} {ratio}");
            }
            assert!((noise.error / plain.error - 1.0).abs() < 1e-3);
            let bias = noisy.iter().zip(&weights).map(|(n, w)| f64::from(n - w)).sum::<f64>();
            assert!(bias.abs() < 4.0 * noise.error.sqrt(), "{bias}");
        }
    }

    #[test]
    fn noise_depends_on_name_and_seed_alone() {
        let weights = weights(8 * 64, 9);
        let noisy = |seed, name: &str| {
            let mut values = weights.clone();
            let noise = Treatment { disturb: Disturb::Noise { seed }, ..arm("noise") };
            noise.apply(&mut values, 8, 64, name).unwrap();
            values
        };
        assert_eq!(noisy(1, "a"), noisy(1, "a"));
        assert_ne!(noisy(1, "a"), noisy(2, "a"));
        assert_ne!(noisy(1, "a"), noisy(1, "b"));
    }

    /// What is left of each group still lies on a grid of 16, in the order of its codes, but not where it did.
    #[test]
    fn shuffling_keeps_codes() {
        let (weights, cols) = (weights(64 * 320, 10), 320);
        let (whole, plain) = applied("q4", &weights, cols);
        let (broken, loss) = applied("broken", &weights, cols);
        for (whole, broken) in whole.chunks(32).zip(broken.chunks(32)) {
            assert_ne!(whole, broken);
            let at = |values: &[f32], low: usize, high: usize, i: usize| {
                (values[i] - values[low]) / (values[high] - values[low]) * 255.0
            };
            let low = (0..32).min_by(|&a, &b| whole[a].total_cmp(&whole[b])).unwrap();
            let high = (0..32).max_by(|&a, &b| whole[a].total_cmp(&whole[b])).unwrap();
            for i in 0..32 {
                assert!((at(whole, low, high, i) - at(broken, low, high, i)).abs() < 0.1);
            }
        }
        assert!(loss.error > 20.0 * plain.error, "{loss:?} {plain:?}");
    }

    #[test]
    fn bits_count_codes_and_what_groups_share() {
        let bits = |name: &str| arm(name).bits_per_weight(1024, 512);
        assert_eq!(bits("q4:32"), 5.0);
        assert_eq!(bits("q8:64"), 8.5);
        assert_eq!(bits("u6:32"), 4.0);
        assert_eq!(bits("nf4"), 4.25);
        assert_eq!(bits("lut16:channel"), 4.5);
        assert_eq!(bits("u2:tensor"), 1.0 + 32.0 / (1024.0 * 512.0));
        assert_eq!(bits("noise"), 16.0);
        assert_eq!(bits("broken:64"), 4.5);
        assert_eq!((arm("q4").states(), arm("noise").states()), (Some(16), None));
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for (text, name) in [
            ("q8", "q8:32"),
            ("q4:64", "q4:64"),
            ("u16", "q4:32"),
            ("u3:tensor", "u3:tensor"),
            ("nf4", "nf4:64"),
            ("lut16", "lut16:tensor"),
            ("lut4:channel", "lut4:channel"),
            ("noise", "noise:32"),
            ("noise-q4:128", "noise:128"),
            ("noise-u6:32", "noise-u6:32"),
            ("noise-lut9", "noise-lut9:tensor"),
            ("broken:64", "broken:64"),
            ("broken-u8", "broken-u8:32"),
            ("q4:32@mse", "q4:32"),
            ("q4@rtn", "q4:32@rtn"),
            ("noise:40@rtn", "noise:40@rtn"),
        ] {
            assert_eq!(arm(text).name(), name);
            assert_eq!(arm(name), arm(text));
        }
        assert_eq!(Treatment::parse("f16"), Ok(None));
    }

    #[test]
    fn descriptions_are_plain() {
        for (name, text) in [
            ("q4", "16 states, evenly spaced, in groups of 32 weights"),
            ("u6:channel@rtn", "6 states, evenly spaced, for each row, chosen by rtn"),
            ("lut16", "the literal 16 states for each whole matrix, placed by Lloyd-Max"),
            ("nf4", "16 states, spaced by the normal distribution (NF4), in groups of 64 weights"),
            ("noise", "16-bit floats plus Gaussian noise as large as q4:32's rounding"),
            ("broken", "q4:32 with scales shuffled between groups"),
        ] {
            assert_eq!(arm(name).description(), text);
        }
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for bad in [
            "",
            "q4:7",
            "q4:0",
            "q4:136",
            "q4:",
            "q4:tensor:32",
            "q4:-32",
            "q4:+32",
            "q4 ",
            "Q4",
            "u1",
            "u0",
            "u",
            "u257",
            "u+4",
            "lut",
            "lut999",
            "lut1",
            "u99999999999999999999999",
            "q4:99999999999999999999999",
            "q5",
            "🦀",
            "q4:🦀",
            "u🦀",
            "q4@",
            "q4@best",
            "nf4@rtn",
            "lut16@mse",
            "f16:32",
            "f16@rtn",
            "noise-",
            "noise-f16",
            "noise-noise",
            "noise-broken",
            "-q4",
            "broken:tensor",
            "broken:channel",
            "broken-nf4",
            "broken-lut4:32",
            "quiet-q4",
            "@",
            ":",
            "-",
        ] {
            let problem = Treatment::parse(bad).unwrap_err();
            assert!(problem.contains(&format!("{bad:?}")) && problem.contains("as in"), "{problem}");
        }
    }

    #[test]
    fn what_cannot_be_held_is_named() {
        for name in
            ["q4", "q4:tensor", "nf4", "lut16", "lut4:32", "u2:channel", "noise", "noise:tensor", "broken"]
        {
            for bad in [f32::NAN, f32::INFINITY, 3e6, -1e30] {
                let mut values = weights(4 * 104, 11);
                values[2 * 104 + 70] = bad;
                let flaw = arm(name).apply(&mut values, 4, 104, "w").unwrap_err();
                assert_eq!((flaw.row, flaw.col), (2, 70), "{name} {bad}");
            }
        }
    }

    proptest! {
        /// Whatever the shape and the weights, also where they are none that a loader would give.
        #[test]
        fn nothing_panics(
            rows in 0usize..5, cols in 0usize..300, spare in 0usize..3, size in -8f32..6.0, seed: u64,
            name in prop_oneof!["(q4|q8|u2|u7|noise|noise-lut5|noise-nf4|nf4|lut2|lut256)(:8|:32|:128|:channel|:tensor)?",
                "broken(:8|:64)?(@rtn)?"],
        ) {
            let mut values: Vec<f32> = weights(rows * cols + spare, seed).iter().map(|w| w * 10f32.powf(size)).collect();
            let before = values.clone();
            if let Ok(loss) = arm(&name).apply(&mut values, rows, cols, &name) {
                prop_assert_eq!(loss.weights, (rows * cols) as u64);
                prop_assert!(loss.error.is_finite() && loss.distinct <= rows * cols);
                prop_assert_eq!(&values[rows * cols..], &before[rows * cols..]);
            }
            let _ = arm(&name).apply(&mut values, rows + 9, cols, "");
        }

        #[test]
        fn parsing_never_panics(text in ".{0,24}") {
            let _ = Treatment::parse(&text);
        }
    }

    #[test]
    fn equal_weights_stay_nearly_equal() {
        for value in [0.0f32, 1.0, -3.5, 1e-4, 1000.0, 6e4] {
            for name in ["q4", "q4:tensor", "u2:channel", "nf4", "lut16", "lut3:32", "noise"] {
                let (values, _) = applied(name, &[value; 256], 128);
                let near = |v: f32| (v - value).abs() <= value.abs() * 2e-3 + 1e-6;
                assert!(values.iter().all(|&v| near(v)), "{name} {value}: {:?}", &values[..2]);
            }
        }
    }
}
