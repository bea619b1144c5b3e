//! The days on which the market is open, and its opening and closing times in UTC.
//!
//! Weekdays without the holidays of the New York Stock Exchange, by their rules, and without the
//! days on which it stayed closed for another reason. Every kind of security follows this calendar,
//! currencies and cryptocurrencies too. Early closings are not modelled.

use std::collections::BTreeSet;

use jiff::ToSpan as _;
use jiff::civil::{Date, Weekday, date};

use super::constants::FIRST_DAY;

/// Days without trading that no rule gives: after 2001-09-11, mourning for four presidents, a
/// hurricane.
const EXTRAORDINARY: [Date; 10] = [
    date(2001, 9, 11),
    date(2001, 9, 12),
    date(2001, 9, 13),
    date(2001, 9, 14),
    date(2004, 6, 11),
    date(2007, 1, 2),
    date(2012, 10, 29),
    date(2012, 10, 30),
    date(2018, 12, 5),
    date(2025, 1, 9),
];

/// Every trading day from [`FIRST_DAY`] to `last`, inclusive.
pub(super) fn trading_days(last: Date) -> Vec<Date> {
    let years = FIRST_DAY.year()..=last.year();
    let closed: BTreeSet<Date> = years.flat_map(holidays).collect();
    std::iter::successors(Some(FIRST_DAY), |day| day.tomorrow().ok())
        .take_while(|day| *day <= last)
        .filter(|day| !matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday))
        .filter(|day| !closed.contains(day))
        .collect()
}

/// The exchange's holidays of a year, as observed.
fn holidays(year: i16) -> BTreeSet<Date> {
    let first = |month| date(year, month, 1);
    let nth = |month, nth, weekday| first(month).nth_weekday_of_month(nth, weekday).ok();
    let mut days: BTreeSet<Date> = [
        nth(1, 3, Weekday::Monday),
        nth(2, 3, Weekday::Monday),
        easter(year).checked_sub(2.days()).ok(),
        nth(5, -1, Weekday::Monday),
        observed(date(year, 7, 4)),
        nth(9, 1, Weekday::Monday),
        nth(11, 4, Weekday::Thursday),
        observed(date(year, 12, 25)),
    ]
    .into_iter()
    .flatten()
    .collect();
    if year >= 2022 {
        days.extend(observed(date(year, 6, 19)));
    }
    // A New Year's Day on a Saturday is not made up for in the old year.
    days.extend(observed(first(1)).filter(|day| day.year() == year));
    days.extend(EXTRAORDINARY.iter().filter(|day| day.year() == year));
    days
}

/// A holiday on a Saturday is observed on Friday, one on a Sunday on Monday.
fn observed(day: Date) -> Option<Date> {
    match day.weekday() {
        Weekday::Saturday => day.yesterday().ok(),
        Weekday::Sunday => day.tomorrow().ok(),
        _ => Some(day),
    }
}

/// Easter Sunday in the Gregorian calendar (Meeus, Jones and Butcher).
fn easter(year: i16) -> Date {
    let year32 = i32::from(year);
    let (golden, century, in_century) = (year32 % 19, year32 / 100, year32 % 100);
    let moon =
        (19 * golden + century - century / 4 - (century - (century + 8) / 25 + 1) / 3 + 15) % 30;
    let weekday = (32 + 2 * (century % 4) + 2 * (in_century / 4) - moon - in_century % 4) % 7;
    let correction = (golden + 11 * moon + 22 * weekday) / 451;
    let days = moon + weekday - 7 * correction + 114;
    let month = i8::try_from(days / 31).unwrap_or(4);
    let day = i8::try_from(days % 31 + 1).unwrap_or(1);
    Date::new(year, month, day).unwrap_or(date(2000, 4, 23))
}

/// Midnight UTC of a day, in Unix seconds.
pub(super) fn midnight(day: Date) -> i64 {
    day.duration_since(date(1970, 1, 1)).as_secs()
}

/// 09:30 in New York, in Unix seconds.
pub(super) fn open(day: Date) -> i64 {
    midnight(day) + 9 * 3_600 + 1_800 + new_york_behind(day)
}

/// 16:00 in New York, in Unix seconds.
pub(super) fn close(day: Date) -> i64 {
    midnight(day) + 16 * 3_600 + new_york_behind(day)
}

/// Seconds that New York is behind UTC at noon: the rules of 1987 and 2007 for daylight saving.
fn new_york_behind(day: Date) -> i64 {
    let year = day.year();
    let sunday = |month, nth| date(year, month, 1).nth_weekday_of_month(nth, Weekday::Sunday);
    let (from, to) = if year >= 2007 {
        (sunday(3, 2), sunday(11, 1))
    } else {
        (sunday(4, 1), sunday(10, -1))
    };
    let saving = from.is_ok_and(|from| day >= from) && to.is_ok_and(|to| day < to);
    if saving { 4 * 3_600 } else { 5 * 3_600 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_holidays_are_closed_and_known_years_have_their_length() {
        let days = trading_days(date(2025, 12, 31));
        for closed in [
            date(1999, 4, 2),   // Good Friday
            date(2000, 1, 17),  // Martin Luther King Day
            date(2010, 4, 2),   // Good Friday
            date(2021, 12, 24), // Christmas, observed
            date(2022, 6, 20),  // Juneteenth, observed
            date(2023, 1, 2),   // New Year's Day, observed
            date(2024, 3, 29),  // Good Friday
            date(2024, 11, 28), // Thanksgiving
            date(2024, 5, 27),  // Memorial Day
        ] {
            assert!(!days.contains(&closed), "{closed}");
        }
        // 2022-01-01 was a Saturday: the exchange traded on the Friday before.
        assert!(days.contains(&date(2021, 12, 31)));
        let length = |year| days.iter().filter(|day| day.year() == year).count();
        let lengths: Vec<usize> = [1998, 2001, 2012, 2018, 2020, 2022, 2023, 2024]
            .into_iter()
            .map(length)
            .collect();
        assert_eq!(lengths, [252, 248, 250, 251, 253, 251, 250, 252]);
    }

    #[test]
    fn the_market_opens_half_an_hour_before_ten_in_new_york_whatever_the_season() {
        // 2024-03-08 was in winter time, 2024-03-11 in summer time.
        assert_eq!(open(date(2024, 3, 8)) % 86_400, 14 * 3_600 + 1_800);
        assert_eq!(open(date(2024, 3, 11)) % 86_400, 13 * 3_600 + 1_800);
        assert_eq!(close(date(2024, 11, 1)) % 86_400, 20 * 3_600);
        assert_eq!(close(date(2024, 11, 4)) % 86_400, 21 * 3_600);
        assert_eq!(close(date(2006, 3, 31)) % 86_400, 21 * 3_600);
    }
}
