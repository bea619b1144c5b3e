//! Single values: the forms in which QuantConnect writes numbers, texts and figures.

use serde_json::Value;

use super::misfit::Misfit;

/// A boolean: JSON's own, 0 and 1, or the words.
pub(super) fn boolean(value: &Value) -> Result<bool, Misfit> {
    match value {
        Value::Bool(is) => Ok(*is),
        Value::Number(number) if number.as_f64() == Some(0.0) => Ok(false),
        Value::Number(number) if number.as_f64() == Some(1.0) => Ok(true),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(Misfit::found("true or false", value)),
    }
}

/// A whole number of a range, whether it is written `3`, `3.0` or `"3"`.
pub(super) fn integer<T: TryFrom<i64>>(value: &Value, expected: &str) -> Result<T, Misfit> {
    let number = match value {
        Value::Number(number) => number.as_i64().or_else(|| exact_i64(number.as_f64()?)),
        Value::String(text) => {
            let text = text.trim();
            text.parse().ok().or_else(|| exact_i64(text.parse().ok()?))
        }
        _ => None,
    };
    number
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| Misfit::found(expected, value))
}

/// The number as an integer, if it has no fraction and is exact as a double.
fn exact_i64(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (number.fract() == 0.0 && number.abs() <= EXACT)
        .then(|| format!("{number:.0}").parse().ok())
        .flatten()
}

/// A finite number, written as `0.5` or `"0.5"`.
pub(super) fn number(value: &Value) -> Result<f64, Misfit> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number
        .filter(|number: &f64| number.is_finite())
        .ok_or_else(|| Misfit::found("a number", value))
}

/// A finite number of per cent, written as `12.3`, `"12.3"` or `"12.3%"`, as a fraction: 0.123.
pub(super) fn percentage(value: &Value) -> Result<f64, Misfit> {
    let number = match value {
        Value::Number(number) => shifted(&number.to_string(), -2),
        Value::String(text) => {
            let text = text.trim();
            shifted(text.strip_suffix('%').unwrap_or(text).trim_end(), -2)
        }
        _ => None,
    };
    number.ok_or_else(|| Misfit::found("a number of per cent", value))
}

/// A decimal number times a power of ten, where that is finite. It is moved in its text: divided by
/// 100, 12.3 would not be the double nearest to 0.123.
pub(super) fn shifted(text: &str, places: i32) -> Option<f64> {
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let exponent = exponent.checked_add(places)?;
    format!("{digits}e{exponent}")
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
}

/// A text; numbers and booleans in their JSON form. Moves the text.
pub(super) fn text(value: &mut Value) -> Result<String, Misfit> {
    match value {
        Value::String(text) => Ok(std::mem::take(text)),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(is) => Ok(is.to_string()),
        _ => Err(Misfit::found("a text", value)),
    }
}

/// Whether [`text`] accepts the value.
pub(super) fn check_text(value: &Value) -> Result<(), Misfit> {
    match value {
        Value::String(_) | Value::Number(_) | Value::Bool(_) => Ok(()),
        _ => Err(Misfit::found("a text", value)),
    }
}

/// The number in a figure: `12.3%` is 0.123, `-$1,234.50` is -1234.5; `None` for a dash, a date or
/// a duration.
pub(super) fn figure(text: &str) -> Option<f64> {
    let text = text.trim();
    let (text, percent) = match text.strip_suffix('%') {
        Some(rest) => (rest.trim_end(), true),
        None => (text, false),
    };
    // Most figures can be parsed without a copy.
    let bare = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    if !percent
        && text.bytes().all(bare)
        && let Ok(number) = text.parse::<f64>()
        && number.is_finite()
    {
        return Some(number);
    }
    let mut digits = String::with_capacity(text.len() + 3);
    let mut currency = false;
    for letter in text.chars() {
        match letter {
            '0'..='9' | '.' | 'e' | 'E' => digits.push(letter),
            '+' | '-' if digits.is_empty() || digits.ends_with(['e', 'E']) => digits.push(letter),
            ',' | ' ' => {}
            // A single currency sign before the digits.
            sign if !currency
                && !sign.is_alphanumeric()
                && !digits.contains(|c: char| c.is_ascii_digit()) =>
            {
                currency = true;
            }
            _ => return None,
        }
    }
    if !digits.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if percent {
        return shifted(&digits, -2);
    }
    digits
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
}
