//! Mean, standard deviation, skewness and kurtosis of a sample.

use super::undefined::{Undefined, check, finite};

/// The least number of observations that has moments.
const MIN_OBSERVATIONS: usize = 2;

/// Moments of a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Moments {
    /// Number of observations, n.
    pub(crate) count: usize,
    /// Arithmetic mean, x̄ = Σx / n.
    pub(crate) mean: f64,
    /// Standard deviation with n - 1 in the denominator, √(Σ(x - x̄)² / (n - 1)); above 0.
    pub(crate) sd: f64,
    /// Skewness g₁ = m₃ / m₂^(3/2) of the central moments mₖ = Σ(x - x̄)ᵏ / n, not corrected for bias; 0 for a normal
    /// distribution.
    pub(crate) skewness: f64,
    /// Kurtosis b₂ = m₄ / m₂², not corrected for bias and not reduced by 3: it is 3 for a normal distribution.
    pub(crate) kurtosis: f64,
}

/// The moments of a sample, in two passes over the differences from its first value.
///
/// # Errors
/// [`Undefined::TooFew`] for fewer than 2 values, [`Undefined::NotFinite`] for a NaN, an infinity or an overflow, and
/// [`Undefined::Constant`] if all values are equal.
pub(crate) fn moments(values: &[f64]) -> Result<Moments, Undefined> {
    check(values, "observations", MIN_OBSERVATIONS)?;
    let first = values.first().copied().unwrap_or_default();
    let count = values.len() as f64;
    // By this shift a sample of equal values has a variance of exactly 0, and a large mean costs no digits.
    let mean = values.iter().map(|value| value - first).sum::<f64>() / count;
    let deviations = || values.iter().map(|value| value - first - mean);
    let squares: f64 = deviations().map(|it| it * it).sum();
    let population_sd = finite((squares / count).sqrt())?;
    if population_sd == 0.0 {
        return Err(Undefined::Constant);
    }
    let standardized = |power: i32| {
        let sum: f64 = deviations()
            .map(|it| (it / population_sd).powi(power))
            .sum();
        finite(sum / count)
    };
    Ok(Moments {
        count: values.len(),
        mean: finite(first + mean)?,
        sd: (squares / (count - 1.0)).sqrt(),
        skewness: standardized(3)?,
        kurtosis: standardized(4)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sample_has_the_moments_that_a_hand_computes() {
        let found = moments(&[1.0, 2.0, 3.0, 6.0]).unwrap();
        assert_eq!((found.count, found.mean), (4, 3.0));
        assert!((found.sd - (14.0f64 / 3.0).sqrt()).abs() < 1e-15);
        assert!((found.skewness - 4.5 / 3.5f64.powf(1.5)).abs() < 1e-15);
        assert!((found.kurtosis - 24.5 / 12.25).abs() < 1e-15);
    }

    #[test]
    fn what_has_no_moments_says_why() {
        for (values, reason) in [
            (&[][..], "it needs at least 2 observations, and there are 0"),
            (&[1.0], "it needs at least 2 observations, and there are 1"),
            (&[0.1; 7], "the values do not vary"),
            (&[1.0, f64::NAN], "a number in it is not finite"),
            (&[1.0, f64::INFINITY], "a number in it is not finite"),
            (&[f64::MAX, -f64::MAX], "a number in it is not finite"),
        ] {
            assert_eq!(moments(values).unwrap_err().to_string(), reason);
        }
    }

    proptest! {
        #[test]
        fn moving_and_scaling_a_sample_leave_its_form(
            values in proptest::collection::vec(-1.0..1.0f64, 3..40), by in -5.0..5.0f64, scale in 0.1..10.0f64,
        ) {
            let other: Vec<f64> = values.iter().map(|value| scale * value + by).collect();
            if let (Ok(a), Ok(b)) = (moments(&values), moments(&other)) && a.sd > 1e-3 {
                prop_assert!((b.mean - (scale * a.mean + by)).abs() < 1e-9);
                prop_assert!((b.sd / a.sd / scale - 1.0).abs() < 1e-9);
                prop_assert!((b.skewness - a.skewness).abs() < 1e-6);
                prop_assert!((b.kurtosis - a.kurtosis).abs() < 1e-6);
                // Pearson's inequality.
                prop_assert!(a.kurtosis >= a.skewness * a.skewness + 1.0 - 1e-9);
            }
        }

        #[test]
        fn any_sample_has_finite_moments_or_none(values in proptest::collection::vec(proptest::num::f64::ANY, 0..12)) {
            if let Ok(found) = moments(&values) {
                prop_assert!([found.mean, found.sd, found.skewness, found.kurtosis].iter().all(|it| it.is_finite()));
                prop_assert!(found.sd > 0.0);
            }
        }
    }
}
