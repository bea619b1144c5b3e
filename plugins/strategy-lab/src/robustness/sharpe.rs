//! How likely a Sharpe ratio is skill: the probabilistic and the deflated Sharpe ratio.
//!
//! Invariant: all ratios here are per observation, not annual; an annual one is divided by the square root of the
//! observations in a year before it comes here.
//!
//! Sources: D. H. Bailey, M. López de Prado, The Sharpe Ratio Efficient Frontier, Journal of Risk 15 (2012); The Deflated
//! Sharpe Ratio: Correcting for Selection Bias, Backtest Overfitting and Non-Normality, Journal of Portfolio
//! Management 40 (2014).

use std::f64::consts::E;

use super::moments::Moments;
use super::normal;
use super::undefined::{Undefined, finite};

/// The Euler-Mascheroni constant γ.
const EULER_MASCHERONI: f64 = 0.577_215_664_901_532_9;

/// A measured Sharpe ratio with the form of the returns behind it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sharpe {
    /// Mean over standard deviation of the returns in excess of the risk-free rate, per observation.
    pub(crate) ratio: f64,
    /// Number of returns, T.
    pub(crate) observations: usize,
    /// Skewness of the returns, γ₃.
    pub(crate) skewness: f64,
    /// Kurtosis of the returns, γ₄: 3 for normal ones.
    pub(crate) kurtosis: f64,
}

impl Sharpe {
    /// The ratio of returns that are already in excess of the risk-free rate.
    pub(crate) fn of(returns: &Moments) -> Self {
        Self {
            ratio: returns.mean / returns.sd,
            observations: returns.count,
            skewness: returns.skewness,
            kurtosis: returns.kurtosis,
        }
    }

    /// The variance of the estimated ratio times T - 1: 1 - γ₃·SR + (γ₄ - 1)/4·SR². Above 0 for the moments of any sample
    /// but one of two values.
    fn scaled_variance(&self) -> Result<f64, Undefined> {
        let variance = 1.0 - self.skewness * self.ratio
            + (self.kurtosis - 1.0) / 4.0 * self.ratio * self.ratio;
        if finite(variance)? > 0.0 {
            Ok(variance)
        } else {
            Err(Undefined::OutOfRange(
                "no returns have this skewness with this kurtosis and this Sharpe ratio",
            ))
        }
    }

    /// The probability that the true ratio is above `benchmark`:
    /// PSR(SR*) = Φ[(SR - SR*)·√(T - 1) / √(1 - γ₃·SR + (γ₄ - 1)/4·SR²)] (2012, section 3; 2014 uses the same).
    ///
    /// # Errors
    /// [`Undefined::TooFew`] for fewer than 2 observations, [`Undefined::NotFinite`], and [`Undefined::OutOfRange`] for
    /// moments that no sample has.
    pub(crate) fn probabilistic(&self, benchmark: f64) -> Result<f64, Undefined> {
        if self.observations < 2 {
            return Err(Undefined::TooFew {
                what: "observations",
                needed: 2,
                given: self.observations,
            });
        }
        let root = (self.observations as f64 - 1.0).sqrt();
        let score = (self.ratio - benchmark) * root / self.scaled_variance()?.sqrt();
        finite(normal::cdf(finite(score)?))
    }

    /// The number of observations from which on the probability that the true ratio is above `benchmark` is `confidence`:
    /// MinTRL = 1 + (1 - γ₃·SR + (γ₄ - 1)/4·SR²)·(Φ⁻¹(confidence) / (SR - SR*))² (2012, on the length of a track record).
    ///
    /// # Errors
    /// [`Undefined::OutOfRange`] if the ratio is not above the benchmark, since then no length is enough, or for a
    /// confidence outside of 0.5 to 1; otherwise as [`Self::probabilistic`].
    pub(crate) fn minimum_track_record(
        &self,
        benchmark: f64,
        confidence: f64,
    ) -> Result<f64, Undefined> {
        if !(0.5..1.0).contains(&confidence) {
            return Err(Undefined::OutOfRange(
                "the confidence has to be from 0.5 to below 1",
            ));
        }
        let margin = finite(self.ratio - benchmark)?;
        if margin <= 0.0 {
            return Err(Undefined::OutOfRange(
                "no track record is long enough for a Sharpe ratio that is not above its benchmark",
            ));
        }
        let score = normal::quantile(confidence) / margin;
        finite(1.0 + self.scaled_variance()? * score * score)
    }

    /// The deflated Sharpe ratio: the probability that the true ratio is above the largest one that `trials` without
    /// any skill would show, DSR = PSR(SR₀) with SR₀ from [`expected_maximum`] (2014, the definition of DSR).
    ///
    /// # Errors
    /// As [`Self::probabilistic`] and [`expected_maximum`].
    pub(crate) fn deflated(&self, trials: u32, variance: f64) -> Result<f64, Undefined> {
        self.probabilistic(expected_maximum(trials, variance)?)
    }
}

/// The largest Sharpe ratio to expect of independent trials whose true ratio is 0, by the variance V of their ratios:
/// SR₀ = √V·((1 - γ)·Φ⁻¹[1 - 1/N] + γ·Φ⁻¹[1 - 1/(N·e)]) (2014, the expected maximum with a mean of 0).
///
/// One trial was not selected from anything: 0. Trials that resemble each other count fully, so the result errs on the
/// strict side.
///
/// # Errors
/// [`Undefined::OutOfRange`] for no trials or a negative variance, [`Undefined::NotFinite`] for one that is not finite.
pub(crate) fn expected_maximum(trials: u32, variance: f64) -> Result<f64, Undefined> {
    if trials == 0 {
        return Err(Undefined::OutOfRange("there has to be a trial at least"));
    }
    if finite(variance)? < 0.0 {
        return Err(Undefined::OutOfRange("a variance is not negative"));
    }
    if trials == 1 {
        return Ok(0.0);
    }
    let share = 1.0 / f64::from(trials);
    // Of the exact tail, since 1 - 1/N has few digits for a large N.
    let upper = |tail: f64| -normal::quantile(tail);
    let maximum = (1.0 - EULER_MASCHERONI) * upper(share) + EULER_MASCHERONI * upper(share / E);
    finite(variance.sqrt() * maximum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The numerical example of Bailey and López de Prado (2014): an annual ratio of 2.5 from 1250 daily returns, 250 a year.
    fn example(skewness: f64, kurtosis: f64) -> Sharpe {
        Sharpe {
            ratio: 2.5 / 250f64.sqrt(),
            observations: 1250,
            skewness,
            kurtosis,
        }
    }

    /// Its variance of the annual ratios of the trials, 1/2, for a day.
    const VARIANCE: f64 = 0.5 / 250.0;

    fn rounded(value: Result<f64, Undefined>) -> f64 {
        (value.unwrap() * 1e4).round() / 1e4
    }

    #[test]
    fn the_published_example_is_met() {
        let strategy = example(-3.0, 10.0);
        assert_eq!(rounded(expected_maximum(100, VARIANCE)), 0.1132);
        assert_eq!(rounded(strategy.deflated(100, VARIANCE)), 0.9004);
        assert_eq!(rounded(strategy.deflated(46, VARIANCE)), 0.9505);
        // With normal returns, 88 trials are as many as 46 are with these.
        assert_eq!(rounded(example(0.0, 3.0).deflated(88, VARIANCE)), 0.9505);
    }

    #[test]
    fn one_trial_is_not_deflated() {
        let strategy = example(0.0, 3.0);
        assert_eq!(strategy.deflated(1, VARIANCE), strategy.probabilistic(0.0));
        assert_eq!(expected_maximum(1, VARIANCE), Ok(0.0));
    }

    #[test]
    fn what_has_no_value_says_why() {
        let strategy = example(0.0, 3.0);
        let short = Sharpe {
            observations: 1,
            ..strategy
        };
        let odd = example(30.0, 3.0);
        let nan = Sharpe {
            ratio: f64::NAN,
            ..strategy
        };
        for (value, reason) in [
            (
                short.probabilistic(0.0),
                "it needs at least 2 observations, and there are 1",
            ),
            (odd.probabilistic(0.0), "no returns have this skewness"),
            (nan.probabilistic(0.0), "not finite"),
            (strategy.probabilistic(f64::INFINITY), "not finite"),
            (strategy.deflated(0, VARIANCE), "there has to be a trial"),
            (strategy.deflated(5, -1.0), "not negative"),
            (strategy.deflated(5, f64::NAN), "not finite"),
            (
                strategy.minimum_track_record(1.0, 0.95),
                "no track record is long enough",
            ),
            (
                strategy.minimum_track_record(0.0, 1.0),
                "from 0.5 to below 1",
            ),
        ] {
            let error = value.unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    proptest! {
        #[test]
        fn more_trials_and_more_variance_never_help(
            trials in 1u32..100_000, more in 0u32..100_000, variance in 0.0..0.1f64, wider in 0.0..0.1f64,
        ) {
            let strategy = example(-1.0, 5.0);
            let before = strategy.deflated(trials, variance).unwrap();
            prop_assert!(strategy.deflated(trials + more, variance + wider).unwrap() <= before + 1e-12);
            prop_assert!((0.0..=1.0).contains(&before));
        }

        #[test]
        fn a_track_record_of_the_minimum_length_has_that_confidence(
            ratio in 0.01..0.5f64, skewness in -1.0..1.0f64, confidence in 0.5..0.999f64,
        ) {
            let strategy = Sharpe { ratio, observations: 2, skewness, kurtosis: 4.0 };
            let length = strategy.minimum_track_record(0.0, confidence).unwrap();
            let score = ratio * (length - 1.0).sqrt() / strategy.scaled_variance().unwrap().sqrt();
            prop_assert!((normal::cdf(score) - confidence).abs() < 1e-9);
        }

        #[test]
        fn no_input_gives_anything_but_a_probability(
            ratio in proptest::num::f64::ANY, skewness in proptest::num::f64::ANY, kurtosis in proptest::num::f64::ANY,
            observations in 0usize..5000, trials in proptest::num::u32::ANY, variance in proptest::num::f64::ANY,
        ) {
            let strategy = Sharpe { ratio, observations, skewness, kurtosis };
            if let Ok(value) = strategy.deflated(trials, variance) {
                prop_assert!((0.0..=1.0).contains(&value));
            }
        }
    }
}
