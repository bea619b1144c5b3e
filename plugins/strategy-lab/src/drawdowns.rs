//! The falls of an equity from its peaks, each with its depth, its length and its recovery.
//!
//! Invariant: falls follow each other and do not overlap; only the last one can be without a recovery.

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::Serialize;

/// A fall from a peak of the equity until the peak is reached again.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Drawdown {
    /// The day of the peak.
    pub(crate) peak: String,
    /// The day of the lowest equity.
    pub(crate) trough: String,
    /// The day on which the peak was reached again; null if it was not.
    pub(crate) recovered: Option<String>,
    /// The fall from peak to trough, as a fraction of the peak.
    pub(crate) depth: f64,
    /// Calendar days from the peak to the trough.
    pub(crate) falling_days: i64,
    /// Calendar days from the trough to the recovery; null if there was none.
    pub(crate) recovery_days: Option<i64>,
    /// Calendar days from the peak to the recovery, or to the last day of the equity.
    pub(crate) length_days: i64,
}

/// All falls, in the order of their peaks.
pub(crate) fn all(days: impl Iterator<Item = (Date, f64)>) -> Vec<Drawdown> {
    let mut found = Vec::new();
    let mut days = days.peekable();
    let Some(first) = days.peek().copied() else {
        return found;
    };
    let (mut peak, mut trough, mut last) = (first, first, first.0);
    for (day, equity) in days {
        last = day;
        if equity >= peak.1 {
            found.extend(fall(peak, trough, Some(day), day));
            peak = (day, equity);
            trough = peak;
        } else if equity < trough.1 {
            trough = (day, equity);
        }
    }
    found.extend(fall(peak, trough, None, last));
    found
}

/// The deepest falls, the deepest first.
pub(crate) fn deepest(mut all: Vec<Drawdown>, count: usize) -> Vec<Drawdown> {
    all.sort_by(|a, b| b.depth.total_cmp(&a.depth));
    all.truncate(count);
    all
}

/// A fall, if the equity fell at all.
fn fall(
    peak: (Date, f64),
    trough: (Date, f64),
    recovered: Option<Date>,
    end: Date,
) -> Option<Drawdown> {
    let between = |from: Date, to: Date| to.duration_since(from).as_hours() / 24;
    (trough.1 < peak.1).then(|| Drawdown {
        peak: peak.0.to_string(),
        trough: trough.0.to_string(),
        recovered: recovered.map(|it| it.to_string()),
        depth: 1.0 - trough.1 / peak.1,
        falling_days: between(peak.0, trough.0),
        recovery_days: recovered.map(|it| between(trough.0, it)),
        length_days: between(peak.0, end),
    })
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    fn of(equities: &[f64]) -> Vec<Drawdown> {
        let days = (0i64..).map(|day| date(2024, 1, 1).checked_add(day.days()).unwrap());
        all(days.zip(equities.iter().copied()))
    }

    #[test]
    fn a_fall_lasts_from_its_peak_to_its_recovery() {
        let found = of(&[100.0, 120.0, 90.0, 110.0, 120.0, 118.0, 119.0]);
        let [first, second] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(
            *first,
            Drawdown {
                peak: "2024-01-02".into(),
                trough: "2024-01-03".into(),
                recovered: Some("2024-01-05".into()),
                depth: 0.25,
                falling_days: 1,
                recovery_days: Some(2),
                length_days: 3,
            }
        );
        assert_eq!(second.recovered, None);
        assert_eq!(second.recovery_days, None);
        assert_eq!(second.length_days, 2);
        assert_eq!(deepest(found.clone(), 1), found[..1]);
    }

    #[test]
    fn an_equity_that_never_falls_has_none() {
        for equities in [&[][..], &[1.0], &[1.0, 1.0, 2.0]] {
            assert_eq!(of(equities), []);
        }
    }

    proptest! {
        #[test]
        fn the_deepest_is_the_largest_loss_that_any_two_days_show(
            equities in proptest::collection::vec(1.0f64..1e6, 1..60),
        ) {
            let found = of(&equities);
            let pairs = (0..equities.len()).flat_map(|from| (from..equities.len()).map(move |to| (from, to)));
            let worst = pairs.map(|(from, to)| 1.0 - equities[to] / equities[from]).fold(0.0, f64::max);
            let deepest = deepest(found.clone(), 1).first().map_or(0.0, |it| it.depth);
            prop_assert_eq!(deepest, worst);
            for pair in found.windows(2) {
                let end = pair[0].recovered.clone();
                prop_assert!(end.is_some_and(|end| end <= pair[1].peak));
            }
            for fall in &found {
                prop_assert!(fall.depth > 0.0 && fall.depth < 1.0);
                prop_assert!(fall.falling_days >= 1 && fall.length_days >= fall.falling_days);
            }
        }
    }
}
