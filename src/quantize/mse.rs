//! The grid with the least squared error over a small search: the group's range shrunk about its middle,
//! each candidate then refined by the straight line that fits its codes best (ordinary least squares).

use super::rtn::range;
use super::{Grid, LONGEST_GROUP, Quantizer, round};

pub const QUANTIZER: Quantizer = Quantizer { name: "mse", choose };

/// Shares of the range that are tried. Below 0.7 nothing was ever best on bell-shaped groups of 32 to 128.
const SHARES: [f32; 7] = [1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7];

fn choose(group: &[f32], states: u32) -> Grid {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { search_avx2(group, states) };
    }
    search(group, states)
}

/// The same operations in the same order, eight at a time: the result is the same to the bit.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn search_avx2(group: &[f32], states: u32) -> Grid {
    search(group, states)
}

#[inline(always)]
fn search(group: &[f32], states: u32) -> Grid {
    let (low, high) = range(group);
    let mut best = Grid::spanning(low, high, states);
    let mut least = Fit::of(group, best, states).error;
    let (middle, half) = ((low + high) / 2.0, (high - low) / 2.0);
    for share in SHARES {
        let mut grid = Grid::spanning(middle - half * share, middle + half * share, states);
        for _ in 0..2 {
            let fit = Fit::of(group, grid, states);
            if fit.error < least {
                (best, least) = (grid, fit.error);
            }
            let Some(refined) = fit.refined(group.len()) else { break };
            grid = refined;
        }
        let error = Fit::of(group, grid, states).error;
        if error < least {
            (best, least) = (grid, error);
        }
    }
    best
}

/// In eight partial sums, so that compilers can use vector registers.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        (0..8).for_each(|i| sums[i] += a[i] * b[i]);
    }
    sums.iter().sum()
}

#[inline(always)]
fn sum(a: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    for a in a.as_chunks::<8>().0 {
        (0..8).for_each(|i| sums[i] += a[i]);
    }
    sums.iter().sum()
}

/// What a grid does to a group, with the sums that the best line through (code, weight) needs.
#[derive(Default)]
struct Fit {
    error: f32,
    codes: f32,
    codes_squared: f32,
    weights: f32,
    products: f32,
}

impl Fit {
    /// Groups are whole blocks of eight columns, at most [`LONGEST_GROUP`].
    #[inline(always)]
    fn of(group: &[f32], grid: Grid, states: u32) -> Self {
        let (scale, zero) = grid.rounded();
        let (scale, zero, top) = (scale.to_f32(), zero.to_f32(), (states - 1) as f32);
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        let (mut code, mut off) = ([0.0f32; LONGEST_GROUP], [0.0f32; LONGEST_GROUP]);
        let (code, off) = (&mut code[..group.len()], &mut off[..group.len()]);
        for ((code, off), &w) in code.iter_mut().zip(off.iter_mut()).zip(group) {
            *code = round((w * inverse + zero).clamp(0.0, top));
            *off = scale * (*code - zero) - w;
        }
        let (error, codes_squared, products) = (dot(off, off), dot(code, code), dot(code, group));
        let (codes, weights) = (sum(code), sum(group));
        Fit { error, codes, codes_squared, weights, products }
    }

    /// The least-squares line w ≈ scale · code + offset, as a grid; none where all codes are one.
    fn refined(&self, n: usize) -> Option<Grid> {
        let n = n as f32;
        let spread = self.codes_squared * n - self.codes * self.codes;
        let scale = (self.products * n - self.codes * self.weights) / spread;
        let offset = (self.weights - scale * self.codes) / n;
        (spread > 0.0 && scale > 0.0).then(|| Grid { scale, zero: -offset / scale })
    }
}
