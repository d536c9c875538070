//! A budget of bits, spent where it helps most.

/// A way to store a part of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// Bits that it takes.
    pub bits: f64,
    /// What it costs the model.
    pub loss: f64,
}

/// Steps that a budget is counted in.
const STEPS: usize = 20_000;

/// For each part, which of its prices to take so that the losses add up to the least and the bits to no more than
/// `budget`; none where not even the cheapest fit. All parts have the same ways, in the same order.
///
/// The best sum for every part of the budget is found part by part (the knapsack's recurrence), bits being rounded up to
/// whole steps; what all parts alike come to is looked at too, for the budgets that fit exactly.
pub fn spend(parts: &[Vec<Price>], budget: f64) -> Option<Vec<usize>> {
    let ways = parts.iter().map(Vec::len).min().unwrap_or(0);
    let total = |choice: &[usize]| -> (f64, f64) {
        let prices = parts.iter().zip(choice).map(|(prices, &i)| prices[i]);
        prices.fold((0.0, 0.0), |(bits, loss), price| (bits + price.bits, loss + price.loss))
    };
    let alike = (0..ways).map(|way| vec![way; parts.len()]);
    let candidates = alike.chain(searched(parts, budget));
    // A budget that was divided by a number of weights and multiplied again may be off in its last digit.
    let fits = |choice: &Vec<usize>| total(choice).0 <= budget * (1.0 + 1e-12);
    candidates.filter(fits).min_by(|a, b| total(a).1.total_cmp(&total(b).1))
}

fn searched(parts: &[Vec<Price>], budget: f64) -> Option<Vec<usize>> {
    if !(budget.is_finite() && budget > 0.0) {
        return None;
    }
    let steps = |bits: f64| (bits / budget * STEPS as f64).ceil() as usize;
    // By steps spent so far: the least loss.
    let mut least = vec![f64::INFINITY; STEPS + 1];
    least[0] = 0.0;
    // By part and steps: the way taken.
    let mut taken: Vec<Vec<u8>> = Vec::with_capacity(parts.len());
    for prices in parts {
        let mut next = vec![f64::INFINITY; STEPS + 1];
        let mut way = vec![0u8; STEPS + 1];
        for (i, price) in prices.iter().enumerate().take(usize::from(u8::MAX)) {
            let width = steps(price.bits);
            for (at, &loss) in least.iter().enumerate().take((STEPS + 1).saturating_sub(width)) {
                if loss + price.loss < next[at + width] {
                    next[at + width] = loss + price.loss;
                    way[at + width] = i as u8;
                }
            }
        }
        least = next;
        taken.push(way);
    }
    let mut at = (0..=STEPS).min_by(|&a, &b| least[a].total_cmp(&least[b]))?;
    if !least[at].is_finite() {
        return None;
    }
    let mut choice = vec![0; parts.len()];
    for (part, way) in taken.iter().enumerate().rev() {
        choice[part] = usize::from(way[at]);
        at -= steps(parts[part][choice[part]].bits);
    }
    Some(choice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sums(parts: &[Vec<Price>], choice: &[usize]) -> (f64, f64) {
        let prices = parts.iter().zip(choice).map(|(prices, &i)| prices[i]);
        prices.fold((0.0, 0.0), |(bits, loss), price| (bits + price.bits, loss + price.loss))
    }

    fn parts() -> impl Strategy<Value = Vec<Vec<Price>>> {
        let prices = (1u32..50, 0.0f64..1.0, 0.01f64..0.9).prop_map(|(size, loss, ratio)| {
            [4.125, 4.5, 8.125]
                .iter()
                .enumerate()
                .map(|(i, bits)| Price {
                    bits: bits * f64::from(size) * 8.0,
                    loss: loss * ratio.powi(i as i32),
                })
                .collect()
        });
        proptest::collection::vec(prices, 1..6)
    }

    proptest! {
        /// Against every choice there is: within the budget, never worse than all parts alike, and no better choice
        /// leaves as much of the budget as rounding to steps can take.
        #[test]
        fn the_best_that_fits(parts in parts(), share in 0.0f64..1.2) {
            let (least, most) = (sums(&parts, &vec![0; parts.len()]).0, sums(&parts, &vec![2; parts.len()]).0);
            let budget = least * 0.9 + (most - least * 0.9) * share;
            let found = spend(&parts, budget);
            let slack = budget * (parts.len() as f64 + 1.0) / STEPS as f64;
            for all in 0..3usize.pow(parts.len() as u32) {
                let choice: Vec<usize> = (0..parts.len()).map(|i| all / 3usize.pow(i as u32) % 3).collect();
                let (bits, loss) = sums(&parts, &choice);
                let alike = choice.iter().all(|&i| i == choice[0]);
                if bits <= if alike { budget } else { budget - slack } {
                    let found = found.as_ref().map(|found| sums(&parts, found));
                    prop_assert!(found.is_some_and(|found| found.1 <= loss + 1e-12), "{choice:?} {found:?}");
                }
            }
            if let Some(found) = found {
                prop_assert!(sums(&parts, &found).0 <= budget * (1.0 + 1e-12));
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_none() {
        let parts = vec![vec![Price { bits: 4.0, loss: 1.0 }, Price { bits: 8.0, loss: 0.0 }]; 3];
        assert_eq!(spend(&parts, 11.9), None);
        assert_eq!(spend(&parts, 12.0), Some(vec![0; 3]));
        assert_eq!(spend(&parts, 23.9).map(|c| c.iter().sum()), Some(2));
        assert_eq!(spend(&parts, 24.0), Some(vec![1; 3]));
        assert_eq!(spend(&parts, f64::NAN), None);
    }
}
