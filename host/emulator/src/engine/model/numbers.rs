//! The estimators that the statistics use, and their text forms.
//!
//! Invariant: every function gives a finite number, 0 where there is too little to estimate.

use crate::text::{clock_text, grouped};

/// Trading days a year.
pub(super) const DAYS_PER_YEAR: f64 = 252.0;

/// A length as a float.
pub(super) fn count(length: usize) -> f64 {
    u32::try_from(length).map_or(f64::from(u32::MAX), f64::from)
}

/// The value, or 0 if it is not finite.
pub(super) fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}

/// `a / b`, or 0 if that is not finite.
pub(super) fn ratio(a: f64, b: f64) -> f64 {
    finite(a / b)
}

pub(super) fn mean(values: &[f64]) -> f64 {
    ratio(values.iter().sum(), count(values.len()))
}

/// The sample covariance (divided by n - 1).
pub(super) fn covariance(a: &[f64], b: &[f64]) -> f64 {
    let (mean_a, mean_b) = (mean(a), mean(b));
    let products = a.iter().zip(b).map(|(a, b)| (a - mean_a) * (b - mean_b));
    ratio(products.sum(), count(a.len()) - 1.0)
}

/// The sample variance.
pub(super) fn variance(values: &[f64]) -> f64 {
    if values.len() < 2 {
        0.0
    } else {
        covariance(values, values)
    }
}

/// The sample standard deviation.
pub(super) fn deviation(values: &[f64]) -> f64 {
    libm::sqrt(variance(values))
}

/// The values' deviations from their mean, in standard deviations.
fn standardised(values: &[f64]) -> impl Iterator<Item = f64> {
    let (mean, deviation) = (mean(values), deviation(values));
    values
        .iter()
        .map(move |value| ratio(value - mean, deviation))
}

/// The adjusted Fisher–Pearson skewness; needs three values.
pub(super) fn skewness(values: &[f64]) -> Option<f64> {
    let n = count(values.len());
    (n >= 3.0).then(|| {
        let cubes: f64 = standardised(values).map(|z| z * z * z).sum();
        n / ((n - 1.0) * (n - 2.0)) * cubes
    })
}

/// The unbiased excess kurtosis; needs four values.
pub(super) fn kurtosis(values: &[f64]) -> Option<f64> {
    let n = count(values.len());
    (n >= 4.0).then(|| {
        let factor = n * (n + 1.0) / ((n - 1.0) * (n - 2.0) * (n - 3.0));
        let correction = 3.0 * (n - 1.0) * (n - 1.0) / ((n - 2.0) * (n - 3.0));
        let fourths: f64 = standardised(values).map(|z| z * z * z * z).sum();
        factor * fourths - correction
    })
}

/// The standard normal distribution function.
pub(super) fn normal_cdf(z: f64) -> f64 {
    0.5 * libm::erfc(-z / std::f64::consts::SQRT_2)
}

/// The median of values in any order.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    // Of an odd number of values, both are the one in the middle.
    let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
    (at(sorted.len().saturating_sub(1) / 2) + at(sorted.len() / 2)) / 2.0
}

/// Rounded to a number of decimals, without a negative zero.
pub(super) fn rounded(value: f64, decimals: i32) -> f64 {
    let unit = libm::pow(10.0, f64::from(decimals));
    finite(libm::round(value * unit) / unit) + 0.0
}

/// A plain number such as `0.731`, without trailing zeros.
pub(super) fn plain(value: f64) -> String {
    format!("{}", rounded(value, 3))
}

/// A fraction as a percentage with fixed decimals, such as `12.300%`.
pub(super) fn percent(fraction: f64, decimals: usize) -> String {
    let scale = i32::try_from(decimals).unwrap_or(0);
    format!("{:.decimals$}%", rounded(fraction * 100.0, scale))
}

/// US dollars with cents and thousands separators, such as `$112,300.00` or `-$4.20`.
pub(super) fn dollars(amount: f64) -> String {
    let amount = rounded(amount, 2);
    let sign = if amount < 0.0 { "-" } else { "" };
    format!("{sign}${}", grouped(amount))
}

/// A ratio in JSON: six decimals.
pub(super) fn number(value: f64) -> f64 {
    rounded(value, 6)
}

/// An amount of money in JSON: four decimals.
pub(super) fn money(value: f64) -> f64 {
    rounded(value, 4)
}

/// Whole seconds as a float.
pub(super) fn seconds(seconds: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "decades have 1e9 seconds")]
    let seconds = seconds as f64;
    seconds
}

/// Seconds as .NET writes a time span: `12.06:30:00`, `06:30:00`.
pub(super) fn span(seconds: f64) -> String {
    let total = whole(libm::round(seconds)).and_then(|total| u64::try_from(total).ok());
    let total = total.unwrap_or(0);
    match total / 86_400 {
        0 => clock_text(total),
        days => format!("{days}.{}", clock_text(total)),
    }
}

/// A float as Python prints it; a whole one has `.0`. Exponents differ from Python's.
pub(super) fn display_float(value: f64) -> String {
    if value.is_nan() {
        "nan".to_owned()
    } else {
        format!("{value:?}")
    }
}

/// A whole number from a float, where it fits: what is not finite is written in letters.
pub(super) fn whole(value: f64) -> Option<i64> {
    format!("{:.0}", libm::trunc(value)).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimators_give_textbook_values() {
        let values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        assert_eq!(mean(&values), 5.0);
        assert!((variance(&values) - 32.0 / 7.0).abs() < 1e-12);
        // As spreadsheets compute SKEW and KURT.
        assert!((skewness(&values).unwrap_or(0.0) - 0.818_487_553).abs() < 1e-6);
        assert!((kurtosis(&values).unwrap_or(0.0) - 0.940_625).abs() < 1e-6);
        assert!((normal_cdf(1.644_853_626_951_472_2) - 0.95).abs() < 1e-12);
        assert_eq!(median(&values), 4.5);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    }

    #[test]
    fn too_little_to_estimate_is_zero_and_never_not_a_number() {
        assert_eq!(mean(&[]), 0.0);
        assert_eq!(variance(&[1.0]), 0.0);
        assert_eq!(skewness(&[1.0, 1.0, 1.0]), Some(0.0));
        assert_eq!(median(&[]), 0.0);
        assert_eq!(ratio(1.0, 0.0), 0.0);
    }

    #[test]
    fn texts_have_the_form_of_the_cloud() {
        assert_eq!(percent(0.123, 3), "12.300%");
        assert_eq!(percent(-0.000_001, 2), "0.00%");
        assert_eq!(plain(0.7312), "0.731");
        assert_eq!(plain(2.0), "2");
        assert_eq!(dollars(1_234_567.891), "$1,234,567.89");
        assert_eq!(dollars(-42.0), "-$42.00");
        assert_eq!(dollars(0.0), "$0.00");
    }
}
