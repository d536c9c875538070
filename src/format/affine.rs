//! What the formats of integer codes share: the codes, and a scale for each group of columns with what they are
//! counted from.

#[cfg(test)]
use super::Kind;
use super::{Form, Part, Plane, TILE_ROWS, Tile, pair, unpair};
use half::f16;

/// Names a WGSL file under `shaders/format/` together with its text.
macro_rules! wgsl {
    ($file:literal) => {
        (concat!("format/", $file), include_str!(concat!("../../shaders/format/", $file)))
    };
}
pub(super) use wgsl;

/// The WGSL that comes before that of the codes: each [`Form`]'s, and the codes' binding.
pub(super) const CODES: Part = wgsl!("codes.wgsl");
/// Codes one by one, for formats that unpack four rows of a block at once.
pub(super) const ROWS: Part = wgsl!("rows.wgsl");
pub(super) const PAIR: Part = wgsl!("pair.wgsl");
pub(super) const ZERO: Part = wgsl!("affine.wgsl");
pub(super) const OFFSET: Part = wgsl!("offset.wgsl");
pub(super) const MIDDLE: Part = wgsl!("symmetric.wgsl");

/// A tile as codes, with scales and what [`Form`] says of zeros.
pub struct Affine {
    /// Columns of the tile.
    pub cols: usize,
    /// Columns of a group; the last one may be shorter.
    pub group: usize,
    /// `[TILE_ROWS, cols]`
    pub codes: Vec<u8>,
    /// `[TILE_ROWS, groups]`
    pub scales: Vec<f16>,
    /// `[TILE_ROWS, groups]`: zeros, offsets, or nothing that counts.
    pub zeros: Vec<f16>,
}

impl Affine {
    /// Room for a tile, all zeros.
    pub fn new(cols: usize, group: usize) -> Self {
        let groups = TILE_ROWS * cols.div_ceil(group);
        Affine {
            cols,
            group,
            codes: vec![0; TILE_ROWS * cols],
            scales: vec![f16::ZERO; groups],
            zeros: vec![f16::ZERO; groups],
        }
    }

    /// The number that a code stands for, with a zero.
    pub fn value(&self, row: usize, col: usize) -> f32 {
        self.value_as(Form::Zero, 0, row, col)
    }

    /// The number that a code of `bits` bits stands for.
    pub fn value_as(&self, form: Form, bits: u32, row: usize, col: usize) -> f32 {
        let group = row * self.cols.div_ceil(self.group) + col / self.group;
        let constants = [self.scales[group].to_f32(), self.zeros[group].to_f32()];
        form.value(bits, f32::from(self.codes[row * self.cols + col]), constants)
    }
}

impl Form {
    /// The number of a code, with its group's scale and zero or offset.
    pub fn value(self, bits: u32, code: f32, [scale, other]: [f32; 2]) -> f32 {
        match self {
            Form::Zero => scale * (code - other),
            Form::Offset => scale * code + other,
            Form::Middle => scale * (code - (1u32 << (bits - 1)) as f32),
        }
    }

    /// Words of a tile's constants for one group: a word a row, or one for two of them.
    fn words(self) -> usize {
        if self == Form::Middle { TILE_ROWS / 2 } else { TILE_ROWS }
    }
}

/// The planes.
pub(super) const fn planes(bits: u32, form: Form) -> &'static [Plane] {
    const CODES: Plane = Plane::words("codes");
    const HIGH: Plane = Plane::words("high");
    const BY_ROW: Plane = Plane::words("constants");
    const BY_TWO: Plane = Plane::pairs("constants");
    match (bits, form) {
        (5, Form::Middle) => &[CODES, BY_TWO, HIGH],
        (5, _) => &[CODES, BY_ROW, HIGH],
        (_, Form::Middle) => &[CODES, BY_TWO],
        _ => &[CODES, BY_ROW],
    }
}

/// Words of the planes of a tile.
pub(super) fn tile_words(cols: usize, group: usize, bits: u32, form: Form) -> Vec<usize> {
    let low = if bits == 5 { 4 } else { bits as usize };
    let mut words = vec![TILE_ROWS * cols * low / 32, form.words() * cols.div_ceil(group)];
    if bits == 5 {
        words.push(TILE_ROWS * cols.div_ceil(32));
    }
    words
}

/// Packs a tile of codes.
pub(super) fn pack(tile: Tile<'_>, cols: usize, group: usize, kind: (u32, Form), planes: &mut [Vec<u32>]) {
    let Tile::Affine(tile) = tile else { unreachable!("{:?} is packed from codes", kind) };
    let ((bits, form), groups) = (kind, cols.div_ceil(group));
    planes.iter_mut().zip(tile_words(cols, group, bits, form)).for_each(|(plane, words)| {
        plane.clear();
        plane.reserve_exact(words);
    });
    if bits == 5 {
        pack_bits(&tile.codes, cols, 4, |code| code & 15, &mut planes[0]);
        pack_bits(&tile.codes, cols, 1, |code| code >> 4, &mut planes[2]);
    } else {
        pack_bits(&tile.codes, cols, bits, |code| code, &mut planes[0]);
    }
    for g in 0..groups {
        let scale = |r: usize| tile.scales[r * groups + g];
        if form == Form::Middle {
            planes[1].extend((0..TILE_ROWS).step_by(2).map(|r| pair(scale(r), scale(r + 1))));
        } else {
            planes[1].extend((0..TILE_ROWS).map(|r| pair(scale(r), tile.zeros[r * groups + g])));
        }
    }
}

/// Packs `bits` bits of each code: neighbouring columns of a row in a word, the first in the low bits, a row's last
/// word filled up with zeros.
pub(super) fn pack_bits(codes: &[u8], cols: usize, bits: u32, part: impl Fn(u8) -> u8, plane: &mut Vec<u32>) {
    let per_word = 32 / bits as usize;
    for col in (0..cols).step_by(per_word) {
        let end = cols.min(col + per_word);
        plane.extend(codes.chunks_exact(cols).map(|row| {
            row[col..end].iter().rev().fold(0, |word, &code| word << bits | u32::from(part(code)))
        }));
    }
}

/// The `bits` bits of a code that [`pack_bits`] has packed.
#[inline(always)]
pub(super) fn code(plane: &[u32], row: usize, col: usize, bits: u32) -> u32 {
    let per_word = 32 / bits as usize;
    let word = plane[col / per_word * TILE_ROWS + row];
    (word >> ((col % per_word) as u32 * bits)) & ((1 << bits) - 1)
}

/// Unpacks to numbers.
pub(super) fn unpack(planes: &[&[u32]], cols: usize, group: usize, kind: (u32, Form), out: &mut [f32]) {
    let (bits, form) = kind;
    for col in 0..cols {
        let constants = &planes[1][col / group * form.words()..][..form.words()];
        for row in 0..TILE_ROWS {
            let code = match bits {
                5 => code(planes[0], row, col, 4) | code(planes[2], row, col, 1) << 4,
                _ => code(planes[0], row, col, bits),
            };
            let constants = match form {
                Form::Middle => [unpair(constants[row / 2])[row % 2], 0.0],
                _ => unpair(constants[row]),
            };
            out[row * cols + col] = form.value(bits, code as f32, constants);
        }
    }
}

/// A format of integer codes.
macro_rules! affine_format {
    ($name:literal, $bits:literal, $form:ident, [$($constants:ident),+], $($file:literal),+) => {
        $crate::format::Format {
            name: $name,
            bits: $bits,
            kind: $crate::format::Kind::Affine { bits: $bits, form: $crate::format::Form::$form },
            planes: $crate::format::affine::planes($bits, $crate::format::Form::$form),
            tile_words: |cols, group| {
                $crate::format::affine::tile_words(cols, group, $bits, $crate::format::Form::$form)
            },
            pack: |tile, cols, group, planes| {
                $crate::format::affine::pack(tile, cols, group, ($bits, $crate::format::Form::$form), planes)
            },
            unpack: |planes, cols, group, out| {
                $crate::format::affine::unpack(planes, cols, group, ($bits, $crate::format::Form::$form), out)
            },
            dots: Some(if $bits == 8 {
                $crate::format::Order::InTurn
            } else {
                $crate::format::Order::Alternating
            }),
            wgsl: &[
                $($crate::format::affine::$constants,)+
                $crate::format::affine::CODES,
                $($crate::format::affine::wgsl!($file),)+
            ],
        }
    };
}
pub(super) use affine_format;

#[cfg(test)]
impl Affine {
    pub(super) fn test_pattern(cols: usize, group: usize, kind: Kind) -> Self {
        let Kind::Affine { bits, form } = kind else { panic!("{kind:?} has no codes") };
        let mut a = Affine::new(cols, group);
        let spread = |i: usize| (i as u32).wrapping_mul(2_654_435_761) >> 8;
        a.codes.iter_mut().enumerate().for_each(|(i, c)| *c = (spread(i) & ((1 << bits) - 1)) as u8);
        a.scales.iter_mut().enumerate().for_each(|(i, s)| *s = f16::from_f32(0.01 + spread(i) as f32 * 1e-9));
        let by = if form == Form::Zero { 0.16 } else { -0.01 };
        a.zeros.iter_mut().enumerate().for_each(|(i, z)| *z = f16::from_f32((spread(i) % 97) as f32 * by));
        a
    }
}
