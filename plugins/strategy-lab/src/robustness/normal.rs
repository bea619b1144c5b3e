//! The standard normal distribution.
//!
//! Invariant: neither function fails. Outside of its domain the quantile is NaN, and a NaN stays one.

use std::f64::consts::FRAC_1_SQRT_2;

// Coefficients of AS 241, highest power first: |p - 1/2| <= 0.425, then tails by r = sqrt(-ln p) up to 5 and beyond.
const CENTRAL_NUMERATOR: [f64; 8] = [
    2509.0809287301227,
    33430.57558358813,
    67265.7709270087,
    45921.95393154987,
    13731.69376550946,
    1971.5909503065513,
    133.14166789178438,
    3.3871328727963665,
];
const CENTRAL_DENOMINATOR: [f64; 8] = [
    5226.495278852854,
    28729.085735721943,
    39307.89580009271,
    21213.794301586597,
    5394.196021424751,
    687.1870074920579,
    42.31333070160091,
    1.0,
];
const MIDDLE_NUMERATOR: [f64; 8] = [
    0.0007745450142783414,
    0.022723844989269184,
    0.2417807251774506,
    1.2704582524523684,
    3.6478483247632045,
    5.769497221460691,
    4.630337846156546,
    1.4234371107496835,
];
const MIDDLE_DENOMINATOR: [f64; 8] = [
    1.0507500716444169e-09,
    0.0005475938084995345,
    0.015198666563616457,
    0.14810397642748008,
    0.6897673349851,
    1.6763848301838038,
    2.053191626637759,
    1.0,
];
const TAIL_NUMERATOR: [f64; 8] = [
    2.0103343992922881e-07,
    2.7115555687434876e-05,
    0.0012426609473880784,
    0.026532189526576124,
    0.29656057182850487,
    1.7848265399172913,
    5.463784911164114,
    6.657904643501103,
];
const TAIL_DENOMINATOR: [f64; 8] = [
    2.0442631033899397e-15,
    1.421511758316446e-07,
    1.8463183175100548e-05,
    0.0007868691311456133,
    0.014875361290850615,
    0.1369298809227358,
    0.599832206555888,
    1.0,
];

/// The probability of a value up to `x`: Φ(x) = erfc(-x / √2) / 2. `erfc` keeps the lower tail exact, where
/// 1 - erf would round it away.
pub(crate) fn cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x * FRAC_1_SQRT_2)
}

/// The value below which the probability is `p`: Φ⁻¹(p), with a relative error of about 1e-16. 0 gives -∞, 1 gives ∞, and
/// what is not a probability gives NaN.
///
/// Source: M. J. Wichura, Algorithm AS 241: The Percentage Points of the Normal Distribution, Applied Statistics 37
/// (1988), routine PPND16. Close to 1, where `1 - p` has few digits, take `-quantile(1 - p)` of the exact `1 - p`.
pub(crate) fn quantile(p: f64) -> f64 {
    if !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180_625 - q * q;
        return q * horner(&CENTRAL_NUMERATOR, r) / horner(&CENTRAL_DENOMINATOR, r);
    }
    let tail = if q < 0.0 { p } else { 1.0 - p };
    if tail == 0.0 {
        return f64::INFINITY.copysign(q);
    }
    let r = (-tail.ln()).sqrt();
    let x = if r <= 5.0 {
        horner(&MIDDLE_NUMERATOR, r - 1.6) / horner(&MIDDLE_DENOMINATOR, r - 1.6)
    } else {
        horner(&TAIL_NUMERATOR, r - 5.0) / horner(&TAIL_DENOMINATOR, r - 5.0)
    };
    x.copysign(q)
}

/// A polynomial, its coefficients from the highest power down.
fn horner(coefficients: &[f64], x: f64) -> f64 {
    coefficients
        .iter()
        .fold(0.0, |sum, coefficient| sum * x + coefficient)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tabulated_values_are_met() {
        for (x, p) in [
            (0.0, 0.5),
            (1.0, 0.841_344_746_068_542_9),
            (-1.0, 0.158_655_253_931_457_05),
            (1.959_963_984_540_054, 0.975),
            (-6.0, 9.865_876_450_376_946e-10),
        ] {
            assert!((cdf(x) / p - 1.0).abs() < 1e-14, "{x}");
            assert!((quantile(p) - x).abs() < 1e-13, "{p}");
        }
    }

    #[test]
    fn the_ends_are_infinite_and_what_is_no_probability_is_nan() {
        assert_eq!((cdf(f64::NEG_INFINITY), cdf(f64::INFINITY)), (0.0, 1.0));
        assert_eq!(quantile(0.0), f64::NEG_INFINITY);
        assert_eq!(quantile(1.0), f64::INFINITY);
        for p in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(quantile(p).is_nan(), "{p}");
        }
        assert!(cdf(f64::NAN).is_nan());
        assert!((quantile(f64::MIN_POSITIVE) + 37.519_379_347_048_5).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn the_quantile_undoes_the_probability(p in 1e-300..1.0f64) {
            let back = cdf(quantile(p));
            prop_assert!((back / p - 1.0).abs() < 1e-12, "{p} became {back}");
        }

        #[test]
        fn probabilities_rise(x in -40.0..40.0f64, step in 0.0..5.0f64) {
            prop_assert!(cdf(x) <= cdf(x + step));
            prop_assert!((0.0..=1.0).contains(&cdf(x)));
        }
    }
}
