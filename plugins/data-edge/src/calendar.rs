//! The sessions of the stock exchanges in New York, by rule: 9:30 to 16:00 on weekdays, without the holidays of the NYSE,
//! and to 13:00 on the days before some of them.
//!
//! The rules are those since 1998 (<https://www.nyse.com/markets/hours-calendars>), with the closures out of the ordinary
//! since then. Before 1998, a holiday that was introduced later counts as one, and others may be missing.

use jiff::civil::{Date, Weekday, date};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::{DAY, SECOND, civil, day};

/// When data is expected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Calendar {
    /// At any time, such as of crypto-currencies.
    #[default]
    Always,
    /// In the regular sessions of the exchanges in New York.
    UsEquity,
}

/// When the market opens, in microseconds of the day.
const OPEN: i64 = (9 * 60 + 30) * 60 * SECOND;
const CLOSE: i64 = 16 * 3600 * SECOND;
const EARLY_CLOSE: i64 = 13 * 3600 * SECOND;

/// Closures that follow from no rule.
const CLOSED: [(i16, i8, i8); 10] = [
    (2001, 9, 11),
    (2001, 9, 12),
    (2001, 9, 13),
    (2001, 9, 14),
    (2004, 6, 11),
    (2007, 1, 2),
    (2012, 10, 29),
    (2012, 10, 30),
    (2018, 12, 5),
    (2025, 1, 9),
];

/// When the market is open on a day: opening and close in microseconds of the day; `None` if it is not.
pub(crate) fn session(date: Date) -> Option<(i64, i64)> {
    if is_weekend(date) || is_holiday(date) {
        return None;
    }
    let close = if is_early_close(date) {
        EARLY_CLOSE
    } else {
        CLOSE
    };
    Some((OPEN, close))
}

fn is_weekend(date: Date) -> bool {
    matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday)
}

fn is_holiday(date: Date) -> bool {
    let (year, month, day) = (date.year(), date.month(), date.day());
    let weekday = date.weekday();
    // On a Saturday it is observed on the Friday before, on a Sunday on the Monday after.
    let fixed = |of: i8| {
        day == of
            || (weekday == Weekday::Friday && day == of - 1)
            || (weekday == Weekday::Monday && day == of + 1)
    };
    // The nth Monday of the month.
    let monday = |nth: i8| weekday == Weekday::Monday && (day - 1) / 7 == nth - 1;
    let by_rule = match month {
        // A new year on a Saturday is not observed: the Friday is in the old year.
        1 => day == 1 || (weekday == Weekday::Monday && day == 2) || (year >= 1998 && monday(3)),
        2 => monday(3),
        5 => weekday == Weekday::Monday && day >= 25,
        6 => year >= 2022 && fixed(19),
        7 => fixed(4),
        9 => monday(1),
        11 => is_thanksgiving(date),
        12 => fixed(25),
        _ => false,
    };
    by_rule || is_good_friday(date) || CLOSED.contains(&(year, month, day))
}

fn is_thanksgiving(date: Date) -> bool {
    date.month() == 11 && date.weekday() == Weekday::Thursday && (22..=28).contains(&date.day())
}

fn is_early_close(date: Date) -> bool {
    match (date.month(), date.day()) {
        (7, 3) | (12, 24) => true,
        (11, 23..=29) => date.yesterday().is_ok_and(is_thanksgiving),
        _ => false,
    }
}

/// The Friday before Easter, which is found by the anonymous Gregorian algorithm.
fn is_good_friday(date: Date) -> bool {
    if !matches!(date.month(), 3 | 4) || date.weekday() != Weekday::Friday {
        return false;
    }
    let year = i32::from(date.year());
    let (a, b, c) = (year % 19, year / 100, year % 100);
    let (d, e) = (b / 4, b % 4);
    let g = (b - (b + 8) / 25 + 1) / 3;
    let h = (19 * a + b - d - g + 15) % 30;
    let (i, k) = (c / 4, c % 4);
    let l = (32 + 2 * e + 2 * i - h - k) % 7;
    let m = (a + 11 * h + 22 * l) / 451;
    let n = h + l - 7 * m + 114;
    let easter = (n / 31, n % 31 + 1);
    let sunday = date.saturating_add(jiff::Span::new().days(2));
    easter == (i32::from(sunday.month()), i32::from(sunday.day()))
}

/// Sessions of a range of days, so that the time in session between two rows takes no loop.
#[derive(Debug)]
pub(crate) struct Sessions {
    first: i64,
    /// For each day, and one more: sessions and microseconds in session before it.
    before: Vec<(i64, i64)>,
}

/// Maximum days of a range: 300 years.
const MAX_DAYS: i64 = 110_000;

impl Sessions {
    /// The sessions of the days from `first` to `last`; `None` if these are more than can be looked at.
    pub(crate) fn new(first: i64, last: i64) -> Option<Self> {
        if last < first || last.checked_sub(first)? > MAX_DAYS {
            return None;
        }
        let mut before = Vec::new();
        let (mut sessions, mut open) = (0_i64, 0_i64);
        for day in first..=last {
            before.push((sessions, open));
            if let Some((from, to)) = session_of(day) {
                sessions = sessions.saturating_add(1);
                open = open.saturating_add(to - from);
            }
        }
        before.push((sessions, open));
        Some(Self { first, before })
    }

    fn before(&self, day: i64) -> (i64, i64) {
        let at = usize::try_from(day.saturating_sub(self.first)).unwrap_or_default();
        let last = || self.before.last().copied().unwrap_or_default();
        self.before.get(at).copied().unwrap_or_else(last)
    }

    /// Sessions of the days before that of a time, from the beginning of the range on.
    pub(crate) fn count(&self, time: i64) -> i64 {
        self.before(day(time)).0
    }

    /// Microseconds in session before a time, from the beginning of the range on.
    pub(crate) fn elapsed(&self, time: i64) -> i64 {
        let today = session_of(day(time)).map_or(0, |(from, to)| {
            (time.rem_euclid(DAY) - from).clamp(0, to - from)
        });
        self.before(day(time)).1.saturating_add(today)
    }
}

/// The session of the day of this number.
pub(crate) fn session_of(day: i64) -> Option<(i64, i64)> {
    session(civil(day.checked_mul(DAY)?)?.date())
}

/// Whether a bar of this length touches a session, the end included: bars are named by their beginning or by their end.
pub(crate) fn is_open(time: i64, length: i64) -> bool {
    let at = time.rem_euclid(DAY);
    session_of(day(time)).is_some_and(|(from, to)| at <= to && at.saturating_add(length) > from)
}

/// Whether a time is in the years that a row may have: 1800 to 2200.
pub(crate) fn is_plausible(time: i64) -> bool {
    civil(time).is_some_and(|it| (date(1800, 1, 1)..=date(2200, 12, 31)).contains(&it.date()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holidays_of_2021_to_2024_are_those_that_the_exchange_published() {
        let published: &[(i16, &[(i8, i8)])] = &[
            (
                2021,
                &[
                    (1, 1),
                    (1, 18),
                    (2, 15),
                    (4, 2),
                    (5, 31),
                    (7, 5),
                    (9, 6),
                    (11, 25),
                    (12, 24),
                ],
            ),
            (
                2022,
                &[
                    (1, 17),
                    (2, 21),
                    (4, 15),
                    (5, 30),
                    (6, 20),
                    (7, 4),
                    (9, 5),
                    (11, 24),
                    (12, 26),
                ],
            ),
            (
                2023,
                &[
                    (1, 2),
                    (1, 16),
                    (2, 20),
                    (4, 7),
                    (5, 29),
                    (6, 19),
                    (7, 4),
                    (9, 4),
                    (11, 23),
                    (12, 25),
                ],
            ),
            (
                2024,
                &[
                    (1, 1),
                    (1, 15),
                    (2, 19),
                    (3, 29),
                    (5, 27),
                    (6, 19),
                    (7, 4),
                    (9, 2),
                    (11, 28),
                    (12, 25),
                ],
            ),
        ];
        for (year, holidays) in published {
            let mut found = Vec::new();
            let mut at = date(*year, 1, 1);
            while at.year() == *year {
                if !is_weekend(at) && session(at).is_none() {
                    found.push((at.month(), at.day()));
                }
                at = at.tomorrow().unwrap();
            }
            assert_eq!(found, *holidays, "{year}");
        }
    }

    #[test]
    fn some_days_end_early() {
        for day in [date(2023, 11, 24), date(2024, 7, 3), date(2024, 12, 24)] {
            assert_eq!(session(day), Some((OPEN, EARLY_CLOSE)), "{day}");
        }
        assert_eq!(session(date(2024, 11, 22)), Some((OPEN, CLOSE)));
    }

    #[test]
    fn a_night_and_a_weekend_take_no_time_in_session() {
        let at = |text: &str| {
            crate::time::Clock::new(crate::time::Zone::Utc)
                .parse(text)
                .unwrap()
        };
        let friday = at("2024-01-05 15:59");
        let monday = at("2024-01-08 09:30");
        let sessions = Sessions::new(day(friday), day(monday)).unwrap();
        let minute = 60 * SECOND;
        assert_eq!(sessions.elapsed(monday) - sessions.elapsed(friday), minute);
        assert_eq!(sessions.count(monday) - sessions.count(friday), 1);
        for (time, length, expected) in [
            ("2024-01-05 15:59", minute, true),
            ("2024-01-05 16:00", minute, true),
            ("2024-01-05 16:01", minute, false),
            ("2024-01-05 09:29", minute, false),
            // LEAN's first hour begins at nine.
            ("2024-01-05 09:00", 60 * minute, true),
            ("2024-01-05 08:00", 60 * minute, false),
            ("2024-01-06 12:00", minute, false),
        ] {
            assert_eq!(is_open(at(time), length), expected, "{time}");
        }
        assert!(Sessions::new(0, MAX_DAYS + 1).is_none() && Sessions::new(1, 0).is_none());
    }
}
