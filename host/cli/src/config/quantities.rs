//! Quantities as an operator writes them: `"64MiB"`, `"365d"`, `0.06`.
//!
//! Invariant: a quantity without a unit, with an unknown unit, of zero, or implausibly large is an
//! error; none is rounded or clamped.

use std::str::FromStr;
use std::time::Duration;

use qchost_policy::Usd;
use serde::Deserialize;

const SECOND: u64 = 1000;
const DAY: u64 = 24 * 3600 * SECOND;
/// Maximum duration in seconds: a hundred years.
const MAX_PERIOD: u64 = 36_525 * DAY;
/// Maximum size in bytes: a pebibyte.
const MAX_SIZE: u64 = 1 << 50;

/// A number of bytes: `"64MiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Size(pub u64);

/// A duration: `"24h"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Period(pub Duration);

/// The price of a node's hour in dollars: `0.06`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Price(pub Usd);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [
            ("B", 1),
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
        ];
        amount(text, &units, MAX_SIZE)
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not a size such as \"64MiB\" (B, KiB, MiB, GiB)"))
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [
            ("ms", 1),
            ("s", SECOND),
            ("m", 60 * SECOND),
            ("h", 3600 * SECOND),
            ("d", DAY),
        ];
        amount(text, &units, MAX_PERIOD)
            .map(|ms| Self(Duration::from_millis(ms)))
            .ok_or_else(|| format!("`{text}` is not a time such as \"24h\" (ms, s, m, h, d)"))
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl TryFrom<String> for Period {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl TryFrom<f64> for Price {
    type Error = String;

    fn try_from(dollars: f64) -> Result<Self, String> {
        dollars_of(dollars)
            .map(Self)
            .ok_or_else(|| format!("`{dollars}` is not a price: finite and more than 0"))
    }
}

/// An amount of dollars, if it is finite and positive.
pub fn dollars_of(dollars: f64) -> Option<Usd> {
    Usd::from_f64(dollars).filter(|usd| usd.0 > 0)
}

/// A whole number times a unit; `None` for zero and for more than `max`.
fn amount(text: &str, units: &[(&str, u64)], max: u64) -> Option<u64> {
    let text = text.trim();
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(at)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim())?;
    let amount = number.parse::<u64>().ok()?.checked_mul(*factor)?;
    (1..=max).contains(&amount).then_some(amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_or_refused() {
        for (text, bytes) in [("1B", 1), ("64MiB", 64 << 20), (" 2 GiB ", 2 << 30)] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for (text, seconds) in [("1s", 1), ("24h", 86_400), ("365d", 31_536_000)] {
            assert_eq!(
                text.parse(),
                Ok(Period(Duration::from_secs(seconds))),
                "{text}"
            );
        }
        for text in [
            "",
            "64",
            "MiB",
            "0MiB",
            "-1MiB",
            "1.5GiB",
            "1MB",
            "99999999999GiB",
            "18446744073709551616B",
            "1€",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        for text in ["", "1", "h", "0h", "-1h", "1w", "99999999d", "1 day"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
        for dollars in [f64::NAN, f64::INFINITY, -0.06, 0.0] {
            assert!(Price::try_from(dollars).is_err(), "{dollars}");
        }
        assert_eq!(Price::try_from(0.06), Ok(Price(Usd(600))));
    }
}
