//! Weight formats: how the numbers of a matrix lie in device memory.
//!
//! A matrix is cut into *tiles* of [`TILE_ROWS`] rows. Within a tile, words are ordered by column first and
//! row second, so that neighbouring lanes, which own neighbouring rows, read neighbouring words; four rows
//! make one `vec4<u32>`, a *quad*. Every plane (codes, scales …) is tiled the same way, so a tile is packed
//! on its own and a checkpoint streams through without ever being held whole.
//!
//! A format is one file here and one in `shaders/format/`, and one line in [`FORMATS`].

mod affine;
mod f16;
pub mod fp4;
pub mod mxfp4;
pub mod nf4;
pub mod q4;
pub mod q4_0;
pub mod q4_1;
pub mod q4_k;
pub mod q5_0;
pub mod q6_k;
pub mod q8;
pub mod q8_0;
pub mod q8_1;
mod states;

pub use affine::Affine;
use half::f16 as Half;
pub use states::States;

/// Rows of a tile. Matrices are padded to it with rows of zeros.
pub const TILE_ROWS: usize = 64;

/// Columns that a format unpacks at a time. Every matrix has a multiple of it.
pub const BLOCK: usize = 8;

/// Every format there is.
pub const FORMATS: &[&Format] = &[
    &f16::FORMAT,
    &q8::FORMAT,
    &q4::FORMAT,
    &q4_0::FORMAT,
    &q4_1::FORMAT,
    &q5_0::FORMAT,
    &q8_0::FORMAT,
    &q8_1::FORMAT,
    &q4_k::FORMAT,
    &q6_k::FORMAT,
    &nf4::FORMAT,
    &fp4::FORMAT,
    &mxfp4::FORMAT,
];

/// A piece of WGSL: its path under `shaders/`, and its text.
pub type Part = (&'static str, &'static str);

/// What a tile is packed from. Rows are padded to [`TILE_ROWS`] with zeros.
pub enum Tile<'a> {
    /// Plain numbers, `[TILE_ROWS, cols]`, for floating point formats.
    Values(&'a [f32]),
    /// Codes `[TILE_ROWS, cols]` with scale and zero or offset `[TILE_ROWS, groups]`.
    Affine(&'a Affine),
    /// Codes `[TILE_ROWS, cols]` of a format's own states, with scales `[TILE_ROWS, groups]`.
    States(&'a States),
    /// Blocks of bytes as a file has them, `[TILE_ROWS, blocks a row]`; padded with zeros, which mean zeros.
    Blocks(&'a [u8]),
}

/// A tile in the making of what is stored as codes already.
pub enum Codes {
    /// As [`Tile::Affine`].
    Affine(Affine),
    /// As [`Tile::States`].
    States(States),
    /// As [`Tile::Blocks`].
    Blocks(Vec<u8>),
}

impl Codes {
    /// A tile of zeros.
    ///
    /// # Panics
    /// If the packing is of floats.
    pub fn new(packing: Packing, cols: usize) -> Self {
        match packing.format.kind {
            Kind::Affine { .. } => Codes::Affine(Affine::new(cols, packing.group)),
            Kind::States(_) => Codes::States(States::new(cols, packing.group)),
            Kind::Blocks { cols: block, bytes, .. } => {
                Codes::Blocks(vec![0; TILE_ROWS * (cols / block) * bytes])
            }
            Kind::Float => panic!("{} has no codes", packing.format.name),
        }
    }

    /// The tile.
    pub fn tile(&self) -> Tile<'_> {
        match self {
            Codes::Affine(affine) => Tile::Affine(affine),
            Codes::States(states) => Tile::States(states),
            Codes::Blocks(bytes) => Tile::Blocks(bytes),
        }
    }
}

/// What codes are counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `w = scale · (code − zero)`
    Zero,
    /// `w = scale · code + offset`
    Offset,
    /// `w = scale · (code − 2^(bits − 1))`
    Middle,
}

/// A number that all columns of a block share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Constant {
    /// A 16-bit float, from this byte on.
    Half(usize),
    /// The exponent of a power of two, counted from −127: this byte.
    Exponent(usize),
}

impl Constant {
    /// What a block has there, if that is no finite number.
    pub fn flaw(self, block: &[u8]) -> Option<f32> {
        let value = match self {
            Constant::Half(at) => Half::from_le_bytes([block[at], block[at + 1]]).to_f32(),
            Constant::Exponent(at) if block[at] == u8::MAX => f32::NAN,
            Constant::Exponent(_) => 0.0,
        };
        (!value.is_finite()).then_some(value)
    }

    /// Makes a block have about that number there.
    pub fn set(self, block: &mut [u8], value: f32) {
        match self {
            Constant::Half(at) => {
                block[at..at + 2].copy_from_slice(&Half::from_f32(value).to_le_bytes());
            }
            Constant::Exponent(at) => block[at] = (value.to_bits() >> 23) as u8,
        }
    }
}

/// How a format's numbers come about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Each weight is rounded by itself.
    Float,
    /// `2^bits` codes at even distances, which a group of columns shares.
    Affine {
        /// Bits of a code.
        bits: u32,
        /// What they are counted from.
        form: Form,
    },
    /// One of these numbers, times an f32 that a group of columns shares. Nothing is quantized to it.
    States(&'static [f32; 16]),
    /// As a file has it, in blocks. Nothing is quantized to it.
    Blocks {
        /// Columns of a block.
        cols: usize,
        /// Its bytes.
        bytes: usize,
        /// Columns of which kernels load the constants together.
        group: usize,
        /// What a block's columns share.
        constants: &'static [Constant],
    },
}

/// Which columns of a block `load_dots` gives in each of its two words, four codes of a byte in either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The first four, and the others.
    InTurn,
    /// Every other one from the first on, and those between.
    Alternating,
}

/// One of the arrays of words that a weight is.
#[derive(Clone, Copy, Debug)]
pub struct Plane {
    /// Its name.
    pub name: &'static str,
    /// What there is in it.
    pub holds: Holds,
}

/// What a plane holds for four rows of a tile, a *quad*, side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// A word for each row.
    Words,
    /// A word for every two rows.
    Pairs,
    /// Nothing by rows.
    Numbers,
}

impl Plane {
    /// A plane of a word for each row.
    pub const fn words(name: &'static str) -> Self {
        Plane { name, holds: Holds::Words }
    }

    /// A plane of a word for every two rows.
    pub const fn pairs(name: &'static str) -> Self {
        Plane { name, holds: Holds::Pairs }
    }

    /// A plane of words that are no row's.
    pub const fn numbers(name: &'static str) -> Self {
        Plane { name, holds: Holds::Numbers }
    }
}

/// A weight format.
pub struct Format {
    /// Its name, as in `--bits` reports and kernel sources.
    pub name: &'static str,
    /// Bits of one stored weight, without what its group shares.
    pub bits: u32,
    /// How its numbers come about.
    pub kind: Kind,
    /// The planes, in binding order of group 1.
    pub planes: &'static [Plane],
    /// Words of each plane in one tile of `cols` columns with groups of `group` columns.
    pub tile_words: fn(cols: usize, group: usize) -> Vec<usize>,
    /// Packs a tile into its planes.
    pub pack: fn(tile: Tile<'_>, cols: usize, group: usize, planes: &mut [Vec<u32>]),
    /// Unpacks a tile into `[TILE_ROWS, cols]`.
    pub unpack: fn(planes: &[&[u32]], cols: usize, group: usize, out: &mut [f32]),
    /// How packed dot products take its codes, where they are integers.
    pub dots: Option<Order>,
    /// The WGSL that unpacks, `shaders/format/*.wgsl`.
    pub wgsl: &'static [Part],
}

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Format {
    /// The format called `name`.
    pub fn named(name: &str) -> Option<&'static Format> {
        FORMATS.iter().copied().find(|f| f.name == name)
    }
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// A format with its group size: all that is needed to lay out a matrix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Packing {
    /// The format.
    pub format: &'static Format,
    /// Columns that share a scale and a zero. Formats without groups ignore it.
    pub group: usize,
}

impl Packing {
    /// 16-bit floats.
    pub const F16: Packing = Packing { format: &f16::FORMAT, group: 64 };

    /// `f16`, `q8/32`, `q4/64` …
    pub fn name(&self) -> String {
        match self.format.kind {
            Kind::Float | Kind::Blocks { .. } => self.format.name.to_owned(),
            Kind::Affine { .. } | Kind::States(_) => format!("{}/{}", self.format.name, self.group),
        }
    }

    /// The least number of columns from `cols` that a row can have.
    pub fn fitting(&self, cols: usize) -> usize {
        match self.format.kind {
            Kind::Blocks { cols: block, .. } => cols.next_multiple_of(block),
            _ => cols.next_multiple_of(BLOCK),
        }
    }

    /// Bytes of one tile over all planes.
    pub fn tile_bytes(&self, cols: usize) -> u64 {
        (self.format.tile_words)(cols, self.group).iter().map(|&w| w as u64 * 4).sum()
    }

    /// Bytes of a matrix over all planes and tiles.
    pub fn bytes(&self, rows: usize, cols: usize) -> u64 {
        self.tile_bytes(cols) * rows.div_ceil(TILE_ROWS) as u64
    }

    /// True bits a weight, scales and zeros included.
    pub fn bits_per_weight(&self, cols: usize) -> f64 {
        self.tile_bytes(cols) as f64 * 8.0 / (TILE_ROWS * cols) as f64
    }
}

/// Two halves in a word, the first in the low bits: what `unpack2x16float` reads.
pub fn pair(low: Half, high: Half) -> u32 {
    u32::from(low.to_bits()) | u32::from(high.to_bits()) << 16
}

/// The halves of a word, as `unpack2x16float`.
pub fn unpair(word: u32) -> [f32; 2] {
    [Half::from_bits(word as u16).to_f32(), Half::from_bits((word >> 16) as u16).to_f32()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever a format stores, packing what it unpacked gives the same planes again.
    #[test]
    fn packing_is_exact_on_what_was_unpacked() {
        for &format in FORMATS {
            for (cols, group) in [(8, 32), (64, 32), (104, 64), (328, 128), (512, 32)] {
                let packing = Packing { format, group };
                let values: Vec<f32> = (0..TILE_ROWS * cols).map(|i| (i as f32 * 0.37).sin()).collect();
                let planes = match format.kind {
                    // Against the numbers of a file's blocks: `checkpoint::ggml`.
                    Kind::Blocks { cols: block, bytes, .. } if cols.is_multiple_of(block) => {
                        let blocks = vec![0; TILE_ROWS * cols / block * bytes];
                        let planes = packed(packing, cols, Tile::Blocks(&blocks));
                        let mut out = vec![1.0; TILE_ROWS * cols];
                        unpack(packing, cols, &planes, &mut out);
                        assert!(out.iter().all(|&w| w == 0.0), "{}: padding", format.name);
                        planes
                    }
                    Kind::Blocks { .. } => continue,
                    Kind::Float => packed(packing, cols, Tile::Values(&values)),
                    Kind::States(states) => {
                        let tile = States::test_pattern(cols, group);
                        let planes = packed(packing, cols, Tile::States(&tile));
                        let mut out = vec![0.0; TILE_ROWS * cols];
                        unpack(packing, cols, &planes, &mut out);
                        for (i, &w) in out.iter().enumerate() {
                            let scale = tile.scales[i / cols * cols.div_ceil(group) + i % cols / group];
                            let expected = scale * states[usize::from(tile.codes[i])];
                            assert_eq!(w, expected, "{} {cols} {group} at {i}", format.name);
                        }
                        planes
                    }
                    Kind::Affine { bits, form } => {
                        let affine = Affine::test_pattern(cols, group, format.kind);
                        let planes = packed(packing, cols, Tile::Affine(&affine));
                        let mut out = vec![0.0; TILE_ROWS * cols];
                        unpack(packing, cols, &planes, &mut out);
                        for (i, &w) in out.iter().enumerate() {
                            assert_eq!(
                                w,
                                affine.value_as(form, bits, i / cols, i % cols),
                                "{} {cols} {group} at {i}",
                                format.name
                            );
                        }
                        planes
                    }
                };
                let words = (format.tile_words)(cols, group);
                assert_eq!(planes.iter().map(Vec::len).collect::<Vec<_>>(), words, "{}", format.name);
                if format.kind == Kind::Float {
                    let mut out = vec![0.0; TILE_ROWS * cols];
                    unpack(packing, cols, &planes, &mut out);
                    assert_eq!(packed(packing, cols, Tile::Values(&out)), planes);
                }
            }
        }
    }

    #[test]
    fn true_bits_count_scales_and_zeros() {
        let bits =
            |name, group| Packing { format: Format::named(name).unwrap(), group }.bits_per_weight(4096);
        assert_eq!(bits("f16", 64), 16.0);
        assert_eq!(bits("q4", 32), 5.0);
        assert_eq!(bits("q4", 64), 4.5);
        assert_eq!(bits("q4", 128), 4.25);
        assert_eq!(bits("q8", 64), 8.5);
        // What the files say of themselves.
        assert_eq!(bits("q4_0", 32), 4.5);
        assert_eq!(bits("q4_1", 32), 5.0);
        assert_eq!(bits("q5_0", 32), 5.5);
        assert_eq!(bits("q8_0", 32), 8.5);
        assert_eq!(bits("q4_k", 32), 4.5);
        assert_eq!(bits("q6_k", 16), 6.5625);
        assert_eq!(bits("mxfp4", 32), 4.25);
        // Those of absmax, and two of the table for 64 rows.
        assert_eq!(bits("nf4", 64), 4.5 + 2.0 / 1024.0);
    }

    fn packed(packing: Packing, cols: usize, tile: Tile<'_>) -> Vec<Vec<u32>> {
        let mut planes = vec![Vec::new(); packing.format.planes.len()];
        (packing.format.pack)(tile, cols, packing.group, &mut planes);
        planes
    }

    fn unpack(packing: Packing, cols: usize, planes: &[Vec<u32>], out: &mut [f32]) {
        let planes: Vec<&[u32]> = planes.iter().map(Vec::as_slice).collect();
        (packing.format.unpack)(&planes, cols, packing.group, out);
    }
}
