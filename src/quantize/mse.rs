//! The grid with the least squared error over a small search: the group's range shrunk about its middle,
//! each candidate then refined by the straight line that fits its codes best (ordinary least squares). Where zeros
//! are whole numbers, the line goes through the zero, and the best grid's neighbours by zero are tried too; where zeros
//! are in the middle, scales are tried with either sign, because one side of the middle has a state more.

use super::lanes::{self, LANES};
use super::{Grid, LONGEST_GROUP, Quantizer, Zeros, each, inverse, range};
use rayon::prelude::*;

pub const QUANTIZER: Quantizer = Quantizer { name: "mse", choose, calibrated: None };

/// Standard deviations about the mean that are tried on long groups, where a few outliers make the range many
/// times as wide as what suits the rest.
const DEVIATIONS: [f64; 12] = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0, 16.0, 24.0];

/// Weights of a long group that one thread works through at a time.
const PIECE: usize = LONGEST_GROUP * 512;

/// Rounds in which the best grid for a long group is refined further.
const MOST_ROUNDS: usize = 8;

fn choose(row: &[f32], group: usize, states: u32, zeros: Zeros) -> Vec<Grid> {
    let group = group.min(row.len()).max(1);
    if group > LONGEST_GROUP {
        return each(row, group, |group| match group.len() > LONGEST_GROUP {
            true => search_long(group, states, zeros),
            false => lanes::search(group, group.len(), states, zeros)[0],
        });
    }
    let (groups, rest) = row.split_at(row.len() / group * group);
    let mut grids = Vec::with_capacity(row.len().div_ceil(group));
    for some in groups.chunks(group * LANES) {
        grids.extend(&lanes::search(some, group, states, zeros)[..some.len() / group]);
    }
    if !rest.is_empty() {
        grids.push(lanes::search(rest, rest.len(), states, zeros)[0]);
    }
    grids
}

fn search_long(group: &[f32], states: u32, zeros: Zeros) -> Grid {
    let (low, high) = range(group);
    let n = group.len() as f64;
    let mean = group.iter().map(|&w| f64::from(w)).sum::<f64>() / n;
    let deviation = (group.iter().map(|&w| (f64::from(w) - mean).powi(2)).sum::<f64>() / n).sqrt();
    let spans = DEVIATIONS
        .map(|k| ((mean - k * deviation) as f32, (mean + k * deviation) as f32))
        .into_iter()
        .filter(|&(from, to)| low < from || to < high)
        .map(|(from, to)| (from.max(low), to.min(high)))
        .chain([(low, high)]);
    let mut best = search(group, (states, zeros), (low, high), spans);
    let mut fitted = Fit::of(group, best, (states, zeros));
    for _ in 0..MOST_ROUNDS {
        let Some(grid) = fitted.refined(group.len()) else { break };
        let next = Fit::of(group, grid, (states, zeros));
        if next.error >= fitted.error {
            break;
        }
        (best, fitted) = (grid, next);
    }
    best
}

/// The best grid from that of the whole range and from `spans`.
fn search(
    group: &[f32],
    (states, zeros): (u32, Zeros),
    (low, high): (f32, f32),
    spans: impl IntoIterator<Item = (f32, f32)>,
) -> Grid {
    let mut best = zeros.spanning(low, high, states);
    let mut least = Fit::of(group, best, (states, zeros)).error;
    for (from, to) in spans {
        let grid = zeros.spanning(from, to, states);
        descend(group, grid, (states, zeros), (&mut best, &mut least));
        if zeros == Zeros::Middle {
            let other = Grid { scale: -grid.scale, ..grid };
            descend(group, other, (states, zeros), (&mut best, &mut least));
        }
    }
    if matches!(zeros, Zeros::Whole { .. }) {
        let found = zeros.held(best, states);
        for zero in [found.zero - 1.0, found.zero + 1.0] {
            descend(group, Grid { zero, ..found }, (states, zeros), (&mut best, &mut least));
        }
    }
    best
}

/// Tries a grid and what two rounds of refinement make of it.
fn descend(group: &[f32], mut grid: Grid, stored: (u32, Zeros), (best, least): (&mut Grid, &mut f64)) {
    for _ in 0..2 {
        let fitted = Fit::of(group, grid, stored);
        if fitted.error < *least {
            (*best, *least) = (grid, fitted.error);
        }
        let Some(refined) = fitted.refined(group.len()) else { break };
        grid = refined;
    }
    let error = Fit::of(group, grid, stored).error;
    if error < *least {
        (*best, *least) = (grid, error);
    }
}

/// In eight partial sums, so that compilers can use vector registers; what is left of eight is added last.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        (0..8).for_each(|i| sums[i] += a[i] * b[i]);
    }
    a_rest.iter().zip(b_rest).zip(&mut sums).for_each(|((a, b), sum)| *sum += a * b);
    sums.iter().sum()
}

fn sum(a: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a, rest) = a.as_chunks::<8>();
    for a in a {
        (0..8).for_each(|i| sums[i] += a[i]);
    }
    rest.iter().zip(&mut sums).for_each(|(a, sum)| *sum += a);
    sums.iter().sum()
}

/// What a grid does to a group, with the sums that the best line through (code, weight) needs. Sums are f32 over
/// up to [`LONGEST_GROUP`] weights, and f64 from there on.
#[derive(Default)]
struct Fit {
    error: f64,
    codes: f64,
    codes_squared: f64,
    weights: f64,
    products: f64,
    /// The zero that cannot be moved, if it cannot.
    zero: Option<f32>,
}

impl Fit {
    /// Of at most [`LONGEST_GROUP`] weights.
    fn of_few(group: &[f32], grid: Grid, (states, zeros): (u32, Zeros)) -> Self {
        let grid = zeros.held(grid, states);
        let (Grid { scale, zero }, top) = (grid, (states - 1) as f32);
        let inverse = inverse(scale);
        let (mut code, mut off) = ([0.0f32; LONGEST_GROUP], [0.0f32; LONGEST_GROUP]);
        let (code, off) = (&mut code[..group.len()], &mut off[..group.len()]);
        for ((code, off), &w) in code.iter_mut().zip(off.iter_mut()).zip(group) {
            *code = grid.code(inverse, top, w);
            *off = scale * (*code - zero) - w;
        }
        Fit {
            error: dot(off, off).into(),
            codes: sum(code).into(),
            codes_squared: dot(code, code).into(),
            weights: sum(group).into(),
            products: dot(code, group).into(),
            zero: matches!(zeros, Zeros::Whole { .. } | Zeros::Middle).then_some(zero),
        }
    }

    /// Of a group of any length. The pieces are added up in order, so that the result is the same on any number of
    /// threads.
    fn of(group: &[f32], grid: Grid, stored: (u32, Zeros)) -> Self {
        let piece = |piece: &[f32]| {
            piece
                .chunks(LONGEST_GROUP)
                .map(|chunk| Fit::of_few(chunk, grid, stored))
                .fold(Fit::default(), Fit::plus)
        };
        if group.len() <= PIECE {
            return piece(group);
        }
        let pieces: Vec<Fit> = group.par_chunks(PIECE).map(piece).collect();
        pieces.into_iter().fold(Fit::default(), Fit::plus)
    }

    fn plus(self, other: Fit) -> Fit {
        Fit {
            error: self.error + other.error,
            codes: self.codes + other.codes,
            codes_squared: self.codes_squared + other.codes_squared,
            weights: self.weights + other.weights,
            products: self.products + other.products,
            zero: self.zero.or(other.zero),
        }
    }

    /// The least-squares line w ≈ scale · code + offset, as a grid; none where the codes do not tell one.
    fn refined(&self, n: usize) -> Option<Grid> {
        let Fit { codes, codes_squared, weights, products, zero, .. } = *self;
        if let Some(zero) = zero {
            // Through the zero: Σ (code − zero) · w / Σ (code − zero)².
            let z = f64::from(zero);
            let spread = codes_squared - 2.0 * z * codes + z * z * n as f64;
            let scale = ((products - z * weights) / spread) as f32;
            return (spread > 0.0 && scale != 0.0).then_some(Grid { scale, zero });
        }
        let n = n as f64;
        let spread = codes_squared * n - codes * codes;
        let scale = (products * n - codes * weights) / spread;
        let offset = (weights - scale * codes) / n;
        let grid = || Grid { scale: scale as f32, zero: (-offset / scale) as f32 };
        (spread > 0.0 && scale > 0.0).then(grid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups of any length count with all their weights, the last ones too.
    #[test]
    fn all_weights_of_a_long_group_count() {
        for n in [LONGEST_GROUP + 1, LONGEST_GROUP + 7, 2 * LONGEST_GROUP + 12, PIECE + 3] {
            let group: Vec<f32> = (0..n).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
            let grid = Grid { scale: 0.125, zero: 7.5 };
            let fit = Fit::of(&group, grid, (16, Zeros::Free));
            let codes: Vec<f32> = group.iter().map(|&w| grid.code(inverse(grid.scale), 15.0, w)).collect();
            let exact = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
                codes.iter().zip(&group).map(|(&c, &w)| of(f64::from(c), f64::from(w))).sum()
            };
            let (scale, zero) = (f64::from(grid.scale), f64::from(grid.zero));
            for (found, exact) in [
                (fit.error, exact(&|c, w| (scale * (c - zero) - w).powi(2))),
                (fit.codes, exact(&|c, _| c)),
                (fit.codes_squared, exact(&|c, _| c * c)),
                (fit.weights, exact(&|_, w| w)),
                (fit.products, exact(&|c, w| c * w)),
            ] {
                assert!((found - exact).abs() < 1e-4 * exact.abs().max(1.0), "{n}: {found} {exact}");
            }
        }
    }
}
