//! What the closed trades would have given in another order, and drawn again.
//!
//! A permutation keeps the trades and shuffles them: the profit stays, the drawdown changes. A bootstrap draws as many trades
//! with replacement: both change.
//!
//! Invariant: a seed gives the same sequences on every machine: the generator is PCG32 (M. E. O'Neill, PCG: A Family of
//! Simple Fast Space-Efficient Statistically Good Algorithms, 2014), XSH RR 64/32, with the seed as its state.

use rand_pcg::Pcg32;
use rand_pcg::rand_core::Rng;
use schemars::JsonSchema;
use serde::Serialize;

use super::undefined::{Undefined, check, finite};

/// Streams of the generator: the sequences of the two methods are independent of each other.
const PERMUTATION_STREAM: u64 = 1;
const BOOTSTRAP_STREAM: u64 = 2;
/// The least number of trades that can be reordered.
const MIN_TRADES: usize = 2;

/// What the runs gave.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct MonteCarlo {
    /// How many runs there were.
    pub(crate) runs: usize,
    /// The largest fall from a peak, as a fraction of it: above 1 where the losses exceed it.
    pub(crate) drawdown: Quantiles,
    /// Sum of the profits, in the account's currency.
    pub(crate) profit: Quantiles,
    /// The share of the runs that end with a loss, from 0 to 1.
    pub(crate) share_of_losses: f64,
    /// The share of the runs in which the equity falls to 0 or below, from 0 to 1.
    pub(crate) share_of_ruins: f64,
}

/// Quantiles, interpolated linearly between the values in order: the value at position q·(n - 1), as NumPy's default does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Quantiles {
    /// Of 1 % of the runs this is not exceeded.
    pub(crate) q01: f64,
    /// Of 5 %.
    pub(crate) q05: f64,
    /// Of 25 %.
    pub(crate) q25: f64,
    /// Of half of them: the median.
    pub(crate) q50: f64,
    /// Of 75 %.
    pub(crate) q75: f64,
    /// Of 95 %.
    pub(crate) q95: f64,
    /// Of 99 %.
    pub(crate) q99: f64,
}

/// One sequence of trades.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Path {
    drawdown: f64,
    profit: f64,
    ruined: bool,
}

/// Runs the trades in each order of `sequences`, from an equity of `start`. Profits are amounts, and are not compounded.
///
/// # Errors
/// [`Undefined::TooFew`] for fewer than 2 trades or no sequence, [`Undefined::NotFinite`], and [`Undefined::OutOfRange`] for a
/// start that is not above 0 or an index that no trade has.
pub(crate) fn run(
    profits: &[f64],
    start: f64,
    sequences: impl Iterator<Item = Vec<usize>>,
) -> Result<MonteCarlo, Undefined> {
    check(profits, "trades", MIN_TRADES)?;
    if finite(start)? <= 0.0 {
        return Err(Undefined::OutOfRange(
            "the equity at the start has to be above 0",
        ));
    }
    let (mut drawdowns, mut sums, mut ruins) = (Vec::new(), Vec::new(), 0usize);
    for sequence in sequences {
        let ordered: Option<Vec<f64>> = sequence
            .iter()
            .map(|it| profits.get(*it).copied())
            .collect();
        let ordered = ordered.ok_or(Undefined::OutOfRange(
            "a sequence names a trade that is not there",
        ))?;
        let path = path(start, &ordered);
        drawdowns.push(path.drawdown);
        sums.push(path.profit);
        ruins += usize::from(path.ruined);
    }
    check(&drawdowns, "runs", 1)?;
    check(&sums, "runs", 1)?;
    let runs = sums.len() as f64;
    let losses = sums.iter().filter(|sum| **sum < 0.0).count();
    Ok(MonteCarlo {
        runs: sums.len(),
        drawdown: quantiles(drawdowns)?,
        profit: quantiles(sums)?,
        share_of_losses: losses as f64 / runs,
        share_of_ruins: ruins as f64 / runs,
    })
}

/// The largest fall from a peak of the equity after each trade, as a fraction of the peak; 0 for a start that is not above 0.
pub(crate) fn drawdown(start: f64, profits: &[f64]) -> f64 {
    path(start, profits).drawdown
}

fn path(start: f64, profits: &[f64]) -> Path {
    let (mut sum, mut peak, mut drawdown, mut ruined) = (0.0, start, 0.0f64, false);
    for profit in profits {
        sum += profit;
        let equity = start + sum;
        peak = equity.max(peak);
        if peak > 0.0 {
            drawdown = drawdown.max((peak - equity) / peak);
        }
        ruined |= equity <= 0.0;
    }
    Path {
        drawdown,
        profit: sum,
        ruined,
    }
}

fn quantiles(mut values: Vec<f64>) -> Result<Quantiles, Undefined> {
    values.sort_by(f64::total_cmp);
    let at = |q| quantile(&values, q).ok_or(Undefined::NotFinite);
    Ok(Quantiles {
        q01: at(0.01)?,
        q05: at(0.05)?,
        q25: at(0.25)?,
        q50: at(0.5)?,
        q75: at(0.75)?,
        q95: at(0.95)?,
        q99: at(0.99)?,
    })
}

/// The quantile `q` of values in ascending order: with h = q·(n - 1), xₗ + (h - l)·(xₗ₊₁ - xₗ) for l = ⌊h⌋. That is method 7
/// of Hyndman and Fan, and NumPy's default. `None` without values or for a `q` outside of 0 to 1.
pub(crate) fn quantile(ascending: &[f64], q: f64) -> Option<f64> {
    if !(0.0..=1.0).contains(&q) {
        return None;
    }
    let last = ascending.last()?;
    let position = q * (ascending.len() as f64 - 1.0);
    let lower = position.floor();
    let mut from = ascending
        .iter()
        .zip(0u32..)
        .skip_while(|(_, at)| f64::from(*at) < lower);
    let (value, _) = from.next()?;
    let next = from.next().map_or(*last, |(next, _)| *next);
    Some(value + (position - lower) * (next - value))
}

/// Sequences that have each of `length` indices once: Fisher and Yates' shuffle from the last index down.
pub(crate) fn permutations(
    seed: u64,
    length: usize,
    runs: usize,
) -> impl Iterator<Item = Vec<usize>> {
    let mut generator = Pcg32::new(seed, PERMUTATION_STREAM);
    (0..runs).map(move |_| {
        let mut order: Vec<usize> = (0..length).collect();
        for at in (1..length).rev() {
            order.swap(at, below(&mut generator, at + 1));
        }
        order
    })
}

/// Sequences of `length` indices, each drawn from all.
pub(crate) fn bootstraps(
    seed: u64,
    length: usize,
    runs: usize,
) -> impl Iterator<Item = Vec<usize>> {
    let mut generator = Pcg32::new(seed, BOOTSTRAP_STREAM);
    (0..runs).map(move |_| (0..length).map(|_| below(&mut generator, length)).collect())
}

/// A number below `bound`, all equally likely: the upper half of draw·bound, without the draws that would favour some
/// (D. Lemire, Fast Random Integer Generation in an Interval, 2019). 0 for a bound that is 0 or needs more than 32 bits.
pub(crate) fn below(generator: &mut Pcg32, bound: usize) -> usize {
    let Ok(bound @ 1..) = u32::try_from(bound) else {
        return 0;
    };
    let threshold = u64::from(bound.wrapping_neg() % bound);
    loop {
        let product = u64::from(generator.next_u32()) * u64::from(bound);
        if product & u64::from(u32::MAX) >= threshold {
            return usize::try_from(product >> 32).unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_generator_is_the_published_one() {
        // The first outputs of the demonstration of the PCG library, seed 42 and stream 54.
        let mut generator = Pcg32::new(42, 54);
        let first: Vec<u32> = (0..6).map(|_| generator.next_u32()).collect();
        assert_eq!(
            first,
            [
                0xa15c_02b7,
                0x7b47_f409,
                0xba1d_3330,
                0x83d2_f293,
                0xbfa4_784b,
                0xcbed_606e
            ]
        );
    }

    #[test]
    fn a_path_is_what_a_hand_computes() {
        let found = path(100.0, &[10.0, -22.0, 33.0, -121.0]);
        assert_eq!((found.profit, found.ruined), (-100.0, true));
        assert_eq!(found.drawdown, 1.0);
        assert_eq!(drawdown(100.0, &[10.0, -22.0, 33.0]), 0.2);
        assert_eq!(drawdown(100.0, &[]), 0.0);
    }

    #[test]
    fn quantiles_are_interpolated() {
        let values = [1.0, 2.0, 4.0];
        for (q, value) in [(0.0, 1.0), (0.25, 1.5), (0.5, 2.0), (0.75, 3.0), (1.0, 4.0)] {
            assert_eq!(quantile(&values, q), Some(value));
        }
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&values, 1.5), None);
        assert_eq!(quantile(&values, f64::NAN), None);
    }

    #[test]
    fn what_has_no_value_says_why() {
        let sequence = || std::iter::once(vec![0, 1]);
        for (found, reason) in [
            (
                run(&[1.0], 100.0, sequence()),
                "at least 2 trades, and there are 1",
            ),
            (run(&[1.0, f64::NAN], 100.0, sequence()), "not finite"),
            (run(&[1.0, 2.0], 0.0, sequence()), "above 0"),
            (run(&[1.0, 2.0], f64::NAN, sequence()), "not finite"),
            (
                run(&[1.0, 2.0], 100.0, std::iter::once(vec![0, 2])),
                "not there",
            ),
            (
                run(&[1.0, 2.0], 100.0, std::iter::empty()),
                "at least 1 runs",
            ),
            (run(&[f64::MAX, f64::MAX], 100.0, sequence()), "not finite"),
        ] {
            let error = found.unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert!(permutations(1, 0, 2).all(|it| it.is_empty()));
        assert!(bootstraps(1, 0, 2).all(|it| it.is_empty()));
    }

    #[test]
    fn every_index_is_drawn_about_equally_often() {
        let mut counts = [0; 7];
        for index in bootstraps(3, 7, 10_000).flatten() {
            counts[index] += 1;
        }
        assert!(
            counts.iter().all(|count| (9_600..10_400).contains(count)),
            "{counts:?}"
        );
    }

    proptest! {
        #[test]
        fn a_shuffle_changes_the_order_alone(seed in proptest::num::u64::ANY, length in 2usize..60) {
            let all: Vec<usize> = (0..length).collect();
            for mut order in permutations(seed, length, 5) {
                order.sort_unstable();
                prop_assert_eq!(&order, &all);
            }
            let again: Vec<_> = permutations(seed, length, 5).collect();
            prop_assert_eq!(permutations(seed, length, 5).collect::<Vec<_>>(), again);
        }

        #[test]
        fn quantiles_rise_and_stay_among_the_values(
            profits in proptest::collection::vec(-50.0..50.0f64, 2..30), seed in proptest::num::u64::ANY,
        ) {
            let length = profits.len();
            let found = run(&profits, 1_000.0, bootstraps(seed, length, 40)).unwrap();
            let Quantiles { q01, q05, q25, q50, q75, q95, q99 } = found.drawdown;
            prop_assert!([q01, q05, q25, q50, q75, q95, q99].is_sorted());
            prop_assert!(q01 >= 0.0);
            let shuffled = run(&profits, 1_000.0, permutations(seed, length, 40)).unwrap();
            prop_assert!((shuffled.profit.q99 - shuffled.profit.q01).abs() < 1e-9);
        }
    }
}
