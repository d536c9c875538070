//! How kernels read the planes of a weight: from buffers, or from textures where a device reads those faster.
//!
//! Formats ask for words and do not know where they lie: `words_0(row, quad)`, for plane 0, gives a word for each row of a quad
//! (four rows of W, 0..16 in a tile), `pair_1(row, quad)` one for every two of them, and `word_2(at)` any single one. A `row` is one
//! of 16 quads of the plane.

use crate::format::{Holds, Plane};
use std::fmt::Write;

/// WGSL that declares planes as group 1, and a function for each that reads it. In textures it follows `shaders/texels.wgsl`.
pub fn source(planes: &[Plane], textures: bool) -> String {
    let mut text = String::new();
    for (i, Plane { name, holds }) in planes.iter().enumerate() {
        let (function, ty, parameters, arguments, at) = match holds {
            Holds::Words => ("words", "vec4<u32>", "row: u32, quad: u32", "row, quad", "row * 16u + quad"),
            Holds::Pairs => ("pair", "vec2<u32>", "row: u32, quad: u32", "row, quad", "row * 16u + quad"),
            Holds::Numbers => ("word", "u32", "at: u32", "at", "at"),
        };
        let (variable, read) = match textures {
            true => (format!("var plane_{i}: Texels"), format!("{function}_in(plane_{i}, {arguments})")),
            false => (format!("var<storage, read> plane_{i}: array<{ty}>"), format!("plane_{i}[{at}]")),
        };
        let _ = writeln!(
            text,
            "@group(1) @binding({i}) {variable}; // {name}\n\
             fn {function}_{i}({parameters}) -> {ty} {{\n    return {read};\n}}"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::FORMATS;

    /// Some backends bind what is declared, whether or not a kernel uses it.
    #[test]
    fn as_much_is_declared_as_there_is() {
        for format in FORMATS {
            // As many storage textures as every device binds.
            assert!(format.planes.len() <= 4, "{}", format.name);
            for textures in [false, true] {
                let source = source(format.planes, textures);
                let declared: Vec<_> = source.matches("@binding(").collect();
                assert_eq!(declared.len(), format.planes.len(), "{}", format.name);
                assert_eq!(source.contains("Texels"), textures, "{}", format.name);
            }
        }
    }
}
