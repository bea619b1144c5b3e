//! JSON that a guest wrote, as values of the host's.
//!
//! A value takes some seventy bytes in the host, and two bytes of text are one: text that a guest may hand over would
//! become gigabytes that are in nobody's budget. So values are counted before any is made, where there can be too many.
//!
//! Invariant: what a guest wrote becomes no more than so many values, nested no deeper than the parser allows (127).

use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// The most values in the arguments of a call.
pub(crate) const ARGUMENTS: usize = 20_000;
/// For so many bytes that an output may have, it may have a value.
pub(crate) const BYTES: u64 = 16;

/// How deep values may be nested: as deep as the parser takes them.
pub(crate) const DEPTH: usize = 127;

/// Whether a value is nested deeper than that. It looks no further, so its stack is bounded.
pub(crate) fn is_deeper(value: &Value, depth: usize) -> bool {
    let left = depth.checked_sub(1);
    let too_deep = |value: &Value| left.is_none_or(|left| is_deeper(value, left));
    match value {
        Value::Array(items) => left.is_none() || items.iter().any(too_deep),
        Value::Object(members) => left.is_none() || members.values().any(too_deep),
        _ => false,
    }
}

/// Makes values of a text, if they are no more than `most`.
///
/// # Errors
/// When it is not JSON, not of the wanted type, or has more values.
pub(crate) fn parse<T: DeserializeOwned>(text: &str, most: usize) -> serde_json::Result<T> {
    // Each takes at least a byte.
    if text.len() > most {
        let mut counting = serde_json::Deserializer::from_str(text);
        Count { seen: &mut 0, most }.deserialize(&mut counting)?;
        counting.end()?;
    }
    serde_json::from_str(text)
}

/// Counts values without making them; a name of an object's counts as one.
struct Count<'a> {
    seen: &'a mut usize,
    most: usize,
}

impl Count<'_> {
    fn again(&mut self) -> Count<'_> {
        Count {
            seen: self.seen,
            most: self.most,
        }
    }

    fn one<E: serde::de::Error>(self) -> Result<(), E> {
        *self.seen += 1;
        if *self.seen > self.most {
            return Err(E::custom(format_args!(
                "it has more than {} values",
                self.most
            )));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Count<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Count<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.one()
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        self.one()
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        self.one()
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        self.one()
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        self.one()
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        self.one()
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(self.again())?.is_some() {}
        self.one()
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        while members.next_key_seed(self.again())?.is_some() {
            members.next_value_seed(self.again())?;
        }
        self.one()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, json};

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
        fn so_many_values_are_made_and_not_one_more(value in any_json()) {
            let (text, count) = (value.to_string(), values(&value));
            let plain: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(parse::<Value>(&text, count).unwrap(), plain);
            prop_assert!(parse::<Value>(&text, count - 1).is_err());
        }

        #[test]
        fn what_is_no_json_is_refused_in_the_parsers_words(text in ".{0,40}", most in 0usize..4) {
            if let Err(error) = serde_json::from_str::<Value>(&text) {
                let refused = parse::<Value>(&text, most).unwrap_err().to_string();
                prop_assert!(refused == error.to_string() || refused.contains("more than"), "{}", refused);
            }
        }
    }

    #[test]
    fn too_many_are_told_how_many_there_may_be() {
        let text = json!({ "a": vec![0; 20_000] }).to_string();
        let error = parse::<Map<String, Value>>(&text, ARGUMENTS).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("it has more than 20000 values"),
            "{error}"
        );
        let long = json!({ "content": "[0,".repeat(100_000) }).to_string();
        assert!(
            parse::<Map<String, Value>>(&long, 3).is_ok(),
            "text is one value"
        );
    }

    #[test]
    fn what_the_parser_takes_is_not_too_deep_and_one_more_is() {
        let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
        let most: Value = parse(&nested(DEPTH), 1000).unwrap();
        assert!(!is_deeper(&most, DEPTH));
        assert!(is_deeper(&json!({ "a": most }), DEPTH));
        assert!(parse::<Value>(&nested(DEPTH + 1), 1000).is_err());
    }

    #[test]
    fn what_is_nested_too_deeply_is_refused() {
        for most in [1, ARGUMENTS] {
            let deep = "[".repeat(10_000) + &"]".repeat(10_000);
            assert!(parse::<Value>(&deep, most).is_err());
        }
    }
}
