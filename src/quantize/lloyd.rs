//! The states with the least squared error, wherever that puts them (Lloyd, "Least squares quantization in PCM",
//! 1982; Max, "Quantizing for minimum distortion", 1960): each state is the mean of the weights nearest to it.
//! That holds of a local optimum only, so it is sought from two starts and the better one is kept.

use half::f16;
use rayon::prelude::*;

/// Rounds that are tried. It always ends by itself, as a rule within some hundreds of rounds.
const MOST_ROUNDS: usize = 10_000;

/// At most `states` states for a group of finite weights, in order.
pub fn table(group: &[f32], states: usize) -> Vec<f16> {
    let runs = Runs::of(group);
    let (spread, even) = (runs.settled(runs.spread(states), states), runs.settled(runs.even(states), states));
    let best = if runs.error_of(&even) < runs.error_of(&spread) { even } else { spread };
    let mut table: Vec<f16> = runs.cells(&best).map(|(a, b)| f16::from_f64(runs.mean(a, b))).collect();
    table.dedup();
    table
}

/// The different weights in order, with sums over all before each, from which those over any cell follow. A
/// checkpoint of 16-bit numbers has at most 65 536 of them, however many its weights.
///
/// A cell is a range of them, `a..b`, never empty; cells are given by where each begins.
struct Runs {
    values: Vec<f32>,
    counts: Vec<f64>,
    sums: Vec<f64>,
    squares: Vec<f64>,
}

impl Runs {
    fn of(group: &[f32]) -> Self {
        let mut sorted = group.to_vec();
        sorted.par_sort_unstable_by(f32::total_cmp);
        Runs::counted(sorted.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as f64)))
    }

    /// Of weights in order, each with how often it is there.
    fn counted(weights: impl Iterator<Item = (f32, f64)>) -> Self {
        let mut runs = Runs { values: vec![], counts: vec![0.0], sums: vec![0.0], squares: vec![0.0] };
        let (mut count, mut sum, mut square) = (0.0, 0.0, 0.0);
        for (value, n) in weights {
            let w = f64::from(value);
            (count, sum, square) = (count + n, sum + n * w, square + n * w * w);
            runs.values.push(value);
            runs.counts.push(count);
            runs.sums.push(sum);
            runs.squares.push(square);
        }
        runs
    }

    fn mean(&self, a: usize, b: usize) -> f64 {
        // The difference of two large sums may be off; means must stay in order.
        let mean = (self.sums[b] - self.sums[a]) / (self.counts[b] - self.counts[a]);
        mean.clamp(self.values[a].into(), self.values[b - 1].into())
    }

    /// Squared distance from the mean, over the weights of a cell.
    fn error(&self, a: usize, b: usize) -> f64 {
        if b - a == 1 {
            return 0.0;
        }
        let sum = self.sums[b] - self.sums[a];
        (self.squares[b] - self.squares[a] - sum * sum / (self.counts[b] - self.counts[a])).max(0.0)
    }

    fn error_of(&self, starts: &[usize]) -> f64 {
        self.cells(starts).map(|(a, b)| self.error(a, b)).sum()
    }

    fn cells<'a>(&'a self, starts: &'a [usize]) -> impl Iterator<Item = (usize, usize)> + 'a {
        starts.iter().copied().zip(starts[1..].iter().copied().chain([self.values.len()]))
    }

    /// Cells as narrow as the cube root of the density is great, which is best for many states (Panter and Dite,
    /// "Quantization distortion in pulse-count modulation with nonuniform spacing of levels", 1951). Where n
    /// weights lie δ apart from the next, density^⅓ · δ is (n · δ²)^⅓.
    fn spread(&self, states: usize) -> Vec<usize> {
        let mut sum = 0.0;
        let mut sums = vec![0.0];
        sums.extend(self.values.windows(2).zip(self.counts.windows(2)).map(|(v, n)| {
            sum += ((n[1] - n[0]) * (f64::from(v[1]) - f64::from(v[0])).powi(2)).cbrt();
            sum
        }));
        let start = |i| sums.partition_point(|&s| s < sum * i as f64 / states as f64);
        (0..states).map(start).collect()
    }

    /// Cells of equal width.
    fn even(&self, states: usize) -> Vec<usize> {
        let (low, high) = (f64::from(self.values[0]), f64::from(self.values[self.values.len() - 1]));
        let edge = |i| low + (high - low) * i as f64 / states as f64;
        (0..states).map(|i| self.values.partition_point(|&v| f64::from(v) < edge(i))).collect()
    }

    /// Moves the cells until each has the weights that are nearest to its mean.
    fn settled(&self, mut starts: Vec<usize>, states: usize) -> Vec<usize> {
        for _ in 0..MOST_ROUNDS {
            self.fill(&mut starts, states);
            let means: Vec<f64> = self.cells(&starts).map(|(a, b)| self.mean(a, b)).collect();
            let edges = means.windows(2).map(|m| (m[0] + m[1]) / 2.0);
            let next = edges.map(|edge| self.values.partition_point(|&v| f64::from(v) <= edge));
            let next: Vec<usize> = std::iter::once(0).chain(next).collect();
            if next == starts {
                break;
            }
            starts = next;
        }
        self.fill(&mut starts, states);
        starts
    }

    /// Drops empty cells, and for each one dropped splits the cell with the greatest error at its mean.
    fn fill(&self, starts: &mut Vec<usize>, states: usize) {
        starts.dedup();
        starts.retain(|&start| start < self.values.len());
        while starts.len() < states.min(self.values.len()) {
            let wide = self.cells(starts).enumerate().filter(|(_, (a, b))| b - a > 1);
            let worst = wide.max_by(|(_, x), (_, y)| self.error(x.0, x.1).total_cmp(&self.error(y.0, y.1)));
            let Some((i, (a, b))) = worst else { break };
            let mean = self.mean(a, b);
            let half = self.values[a..b].partition_point(|&v| f64::from(v) <= mean);
            starts.insert(i + 1, a + half.clamp(1, b - a - 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The two conditions of Lloyd and Max, on groups short enough for numbers that f16 holds.
        #[test]
        fn states_are_means_and_edges_midpoints(
            weights in proptest::collection::vec(-2.0f32..2.0, 1..400), states in 2usize..40,
        ) {
            let runs = Runs::of(&weights);
            let starts = runs.settled(runs.spread(states), states);
            prop_assert_eq!(starts.len(), states.min(runs.values.len()));
            let means: Vec<f64> = runs.cells(&starts).map(|(a, b)| {
                let (low, high) = (runs.values[a], runs.values[b - 1]);
                let cell = weights.iter().filter(|w| (low..=high).contains(w));
                let (n, sum) = cell.fold((0.0, 0.0), |(n, sum), &w| (n + 1.0, sum + f64::from(w)));
                assert!((sum / n - runs.mean(a, b)).abs() < 1e-9);
                sum / n
            }).collect();
            for (i, (a, b)) in runs.cells(&starts).enumerate() {
                for &v in &runs.values[a..b] {
                    let distance = |m: f64| (f64::from(v) - m).abs();
                    prop_assert!(means.iter().all(|&m| distance(means[i]) <= distance(m) + 1e-9));
                }
            }
        }

        #[test]
        fn few_weights_are_exact(weights in proptest::collection::vec(-300i16..300, 1..16)) {
            let weights: Vec<f32> = weights.iter().map(|&w| f32::from(w) / 4.0).collect();
            let table = table(&weights.repeat(9), 16);
            prop_assert!(weights.iter().all(|&w| table.contains(&f16::from_f32(w))));
        }
    }

    /// 16 states for a normal distribution: the distortion that Max found, 0.009497.
    #[test]
    fn distortion_is_the_published_one() {
        let density = |x: f32| f64::from(-x * x / 2.0).exp();
        let runs = Runs::counted((-8000..=8000).map(|i| i as f32 / 1000.0).map(|x| (x, density(x))));
        let error = runs.error_of(&runs.settled(runs.spread(16), 16)) / runs.counts[16_001];
        assert!((error - 0.009_497).abs() < 2e-5, "{error}");
    }
}
