//! JSON written by a guest, as values of the host's.
//!
//! A value takes some seventy bytes in the host but as little as two bytes of text, so text within a guest's limits could
//! become gigabytes outside of any budget. Values are therefore counted while they are parsed.
//!
//! Invariant: JSON of a guest has a bounded number of values, and is nested no deeper than the parser allows (127), or, in a
//! call, than a server reads (64); no object has duplicate names; and no number in a call's arguments is rounded.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::error::Category;
use serde_json::map::Entry;
use serde_json::{Map, Value};

/// Maximum values in the arguments of a call.
pub(crate) const MAX_ARGUMENTS: usize = 20_000;
/// An output may have one value per this many bytes of its limit.
pub(crate) const VALUE_BYTES: u64 = 16;

/// A number of at most this many characters without an exponent is exact as a double.
const MAX_EXACT_DIGITS: usize = 15;
/// Maximum bytes of a name that an error repeats.
const MAX_NAME: usize = 100;

/// Maximum nesting of values: the parser's own limit.
pub(crate) const MAX_DEPTH: usize = 127;

/// Maximum nesting of a call's arguments. A server parses them inside of a message, and rejects the whole message if it is
/// nested deeper than its parser allows.
const MAX_ARGUMENTS_DEPTH: usize = 64;

/// Whether a value is nested deeper than `depth`. It descends no further, so its stack is bounded.
pub(crate) fn is_deeper(value: &Value, depth: usize) -> bool {
    let left = depth.checked_sub(1);
    let too_deep = |value: &Value| left.is_none_or(|left| is_deeper(value, left));
    match value {
        Value::Array(items) => left.is_none() || items.iter().any(too_deep),
        Value::Object(members) => left.is_none() || members.values().any(too_deep),
        _ => false,
    }
}

/// Parses a text with at most `limit` values and without duplicate names in an object, for which readers disagree
/// about which one counts.
///
/// # Errors
/// When it is not JSON, has more values, or has a duplicate name.
pub(crate) fn parse(text: &str, limit: usize) -> serde_json::Result<Value> {
    let mut parser = serde_json::Deserializer::from_str(text);
    let value = ValueBuilder {
        count: &mut 0,
        limit,
    }
    .deserialize(&mut parser)?;
    parser.end()?;
    Ok(value)
}

/// The arguments of a call, as a plugin or a person wrote them. A number that the host cannot represent exactly keeps its
/// text: an integer beyond 2^53, or one with more digits than a double has.
///
/// ```
/// use qchost_runtime::json;
///
/// let arguments = json::arguments(r#"{ "projectId": 7, "id": 12345678901234567890 }"#)?;
/// assert_eq!(arguments["id"].to_string(), "\"12345678901234567890\"");
/// assert!(json::arguments(r#"{ "a": 1, "a": 2 }"#).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// When it is not a JSON object, is nested deeper than 64, or an object in it has a duplicate name.
pub fn arguments(text: &str) -> serde_json::Result<Map<String, Value>> {
    match argument(text)? {
        Value::Object(members) => Ok(members),
        other => Err(serde::de::Error::invalid_type(
            kind(&other),
            &"a JSON object",
        )),
    }
}

/// The input of an action, as a person wrote it.
///
/// # Errors
/// When it is not JSON, or an object in it has a duplicate name.
pub fn input(text: &str) -> serde_json::Result<Value> {
    parse(text, usize::MAX)
}

/// A part of the arguments of a call, of any type.
///
/// # Errors
/// As [`parse`], and where it is nested deeper than 64.
pub(crate) fn argument(text: &str) -> serde_json::Result<Value> {
    let value = parse(&exact(text), MAX_ARGUMENTS)?;
    if is_deeper(&value, MAX_ARGUMENTS_DEPTH) {
        return Err(serde::de::Error::custom(format_args!(
            "it is nested more than {MAX_ARGUMENTS_DEPTH} deep"
        )));
    }
    Ok(value)
}

/// The problem with a text that [`arguments`] or [`input`] refuse. Valid JSON is not reported as invalid.
#[must_use]
pub fn problem(error: &serde_json::Error) -> String {
    const OUT_OF_RANGE: &str = "number out of range";
    match error.classify() {
        Category::Data => error.to_string(),
        // The parser reports this as a syntax error.
        _ if error.to_string().starts_with(OUT_OF_RANGE) => {
            format!("a {error}: no double is that large; write it as a text")
        }
        _ => format!("not JSON: {error}"),
    }
}

fn kind(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(is) => Unexpected::Bool(*is),
        Value::Number(number) => Unexpected::Float(number.as_f64().unwrap_or_default()),
        Value::String(text) => Unexpected::Str(text),
        Value::Array(_) => Unexpected::Seq,
        Value::Object(_) => Unexpected::Map,
    }
}

/// The text with each number that would be rounded put in quotation marks.
fn exact(text: &str) -> Cow<'_, str> {
    let digit =
        |byte: u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E');
    let mut out = String::new();
    let (mut copied, mut quoted, mut escaped) = (0, false, false);
    let mut bytes = text.bytes().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        if quoted {
            quoted = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        if byte == b'"' {
            quoted = true;
            continue;
        }
        if !(byte == b'-' || byte.is_ascii_digit()) {
            continue;
        }
        let mut end = at + 1;
        while bytes.next_if(|(_, byte)| digit(*byte)).is_some() {
            end += 1;
        }
        let (Some(before), Some(number), Some(rest)) =
            (text.get(copied..at), text.get(at..end), text.get(end..))
        else {
            continue;
        };
        // Only where a value may end: a member's name is not a number.
        let ends = matches!(
            rest.trim_start().bytes().next(),
            None | Some(b',' | b']' | b'}')
        );
        if ends && is_rounded(number) {
            out.push_str(before);
            out.push('"');
            out.push_str(number);
            out.push('"');
            copied = end;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

/// Whether a JSON number would lose digits as a double.
fn is_rounded(number: &str) -> bool {
    const EXACT: u64 = 1 << 53;
    let has_exponent = number.contains(['e', 'E']);
    if (number.len() <= MAX_EXACT_DIGITS && !has_exponent)
        || serde_json::from_str::<serde_json::Number>(number).is_err()
    {
        return false;
    }
    if number
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'-')
    {
        let whole = number.trim_start_matches('-').parse::<u64>();
        return whole.map_or(true, |whole| whole > EXACT);
    }
    let Ok(double) = number.parse::<f64>() else {
        return false;
    };
    decimal(number) != decimal(&format!("{double:e}"))
}

/// The digits of a number without leading and trailing zeros, and their power of ten.
fn decimal(number: &str) -> (String, i64) {
    let number = number.trim_start_matches('-');
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let mut exponent: i64 = exponent.trim_start_matches('+').parse().unwrap_or_default();
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    exponent = exponent.saturating_sub(i64::try_from(fraction.len()).unwrap_or(i64::MAX));
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let significant = digits.trim_end_matches('0');
    let zeros = i64::try_from(digits.len() - significant.len()).unwrap_or(i64::MAX);
    if significant.is_empty() {
        return (String::new(), 0);
    }
    (significant.to_owned(), exponent.saturating_add(zeros))
}

/// Builds a value and counts; each name in an object counts as one.
struct ValueBuilder<'a> {
    count: &'a mut usize,
    limit: usize,
}

impl ValueBuilder<'_> {
    fn reborrow(&mut self) -> ValueBuilder<'_> {
        ValueBuilder {
            count: self.count,
            limit: self.limit,
        }
    }

    fn count<E: serde::de::Error>(&mut self) -> Result<(), E> {
        *self.count += 1;
        if *self.count > self.limit {
            return Err(E::custom(format_args!(
                "it has more than {} values",
                self.limit
            )));
        }
        Ok(())
    }

    fn scalar<E: serde::de::Error>(mut self, value: impl Into<Value>) -> Result<Value, E> {
        self.count()?;
        Ok(value.into())
    }
}

impl<'de> DeserializeSeed<'de> for ValueBuilder<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// The visits of what is one value by itself.
macro_rules! scalar {
    ($($visit:ident: $of:ty,)*) => {$(
        fn $visit<E: serde::de::Error>(self, value: $of) -> Result<Value, E> {
            self.scalar(value)
        }
    )*};
}

impl<'de> Visitor<'de> for ValueBuilder<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any valid JSON value")
    }

    scalar! {
        visit_bool: bool,
        visit_i64: i64,
        visit_u64: u64,
        visit_f64: f64,
        visit_str: &str,
        visit_string: String,
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.scalar(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        self.count()?;
        let mut made = Vec::new();
        while let Some(item) = items.next_element_seed(self.reborrow())? {
            made.push(item);
        }
        Ok(Value::Array(made))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Value, A::Error> {
        self.count()?;
        let mut made = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            self.count()?;
            let entry = match made.entry(name) {
                Entry::Vacant(entry) => entry,
                Entry::Occupied(entry) => {
                    let name = match entry.key() {
                        // Not shortened: a part of a secret would not be redacted.
                        name if name.len() > MAX_NAME => format!("a name of {} bytes", name.len()),
                        name => format!("{name:?}"),
                    };
                    return Err(serde::de::Error::custom(format_args!(
                        "{name} is there twice"
                    )));
                }
            };
            entry.insert(members.next_value_seed(self.reborrow())?);
        }
        Ok(Value::Object(made))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn values(value: &Value) -> usize {
        1 + match value {
            Value::Array(items) => items.iter().map(values).sum(),
            Value::Object(members) => members.values().map(|value| 1 + values(value)).sum(),
            _ => 0,
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 60, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::vec((".*", inner), 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn values_are_made_up_to_the_limit_and_not_one_more(value in any_json()) {
            let (text, count) = (value.to_string(), values(&value));
            let plain: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(parse(&text, count).unwrap(), plain);
            prop_assert!(parse(&text, count - 1).is_err());
        }

        #[test]
        fn what_is_no_json_is_refused_in_the_parsers_words(text in ".{0,40}", most in 0usize..4) {
            if let Err(error) = serde_json::from_str::<Value>(&text) {
                let refused = parse(&text, most).unwrap_err().to_string();
                prop_assert!(refused == error.to_string() || refused.contains("more than"), "{}", refused);
            }
        }
    }

    #[test]
    fn too_many_are_told_how_many_there_may_be() {
        let text = json!({ "a": vec![0; 20_000] }).to_string();
        let error = parse(&text, MAX_ARGUMENTS).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("it has more than 20000 values"),
            "{error}"
        );
        let long = json!({ "content": "[0,".repeat(100_000) }).to_string();
        assert!(parse(&long, 3).is_ok(), "text is one value");
    }

    #[test]
    fn what_the_parser_takes_is_not_too_deep_and_one_more_is() {
        let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
        let most = parse(&nested(MAX_DEPTH), 1000).unwrap();
        assert!(!is_deeper(&most, MAX_DEPTH));
        assert!(is_deeper(&json!({ "a": most }), MAX_DEPTH));
        assert!(parse(&nested(MAX_DEPTH + 1), 1000).is_err());
        assert!(argument(&nested(MAX_ARGUMENTS_DEPTH)).is_ok());
        let deeper = argument(&nested(MAX_ARGUMENTS_DEPTH + 1)).unwrap_err();
        assert!(
            deeper.to_string().contains("nested more than 64 deep"),
            "{deeper}"
        );
    }

    #[test]
    fn what_is_nested_too_deeply_is_refused() {
        for most in [1, MAX_ARGUMENTS] {
            let deep = "[".repeat(10_000) + &"]".repeat(10_000);
            assert!(parse(&deep, most).is_err());
        }
    }

    #[test]
    fn a_name_that_is_there_twice_is_refused() {
        for text in [
            r#"{"a": 1, "a": 2}"#,
            r#"{"a": {"b": 1, "b": 1}}"#,
            r#"[{"a": 1, "\u0061": 2}]"#,
        ] {
            let error = parse(text, MAX_ARGUMENTS).unwrap_err().to_string();
            assert!(error.contains("is there twice"), "{text}: {error}");
        }
        assert!(parse(r#"[{"a": 1}, {"a": 2}]"#, MAX_ARGUMENTS).is_ok());
        let long = "x".repeat(MAX_NAME + 1);
        let text = format!(r#"{{"{long}": 1, "{long}": 2}}"#);
        let error = parse(&text, MAX_ARGUMENTS).unwrap_err().to_string();
        assert!(
            error.starts_with("a name of 101 bytes is there twice"),
            "{error}"
        );
    }

    #[test]
    fn a_number_that_would_be_rounded_travels_as_its_text() {
        for (given, sent) in [
            ("1", json!(1)),
            ("-12.5", json!(-12.5)),
            ("9007199254740992", json!(9_007_199_254_740_992_u64)),
            ("9007199254740993", json!("9007199254740993")),
            ("-9007199254740993", json!("-9007199254740993")),
            (
                "123456789012345678901234567890",
                json!("123456789012345678901234567890"),
            ),
            ("0.1234567890123456789", json!("0.1234567890123456789")),
            ("0.30000000000000004", json!(0.300_000_000_000_000_04)),
            ("1.50000000000000000000", json!(1.5)),
            ("0.000000000000000000001", json!(1e-21)),
            ("1e21", json!(1e21)),
            ("10000000000000000000000.0", json!(1e22)),
            (
                "[1.00000000000000000001e-5]",
                json!(["1.00000000000000000001e-5"]),
            ),
            (
                r#""9007199254740993 \" 9007199254740993""#,
                json!("9007199254740993 \" 9007199254740993"),
            ),
            (
                r#"{"9007199254740993": 9007199254740993 }"#,
                json!({ "9007199254740993": "9007199254740993" }),
            ),
        ] {
            assert_eq!(argument(given).unwrap(), sent, "{given}");
        }
        for bad in [
            "00000000000000000000001",
            "{1234567890123456789012: 1}",
            r#"{"a": 1, 1234567890123456789012: 1}"#,
            "1.2.3.4.5.6.7.8.9.10.11",
            "12345678901234567890 1",
        ] {
            assert!(argument(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn arguments_are_an_object() {
        let error = arguments("[1]").unwrap_err().to_string();
        assert!(error.contains("expected a JSON object"), "{error}");
        assert_eq!(arguments(r#"{"a": 1}"#).unwrap()["a"], 1);
    }
}
