//! The probability of backtest overfitting by combinatorially symmetric cross-validation (CSCV).
//!
//! Invariant: memory grows with strategies × blocks and with combinations, never with their product; the number of blocks is
//! bounded, and with it that of the combinations.
//!
//! Source: D. H. Bailey, J. M. Borwein, M. López de Prado, Q. J. Zhu, The Probability of Backtest Overfitting, Journal of
//! Computational Finance 20 (2016; published online in 2015): the procedure CSCV, and its statistics on overfitting.

use schemars::JsonSchema;
use serde::Serialize;

use super::undefined::{Undefined, check, finite};

/// Most blocks that the history is split into: C(16, 8) = 12,870 combinations, the number of the paper's examples.
pub(crate) const MAX_SPLITS: u32 = 16;
/// Fewest rows of a block: a standard deviation needs two.
const MIN_BLOCK: usize = 2;
/// Most strategies that are compared.
const MAX_STRATEGIES: usize = 200;
/// A standard deviation below this share of the size of the values is rounding: the values do not vary.
const ROUNDING: f64 = 1e-12;

/// How the strategy that is best in one half of the history does in the other half.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Overfitting {
    /// The probability that the best in sample is at or below the median out of sample, from 0 to 1.
    pub(crate) probability: f64,
    /// How many strategies were compared.
    pub(crate) strategies: usize,
    /// How many returns of each were used: the oldest that do not fill a block are left out.
    pub(crate) observations: usize,
    /// How many blocks the history was split into.
    pub(crate) splits: u32,
    /// How many ways there are to make one half of the blocks the sample.
    pub(crate) combinations: usize,
    /// The mean of the logits ln(ω / (1 - ω)) of the relative rank ω out of sample; 0 is the median.
    pub(crate) mean_logit: f64,
    /// The probability that the best in sample has a negative Sharpe ratio out of sample.
    pub(crate) probability_of_loss: f64,
    /// How the result out of sample depends on that in sample; null if the latter is always the same.
    pub(crate) degradation: Option<Degradation>,
}

/// The line by least squares through the Sharpe ratios of the best: out of sample over in sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Degradation {
    /// Change out of sample for a change of 1 in sample. Negative: the better in sample, the worse out of sample.
    pub(crate) slope: f64,
    /// Out of sample for 0 in sample.
    pub(crate) intercept: f64,
    /// Share of the variance that the line explains, from 0 to 1.
    pub(crate) r_squared: f64,
}

/// Count, mean and sum of squared deviations of one block of one strategy.
#[derive(Debug, Clone, Copy)]
struct Block {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Block {
    fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        // By the shift, equal values have a variance of exactly 0.
        let first = values.first().copied().unwrap_or_default();
        let shift = values.iter().map(|value| value - first).sum::<f64>() / count;
        Self {
            count,
            mean: first + shift,
            squares: values
                .iter()
                .map(|value| (value - first - shift).powi(2))
                .sum(),
        }
    }
}

/// The Sharpe ratio of some returns, mean over standard deviation with n - 1, from the blocks that hold them. Returns that do
/// not vary have none, and count as 0 like those of a strategy that did not trade.
fn ratio<'a>(blocks: impl Iterator<Item = &'a Block> + Clone) -> f64 {
    let count: f64 = blocks.clone().map(|it| it.count).sum();
    let mean = blocks.clone().map(|it| it.count * it.mean).sum::<f64>() / count;
    let size = blocks.clone().map(|it| it.mean.abs()).fold(0.0, f64::max);
    let squares: f64 = blocks
        .map(|it| it.squares + it.count * (it.mean - mean).powi(2))
        .sum();
    let sd = (squares / (count - 1.0)).sqrt();
    if sd <= ROUNDING * size {
        0.0
    } else {
        mean / sd
    }
}

/// The Sharpe ratio of returns by the rule that comparing strategies needs: 0 where there is none.
pub(crate) fn comparable_ratio(returns: &[f64]) -> f64 {
    if returns.len() < MIN_BLOCK {
        return 0.0;
    }
    ratio(std::iter::once(&Block::of(returns)))
}

/// The position of the largest value, of equal ones the first. 0 of an empty list.
pub(crate) fn best(values: &[f64]) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (index, value) in values.iter().enumerate() {
        if *value > best.1 {
            best = (index, *value);
        }
    }
    best.0
}

/// The probability of backtest overfitting of strategies by their returns, a column each, over the same dates.
///
/// The rows are cut into `splits` blocks of equal length. For each choice of half of the blocks, the strategy with the
/// highest Sharpe ratio in them is looked up in the other half: ω = rank / (N + 1) with 1 for the worst and the mean rank
/// for equal ones, λ = ln(ω / (1 - ω)). The probability is the share of the choices with λ ≤ 0.
///
/// # Errors
/// [`Undefined::TooFew`] for fewer than 2 strategies or 2 rows a block, [`Undefined::NotFinite`], and
/// [`Undefined::OutOfRange`] for an odd number of blocks or one outside of 2 to [`MAX_SPLITS`], columns of different lengths,
/// or more than 200 of them.
pub(crate) fn overfitting(columns: &[Vec<f64>], splits: u32) -> Result<Overfitting, Undefined> {
    let blocks = split(columns, splits)?;
    let block_rows = columns.first().map_or(0, Vec::len) / splits as usize;
    let chosen = |column: &Vec<Block>, mask: u32| {
        let inside = (0u32..)
            .zip(column)
            .filter(move |(block, _)| mask >> block & 1 == 1);
        ratio(inside.map(|(_, block)| block))
    };
    let every = (1u32 << splits) - 1;
    let masks = (0..=every).filter(|mask| mask.count_ones() == splits / 2);
    // The result of the best in sample: in it, and out of it.
    let mut pairs = Vec::new();
    let (mut overfitted, mut losses, mut logits) = (0usize, 0usize, 0.0);
    for mask in masks {
        let inside: Vec<f64> = blocks.iter().map(|it| chosen(it, mask)).collect();
        let outside: Vec<f64> = blocks.iter().map(|it| chosen(it, every ^ mask)).collect();
        let winner = best(&inside);
        let (Some(before), Some(after)) = (inside.get(winner), outside.get(winner)) else {
            continue;
        };
        let logit = logit(&outside, *after);
        overfitted += usize::from(logit <= 0.0);
        losses += usize::from(*after < 0.0);
        logits += logit;
        pairs.push((*before, *after));
    }
    let combinations = pairs.len() as f64;
    Ok(Overfitting {
        probability: finite(overfitted as f64 / combinations)?,
        strategies: blocks.len(),
        observations: block_rows * splits as usize,
        splits,
        combinations: pairs.len(),
        mean_logit: finite(logits / combinations)?,
        probability_of_loss: losses as f64 / combinations,
        degradation: degradation(&pairs),
    })
}

/// The blocks of each column, after the checks.
fn split(columns: &[Vec<f64>], splits: u32) -> Result<Vec<Vec<Block>>, Undefined> {
    if !(2..=MAX_SPLITS).contains(&splits) || !splits.is_multiple_of(2) {
        return Err(Undefined::OutOfRange(
            "the number of blocks has to be even and from 2 to 16",
        ));
    }
    let rows = columns.first().map_or(0, Vec::len);
    let too_few = |what, needed, given| Undefined::TooFew {
        what,
        needed,
        given,
    };
    if columns.len() < 2 {
        return Err(too_few("strategies", 2, columns.len()));
    }
    if columns.len() > MAX_STRATEGIES {
        return Err(Undefined::OutOfRange("at most 200 strategies are compared"));
    }
    if columns.iter().any(|column| column.len() != rows) {
        return Err(Undefined::OutOfRange(
            "the strategies have to have the same dates",
        ));
    }
    let splits = splits as usize;
    let block_rows = rows / splits;
    if block_rows < MIN_BLOCK {
        return Err(too_few("observations", MIN_BLOCK * splits, rows));
    }
    let used = |column: &Vec<f64>| {
        check(column, "observations", 0)?;
        let (_, recent) = column.split_at(rows % splits);
        Ok(recent.chunks_exact(block_rows).map(Block::of).collect())
    };
    columns.iter().map(used).collect()
}

/// ln(ω / (1 - ω)) of the relative rank ω of a value among all.
fn logit(all: &[f64], value: f64) -> f64 {
    let below = all.iter().filter(|other| **other < value).count() as f64;
    let equal = all.iter().filter(|other| **other == value).count() as f64;
    let rank = below + f64::midpoint(equal, 1.0);
    let relative = rank / (all.len() as f64 + 1.0);
    (relative / (1.0 - relative)).ln()
}

/// The line by least squares; `None` if all x are equal.
fn degradation(pairs: &[(f64, f64)]) -> Option<Degradation> {
    let count = pairs.len() as f64;
    let mean_x = pairs.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = pairs.iter().map(|(_, y)| y).sum::<f64>() / count;
    let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in pairs {
        let (x, y) = (x - mean_x, y - mean_y);
        xx += x * x;
        xy += x * y;
        yy += y * y;
    }
    let spread = (xx / count).sqrt();
    if spread <= ROUNDING * mean_x.abs() {
        return None;
    }
    let slope = xy / xx;
    let r_squared = if yy > 0.0 { xy * xy / (xx * yy) } else { 1.0 };
    let line = Degradation {
        slope,
        intercept: mean_y - slope * mean_x,
        r_squared,
    };
    [line.slope, line.intercept, line.r_squared]
        .iter()
        .all(|it| it.is_finite())
        .then_some(line)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::robustness::reference::noise;

    // The paper's figures come from simulations whose draws it does not give. What can be derived exactly is tested instead:
    // its two limits, pure noise and a strategy that is better in every block.

    #[test]
    fn a_strategy_that_always_wins_is_not_overfitted() {
        let mut columns: Vec<Vec<f64>> = (1..8).map(|seed| noise(seed, 240)).collect();
        columns.push(noise(9, 240).iter().map(|value| value + 5.0).collect());
        let found = overfitting(&columns, 16).unwrap();
        assert_eq!((found.probability, found.probability_of_loss), (0.0, 0.0));
        assert_eq!((found.combinations, found.observations), (12_870, 240));
        assert!((found.mean_logit - 8f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn among_noise_the_best_is_as_often_below_the_median_as_above() {
        let trials = 60;
        let mean = (0..trials)
            .map(|trial| {
                let columns: Vec<Vec<f64>> = (0..10)
                    .map(|column| noise(1_000 + 10 * trial + column, 160))
                    .collect();
                overfitting(&columns, 8).unwrap().probability
            })
            .sum::<f64>()
            / trials as f64;
        assert!((mean - 0.5).abs() < 0.08, "{mean}");
    }

    #[test]
    fn a_strategy_that_wins_in_one_half_alone_is_overfitted() {
        // With two blocks, each half's best is the other half's worst.
        let columns = vec![
            vec![0.03, 0.05, -0.03, -0.05],
            vec![-0.03, -0.05, 0.03, 0.05],
        ];
        let found = overfitting(&columns, 2).unwrap();
        assert_eq!((found.probability, found.probability_of_loss), (1.0, 1.0));
        assert_eq!(found.combinations, 2);
        assert_eq!(found.degradation, None);
    }

    #[test]
    fn strategies_that_never_trade_tie_at_the_median() {
        let columns = vec![vec![0.0; 8]; 3];
        let found = overfitting(&columns, 4).unwrap();
        assert_eq!((found.probability, found.mean_logit), (1.0, 0.0));
        assert_eq!(comparable_ratio(&[0.001; 9]), 0.0);
        assert_eq!(comparable_ratio(&[0.001]), 0.0);
        assert_eq!(
            ratio([Block::of(&[0.1; 3]), Block::of(&[0.1; 7])].iter()),
            0.0
        );
    }

    #[test]
    fn what_has_no_value_says_why() {
        let good = vec![vec![0.1, 0.2, 0.3, 0.1]; 2];
        for (columns, splits, reason) in [
            (vec![], 2, "at least 2 strategies, and there are 0"),
            (
                vec![vec![0.1; 4]],
                2,
                "at least 2 strategies, and there are 1",
            ),
            (
                vec![vec![]; 2],
                2,
                "at least 4 observations, and there are 0",
            ),
            (good.clone(), 4, "at least 8 observations, and there are 4"),
            (good.clone(), 3, "even and from 2 to 16"),
            (good.clone(), 0, "even and from 2 to 16"),
            (good.clone(), 18, "even and from 2 to 16"),
            (vec![vec![0.1; 4], vec![0.1; 5]], 2, "the same dates"),
            (vec![vec![0.1; 4], vec![f64::NAN; 4]], 2, "not finite"),
            (vec![vec![0.1; 4]; 201], 2, "at most 200 strategies"),
        ] {
            let error = overfitting(&columns, splits).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    proptest! {
        #[test]
        fn the_order_of_the_strategies_does_not_matter(seed in 0u64..1_000, splits in 1u32..4) {
            let mut columns: Vec<Vec<f64>> = (0..6).map(|column| noise(seed * 7 + column, 60)).collect();
            let before = overfitting(&columns, 2 * splits).unwrap();
            columns.reverse();
            let after = overfitting(&columns, 2 * splits).unwrap();
            prop_assert_eq!(before.probability, after.probability);
            prop_assert!((0.0..=1.0).contains(&before.probability));
            prop_assert!((before.mean_logit - after.mean_logit).abs() < 1e-9);
        }

        #[test]
        fn any_columns_have_finite_figures_or_none(
            columns in proptest::collection::vec(proptest::collection::vec(proptest::num::f64::ANY, 9), 0..4), splits in 0u32..20,
        ) {
            if let Ok(found) = overfitting(&columns, splits) {
                prop_assert!(found.mean_logit.is_finite() && (0.0..=1.0).contains(&found.probability));
            }
        }
    }
}
