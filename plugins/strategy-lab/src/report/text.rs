//! Texts that others wrote, made fit to be shown, and numbers for people.
//!
//! Invariant: a name, whatever it holds, ends up as text: no control character, no change of the direction of writing, no markup.

use jiff::civil::Date;

/// Longest text of others, in characters; the rest is cut off.
const MAX_LENGTH: usize = 200;

/// A text of others in one bounded line, without what cannot be seen or changes the direction of writing.
pub(super) fn shown(text: &str) -> String {
    let mut letters = text.chars();
    let mut shown: String = letters.by_ref().take(MAX_LENGTH).map(visible).collect();
    if letters.next().is_some() {
        shown.push('…');
    }
    shown
}

fn visible(letter: char) -> char {
    match letter {
        '\n' | '\r' | '\t' => ' ',
        // Marks, overrides and isolates of bidirectional text; what has no width; separators of lines; tags; noncharacters.
        '\u{61c}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{fffe}'
        | '\u{ffff}'
        | '\u{e0000}'..='\u{e0fff}' => '\u{fffd}',
        letter if letter.is_control() => '\u{fffd}',
        letter => letter,
    }
}

/// A text of others for Markdown: every mark of punctuation is escaped, so that none is markup, and no address becomes a link.
pub(super) fn markdown(text: &str) -> String {
    let mut escaped = String::new();
    for letter in shown(text).chars() {
        if letter.is_ascii_punctuation() {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

/// A fraction in per cent, with two digits after the point.
pub(super) fn percent(fraction: f64) -> String {
    format!("{:.2} %", unsigned_zero(fraction * 100.0, 2))
}

/// A number with two digits after the point.
pub(super) fn number(value: f64) -> String {
    format!("{:.2}", unsigned_zero(value, 2))
}

/// A number that would be shown as `-0.00` is zero.
fn unsigned_zero(value: f64, digits: i32) -> f64 {
    if value.abs() < 0.5 * 10f64.powi(-digits) {
        0.0
    } else {
        value
    }
}

/// Days since 1970-01-01.
pub(super) fn day_number(date: Date) -> i64 {
    date.duration_since(Date::constant(1970, 1, 1)).as_hours() / 24
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_rounded_for_people() {
        assert_eq!(percent(0.12345), "12.35 %");
        assert_eq!(percent(-0.00001), "0.00 %");
        assert_eq!(number(-1.005), "-1.00");
        assert_eq!(number(-0.001), "0.00");
        assert_eq!(day_number(date(1970, 1, 2)), 1);
        assert_eq!(day_number(date(2024, 1, 1)), 19_723);
    }

    #[test]
    fn what_cannot_be_seen_is_replaced() {
        assert_eq!(shown("a\u{202e}b\u{0}\nc"), "a\u{fffd}b\u{fffd} c");
        assert_eq!(shown(&"é".repeat(300)).chars().count(), MAX_LENGTH + 1);
        assert_eq!(markdown("<b>|[x](y)"), "\\<b\\>\\|\\[x\\]\\(y\\)");
    }

    proptest! {
        #[test]
        fn markdown_has_no_markup_and_loses_nothing(text in any::<String>()) {
            let escaped = markdown(&text);
            let mut letters = escaped.chars();
            let mut plain = String::new();
            while let Some(letter) = letters.next() {
                if letter == '\\' {
                    let next = letters.next();
                    prop_assert!(next.is_some_and(|it| it.is_ascii_punctuation()));
                    plain.extend(next);
                } else {
                    prop_assert!(!letter.is_ascii_punctuation() && !letter.is_control());
                    plain.push(letter);
                }
            }
            prop_assert_eq!(plain, shown(&text));
        }
    }
}
