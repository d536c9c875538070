//! Kernels that multiply with a weight, how they share the work out, and how that is written.

use crate::recording::Consts;
use std::fmt;
use std::str::FromStr;

/// A kernel that multiplies, and how it shares the work out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// `matmul_uniform`, a lane so many rows at a time.
    Uniform {
        /// Rows of x.
        rows: usize,
        /// Quads of rows of W.
        quads: usize,
    },
    /// `matmul_flat`, a lane so many rows at a time.
    Flat {
        /// Rows of x.
        rows: usize,
        /// Quads of rows of W.
        quads: usize,
    },
    /// `matmul_rows`.
    Rows {
        /// Rows of x of a workgroup: 16 or 32.
        rows: usize,
        /// Blocks of columns that a lane loads at a time.
        blocks: usize,
        /// Quads of rows of W that a workgroup goes over.
        quads: usize,
    },
    /// `matmul_split`.
    Split {
        /// Rows of x that a lane takes at a time.
        rows: usize,
        /// What a workgroup has of W.
        part: Part,
        /// Quads of a lane: 1 or 2.
        each: usize,
    },
    /// `matmul_tile`
    Tile,
    /// `matmul_tile_half`
    TileHalf,
    /// `matmul_cooperative`
    Cooperative {
        /// Rows of x of a workgroup.
        rows: usize,
    },
    /// `matmul_dot`, of activations in 8 bits.
    Dot {
        /// Rows of x that a lane takes at a time.
        rows: usize,
        /// What a workgroup has of W.
        part: Part,
    },
    /// `matmul_dot_tile`, of activations in 8 bits.
    DotTile,
}

/// A part of a tile of W, and how lanes of a workgroup share it out (`shaders/splits.wgsl`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Quads of rows of W; a divisor of those of a tile.
    pub quads: usize,
    /// Lanes that share a quad's columns: a power of two, 4 or more.
    pub splits: usize,
}

impl Part {
    /// Lanes of a workgroup that have so many quads each.
    pub(super) fn lanes(self, each: usize) -> usize {
        self.quads / each * self.splits
    }

    /// What the kernel is told of it.
    pub(super) fn consts(self, each: usize, consts: Consts) -> Consts {
        let consts = consts.u32("QUADS", self.quads).u32("EACH", each);
        consts.u32("SPLITS", self.splits).u32("WG", self.lanes(each))
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.quads, self.splits)
    }
}

impl FromStr for Part {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (quads, splits) = text.split_once('x').ok_or(())?;
        Ok(Part { quads: quads.parse().map_err(|_| ())?, splits: splits.parse().map_err(|_| ())? })
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Variant::Uniform { rows, quads } => write!(f, "uniform {rows}x{quads}"),
            Variant::Flat { rows, quads } => write!(f, "flat {rows}x{quads}"),
            Variant::Rows { rows, blocks, quads } => write!(f, "rows {rows}x{blocks}x{quads}"),
            Variant::Split { rows, part, each: 1 } => write!(f, "split {rows}x{part}"),
            Variant::Split { rows, part, each } => write!(f, "split {rows}x{part}x{each}"),
            Variant::Tile => f.write_str("tile"),
            Variant::TileHalf => f.write_str("tile-half"),
            Variant::Cooperative { rows } => write!(f, "cooperative {rows}"),
            Variant::Dot { rows, part } => write!(f, "dot {rows}x{part}"),
            Variant::DotTile => f.write_str("dot-tile"),
        }
    }
}

impl Variant {
    /// The variant that is written so.
    pub fn named(name: &str) -> Option<Self> {
        let Some((kind, sizes)) = name.split_once(' ') else {
            let all = [Variant::Tile, Variant::TileHalf, Variant::DotTile];
            return all.into_iter().find(|variant| variant.to_string() == name);
        };
        if kind == "cooperative" {
            return Some(Variant::Cooperative { rows: sizes.parse().ok()? });
        }
        let (rows, other) = sizes.split_once('x')?;
        let rows = rows.parse().ok()?;
        match kind {
            "uniform" => Some(Variant::Uniform { rows, quads: other.parse().ok()? }),
            "flat" => Some(Variant::Flat { rows, quads: other.parse().ok()? }),
            "rows" => {
                let (blocks, quads) = other.split_once('x')?;
                Some(Variant::Rows { rows, blocks: blocks.parse().ok()?, quads: quads.parse().ok()? })
            }
            "split" => {
                let (part, each) = match other.match_indices('x').nth(1) {
                    Some((at, _)) => (&other[..at], other[at + 1..].parse().ok()?),
                    None => (other, 1),
                };
                Some(Variant::Split { rows, part: part.parse().ok()?, each })
            }
            "dot" => Some(Variant::Dot { rows, part: other.parse().ok()? }),
            _ => None,
        }
    }
}
