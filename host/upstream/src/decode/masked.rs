//! Finds the words of a refusal that are the server's own.
//!
//! A refusal repeats its subject: "The file 'too many requests.py' already exists". A plugin chooses those words, and must
//! not use them to influence how a failure is classified: whether it is caused by the account, or whether a write is
//! retried.
//!
//! Invariant: texts from a call's arguments that a refusal repeats are masked before it is classified.

use serde_json::{Map, Value};

/// Replaces the call's own words. It is part of no phrase that is searched for.
pub(super) const ARGUMENT_MASK: char = '\u{fffc}';

/// Minimum length in bytes of an argument that is masked. A shorter one has no meaning and occurs everywhere by chance.
const MIN_MASKED_LEN: usize = 3;

/// Maximum length in bytes of a refusal that is classified. The known ones are short.
const MAX_CLASSIFIED_LEN: usize = 4_000;

/// A refusal in lower case, with [`ARGUMENT_MASK`] for what it repeats of the call's arguments; empty, and so
/// unclassifiable, if it is too long.
pub(super) fn mask(words: &str, arguments: &Map<String, Value>) -> String {
    let words = words.trim();
    if words.len() > MAX_CLASSIFIED_LEN {
        return String::new();
    }
    let mut texts = Vec::new();
    for (key, value) in arguments {
        collect(key, value, &mut texts);
    }
    // Longer texts first, since they may contain others.
    texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
    let mut masked = words.to_ascii_lowercase();
    let mask = String::from(ARGUMENT_MASK);
    for text in texts {
        let text = text.to_ascii_lowercase();
        if masked.contains(&text) {
            masked = masked.replace(&text, &mask);
        }
        // As Python and JSON escape it.
        let escaped = text.escape_debug().to_string();
        if escaped != text && masked.contains(&escaped) {
            masked = masked.replace(&escaped, &mask);
        }
    }
    masked
}

/// Collects the texts of a value that a refusal may repeat. A field's name is included only if it is not a usual one.
fn collect<'a>(key: &'a str, value: &'a Value, into: &mut Vec<&'a str>) {
    let is_usual = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.chars().all(is_usual) {
        push(key, into);
    }
    match value {
        Value::String(text) => push(text.trim(), into),
        Value::Array(list) => list.iter().for_each(|value| collect("", value, into)),
        Value::Object(map) => map
            .iter()
            .for_each(|(key, value)| collect(key, value, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn push<'a>(text: &'a str, into: &mut Vec<&'a str>) {
    if (MIN_MASKED_LEN..=MAX_CLASSIFIED_LEN).contains(&text.len()) {
        into.push(text);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_refusal_repeats_of_the_arguments_is_gone() {
        let masked = |words: &str, arguments: Value| {
            super::mask(words, arguments.as_object().unwrap()).replace(ARGUMENT_MASK, "_")
        };
        for (words, arguments, left) in [
            (
                "The file 'HTTP 401.py' already exists",
                json!({ "name": "http 401.PY" }),
                "the file '_' already exists",
            ),
            (
                "No abc and no xabcx.",
                json!({ "a": "abc", "b": ["xabcx"] }),
                "no _ and no _.",
            ),
            (
                "Bad: {\"a\\nb\": 1}",
                json!({ "command": { "a\nb": 1 } }),
                "bad: {\"_\": 1}",
            ),
            // Neither short texts nor names of fields.
            ("No name", json!({ "name": "No" }), "no name"),
        ] {
            assert_eq!(masked(words, arguments), left, "{words}");
        }
        assert_eq!(masked(&"x".repeat(MAX_CLASSIFIED_LEN + 1), json!({})), "");
    }
}
