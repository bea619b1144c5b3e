//! Money in ten-thousandths of a dollar, the precision of Cedar's decimal.
//!
//! Invariant: parsing never makes an amount smaller. More than four digits are rounded up, so that
//! a cost cannot get below a limit by rounding.

use std::fmt;

/// An amount of US dollars, in units of 1/10000 dollar.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
pub struct Usd(pub u64);

/// The largest whole number of dollars in Cedar's decimal.
const MAX_DOLLARS: f64 = 922_337_203_685_477.0;

impl Usd {
    /// An amount of dollars, rounded up. `None` for values that are not finite, negative, or more
    /// than Cedar's decimal can hold.
    #[must_use]
    pub fn from_f64(dollars: f64) -> Option<Self> {
        if !(0.0..=MAX_DOLLARS).contains(&dollars) {
            return None;
        }
        // Rounds the shortest decimal representation, which is what was written; the binary value
        // is slightly above or below, and rounding that up would turn $1.1 into $1.1001. (Minus
        // zero loses its sign.)
        let text = dollars.abs().to_string();
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let mut digits = fraction.bytes();
        let mut units = whole.parse::<u64>().ok()?;
        for _ in 0..4 {
            let digit = digits.next().unwrap_or(b'0').checked_sub(b'0')?;
            units = units.checked_mul(10)?.checked_add(u64::from(digit))?;
        }
        let more = digits.any(|digit| digit != b'0');
        Some(Self(units.checked_add(u64::from(more))?))
    }

    /// The amount in the form of Cedar's `decimal`: `5.0000`.
    pub(crate) fn decimal(self) -> String {
        format!("{}.{:04}", self.0 / 10_000, self.0 % 10_000)
    }
}

impl fmt::Display for Usd {
    /// `$5.00`, `$1.2345`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.decimal();
        let cut = text
            .strip_suffix("00")
            .or_else(|| text.strip_suffix('0'))
            .unwrap_or(&text);
        write!(f, "${cut}")
    }
}

/// An amount as a report has it: a number of dollars. Its key says so: `cost-usd`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(into = "f64", try_from = "f64")]
pub struct Dollars(pub Usd);

impl From<Dollars> for f64 {
    fn from(Dollars(usd): Dollars) -> Self {
        // The nearest one to the decimal, so that it is read as the same amount.
        usd.decimal().parse().unwrap_or(Self::INFINITY)
    }
}

impl TryFrom<f64> for Dollars {
    type Error = String;

    fn try_from(dollars: f64) -> Result<Self, String> {
        let usd = Usd::from_f64(dollars);
        usd.map(Self)
            .ok_or_else(|| format!("{dollars} is no amount of dollars"))
    }
}

impl fmt::Display for Dollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_written_is_kept_and_the_rest_is_rounded_up() {
        for (dollars, units, shown) in [
            (0.0, 0, "$0.00"),
            (-0.0, 0, "$0.00"),
            (5.0, 50_000, "$5.00"),
            (1.1, 11_000, "$1.10"),
            (0.3, 3_000, "$0.30"),
            (1.2345, 12_345, "$1.2345"),
            (1.23451, 12_346, "$1.2346"),
            (0.000_000_1, 1, "$0.0001"),
            (1e-300, 1, "$0.0001"),
            (
                922_337_203_685_477.0,
                9_223_372_036_854_770_000,
                "$922337203685477.00",
            ),
        ] {
            let usd = Usd::from_f64(dollars).unwrap();
            assert_eq!(usd, Usd(units), "{dollars}");
            assert_eq!(usd.to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_amount_is_none() {
        for dollars in [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            -0.01,
            922_337_203_685_478.0,
            1e300,
        ] {
            assert_eq!(Usd::from_f64(dollars), None, "{dollars}");
        }
    }

    #[test]
    fn an_amount_in_a_report_is_a_number_and_is_read_as_it_was() {
        for (units, written) in [
            (0, "0.0"),
            (50_000, "5.0"),
            (12_345, "1.2345"),
            (1, "0.0001"),
        ] {
            let text = serde_json::to_string(&Dollars(Usd(units))).unwrap();
            assert_eq!(text, written);
            let read: Dollars = serde_json::from_str(&text).unwrap();
            assert_eq!(read, Dollars(Usd(units)));
        }
        assert!(serde_json::from_str::<Dollars>("-1").is_err());
    }

    proptest! {
        #[test]
        fn no_amount_gets_smaller(dollars in 0.0..1e9f64) {
            let Usd(units) = Usd::from_f64(dollars).unwrap();
            #[allow(clippy::cast_precision_loss)]
            let back = units as f64 / 10_000.0;
            prop_assert!(back >= dollars * (1.0 - 1e-15) && back < dollars + 0.000_2, "{dollars} became {back}");
        }
    }
}
