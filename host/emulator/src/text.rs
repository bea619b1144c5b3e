//! Text forms that the engine, the store, the services and the HTTP side share.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

/// 32 hexadecimal digits that depend on `seed` alone.
pub(crate) fn digest_id(seed: &str) -> String {
    let digits = hex::encode(Sha256::digest(seed));
    digits.chars().take(32).collect()
}

/// An instant as the API writes it: UTC, to the second.
pub(crate) fn instant_text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Unix seconds in the same form.
pub(crate) fn seconds_text(seconds: i64) -> String {
    instant_text(Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Hours of a day, minutes and seconds: `06:30:00`. Whole days are left out.
pub(crate) fn clock_text(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}")
}

/// The size of an amount, without its sign, with cents and thousands separators: `1,234.50`.
pub(crate) fn grouped(amount: f64) -> String {
    let text = format!("{:.2}", amount.abs());
    let whole = text.find('.').unwrap_or(text.len());
    let mut grouped = String::new();
    for (index, character) in text.chars().enumerate() {
        if index > 0 && index < whole && (whole - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(character);
    }
    grouped
}

/// A name of LEAN's interface as Python spells it today: `SetStartDate` → `set_start_date`,
/// `SMA` → `sma`, `set_start_date` → `set_start_date`.
pub(crate) fn snake(name: &str) -> String {
    let mut result = String::with_capacity(name.len() + 4);
    let mut previous = '_';
    let mut rest = name.chars().peekable();
    while let Some(letter) = rest.next() {
        if letter.is_uppercase() {
            let next_is_lower = rest.peek().is_some_and(|next| next.is_lowercase());
            let starts_word = previous.is_lowercase()
                || previous.is_numeric()
                || (previous.is_uppercase() && next_is_lower);
            if starts_word {
                result.push('_');
            }
            result.extend(letter.to_lowercase());
        } else {
            result.push(letter);
        }
        previous = letter;
    }
    result
}

/// Whether a character is part of a name in Python.
pub(crate) fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}
