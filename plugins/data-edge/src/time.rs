//! Times of rows: civil times in the zone of a data set, in microseconds since 1970-01-01 00:00 of that zone.
//!
//! New York's daylight saving time is computed by its rules since 1967, so that the component carries no database of
//! zones.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A microsecond times this is a second.
pub(crate) const SECOND: i64 = 1_000_000;
/// Microseconds of a day without a change of the clocks.
pub(crate) const DAY: i64 = 86_400 * SECOND;

/// The zone of the times of a data set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Zone {
    /// Coordinated universal time.
    #[default]
    Utc,
    /// The time of the exchanges in New York.
    NewYork,
}

/// Reads times in a zone.
#[derive(Debug)]
pub(crate) struct Clock {
    zone: Zone,
    /// New York's rules, each with the year from which on it holds, latest first.
    rules: Vec<(i16, TimeZone)>,
}

impl Clock {
    pub(crate) fn new(zone: Zone) -> Self {
        let rules = [
            (2007, "EST5EDT,M3.2.0,M11.1.0"),
            (1987, "EST5EDT,M4.1.0,M10.5.0"),
            (i16::MIN, "EST5EDT,M4.5.0,M10.5.0"),
        ];
        let rules = rules.into_iter();
        Self {
            zone,
            rules: rules
                .filter_map(|(year, rule)| Some((year, TimeZone::posix(rule).ok()?)))
                .collect(),
        }
    }

    /// The time of an instant in the zone.
    fn local(&self, instant: Timestamp) -> Option<i64> {
        match self.zone {
            Zone::Utc => Some(instant.as_microsecond()),
            Zone::NewYork => self.new_york(instant.as_microsecond()),
        }
    }

    /// What the clocks of New York show at a time of UTC.
    pub(crate) fn new_york(&self, utc: i64) -> Option<i64> {
        let instant = Timestamp::from_microsecond(utc).ok()?;
        // No rule begins or ends within hours of a new year.
        let year = TimeZone::UTC.to_datetime(instant).year();
        let (_, rule) = self.rules.iter().find(|(from, _)| year >= *from)?;
        let offset = i64::from(rule.to_offset(instant).seconds());
        utc.checked_add(offset.saturating_mul(SECOND))
    }

    /// Reads a time: a date, a date with a time of day, either with or without separators in the date, with a zone or
    /// without; or seconds or milliseconds since 1970 (10 or 13 digits). Without a zone it is one of this zone.
    pub(crate) fn parse(&self, text: &str) -> Option<i64> {
        let text = text.trim();
        if !text.is_ascii() || text.len() > 40 {
            return None;
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            let number = || text.parse::<i64>().ok();
            return match text.len() {
                8 => midnight(text),
                10 => self.local(Timestamp::from_second(number()?).ok()?),
                13 => self.local(Timestamp::from_millisecond(number()?).ok()?),
                _ => None,
            };
        }
        let Some((date, time)) = text.split_once(['T', 't', ' ']) else {
            return midnight(text);
        };
        if !time.contains(':') || time.contains('[') {
            return None;
        }
        if time.contains(['Z', 'z', '+', '-']) {
            return self.local(text.parse().ok()?);
        }
        let date: Date = date.parse().ok()?;
        let time = time.parse().ok()?;
        micros(DateTime::from_parts(date, time))
    }
}

fn midnight(date: &str) -> Option<i64> {
    let date: Date = date.parse().ok()?;
    micros(date.at(0, 0, 0, 0))
}

fn micros(time: DateTime) -> Option<i64> {
    let instant = TimeZone::UTC.to_timestamp(time).ok()?;
    Some(instant.as_microsecond())
}

/// The civil time of microseconds; `None` beyond the years that can be written.
pub(crate) fn civil(micros: i64) -> Option<DateTime> {
    let instant = Timestamp::from_microsecond(micros).ok()?;
    Some(TimeZone::UTC.to_datetime(instant)).filter(|it| (0..=9999).contains(&it.year()))
}

/// The one form in which times are stored: `2024-01-02 09:30:00`, with a fraction only if there is one.
pub(crate) fn text(micros: i64) -> Option<String> {
    let time = civil(micros)?;
    let mut text = format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        time.year(),
        time.month(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    );
    let fraction = time.subsec_nanosecond() / 1000;
    if fraction != 0 {
        let digits = format!(".{fraction:06}");
        text.push_str(digits.trim_end_matches('0'));
    }
    Some(text)
}

/// The number of a time's day since 1970-01-01.
pub(crate) fn day(micros: i64) -> i64 {
    micros.div_euclid(DAY)
}

/// The instant of seconds since 1970, in RFC 3339 with milliseconds, so that texts are in the order of time.
pub(crate) fn instant(seconds: f64) -> String {
    let millis = std::time::Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default();
    let millis = i64::try_from(millis.as_millis()).unwrap_or_default();
    let instant = Timestamp::from_millisecond(millis).unwrap_or_default();
    format!("{instant:.3}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(zone: Zone, given: &str) -> Option<String> {
        text(Clock::new(zone).parse(given)?)
    }

    #[test]
    fn times_of_many_forms_are_read() {
        for (given, expected) in [
            ("2024-01-02", "2024-01-02 00:00:00"),
            ("20240102", "2024-01-02 00:00:00"),
            ("20240102 00:00", "2024-01-02 00:00:00"),
            ("2024-01-02 09:30", "2024-01-02 09:30:00"),
            ("2024-01-02T09:30:01.25", "2024-01-02 09:30:01.25"),
            ("2024-01-02T09:30:00Z", "2024-01-02 09:30:00"),
            ("2024-01-02 09:30:00-05:00", "2024-01-02 14:30:00"),
            ("1704187800", "2024-01-02 09:30:00"),
            ("1704187800250", "2024-01-02 09:30:00.25"),
        ] {
            assert_eq!(read(Zone::Utc, given).as_deref(), Some(expected), "{given}");
        }
        for given in [
            "",
            "yesterday",
            "2024-13-01",
            "2024-02-30",
            "12",
            "2024-01-02 09",
            "2024-01-02 25:00",
            "2024-01-02T09:30[America/New_York]",
            "é",
        ] {
            assert_eq!(read(Zone::Utc, given), None, "{given}");
        }
    }

    #[test]
    fn new_york_has_daylight_saving_time_by_the_rules_of_the_year() {
        for (given, expected) in [
            ("2024-01-02T14:30:00Z", "2024-01-02 09:30:00"),
            ("2024-07-02T13:30:00Z", "2024-07-02 09:30:00"),
            // The second Sunday of March since 2007, the first of April before.
            ("2024-03-10T06:59:59Z", "2024-03-10 01:59:59"),
            ("2024-03-10T07:00:00Z", "2024-03-10 03:00:00"),
            ("2006-03-20T14:30:00Z", "2006-03-20 09:30:00"),
            ("2006-04-03T13:30:00Z", "2006-04-03 09:30:00"),
            ("2024-11-03T06:00:00Z", "2024-11-03 01:00:00"),
            // A time without a zone is New York's.
            ("2024-07-02 09:30", "2024-07-02 09:30:00"),
        ] {
            assert_eq!(
                read(Zone::NewYork, given).as_deref(),
                Some(expected),
                "{given}"
            );
        }
    }

    #[test]
    fn instants_are_ordered_as_texts() {
        assert_eq!(instant(0.0), "1970-01-01T00:00:00.000Z");
        assert_eq!(instant(1_704_187_800.25), "2024-01-02T09:30:00.250Z");
        assert_eq!(instant(f64::NAN), instant(-1.0));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(micros in -2_000_000_000_000_000_i64..4_000_000_000_000_000) {
            let written = text(micros).unwrap();
            prop_assert_eq!(Clock::new(Zone::Utc).parse(&written), Some(micros));
            prop_assert_eq!(Clock::new(Zone::NewYork).parse(&written), Some(micros));
        }

        #[test]
        fn no_text_breaks_the_reader(text in ".{0,50}") {
            Clock::new(Zone::NewYork).parse(&text);
        }
    }
}
