//! The words of a refusal that are the server's own.
//!
//! A refusal repeats what it is about: "The file 'too many requests.py' already exists". Those words are a plugin's, and a
//! plugin must not decide by them what a failure is: whether it is the account's, or whether a write is sent again.
//!
//! Invariant: of every text of a call's arguments that a refusal repeats, nothing is left in what is judged.

use serde_json::{Map, Value};

/// What stands where the call's own words stood. It is part of no phrase that is looked for.
pub(super) const MASK: char = '\u{fffc}';

/// The shortest argument that is taken out, in bytes. A shorter one says nothing and stands everywhere by chance.
const SHORTEST: usize = 3;

/// The longest refusal whose words are looked at, in bytes. Those that say what they are are short.
const LONGEST: usize = 4_000;

/// A refusal in lower case, with [`MASK`] for what it repeats of the call's arguments; empty, and so about nothing that
/// is known, if it is too long to be judged.
pub(super) fn judged(words: &str, arguments: &Map<String, Value>) -> String {
    let words = words.trim();
    if words.len() > LONGEST {
        return String::new();
    }
    let mut given = Vec::new();
    for (key, value) in arguments {
        collect(key, value, &mut given);
    }
    // One that holds another has to go first.
    given.sort_by_key(|text| std::cmp::Reverse(text.len()));
    let mut judged = words.to_ascii_lowercase();
    let mask = String::from(MASK);
    for text in given {
        let text = text.to_ascii_lowercase();
        if judged.contains(&text) {
            judged = judged.replace(&text, &mask);
        }
        // As Python and JSON write it.
        let escaped = text.escape_debug().to_string();
        if escaped != text && judged.contains(&escaped) {
            judged = judged.replace(&escaped, &mask);
        }
    }
    judged
}

/// The texts of a value that a refusal may repeat. A name of a field is one only if it is no usual name.
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
    if (SHORTEST..=LONGEST).contains(&text.len()) {
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
        let judged = |words: &str, arguments: Value| {
            super::judged(words, arguments.as_object().unwrap()).replace(MASK, "_")
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
            // Neither short ones nor the names of fields.
            ("No name", json!({ "name": "No" }), "no name"),
        ] {
            assert_eq!(judged(words, arguments), left, "{words}");
        }
        assert_eq!(judged(&"x".repeat(LONGEST + 1), json!({})), "");
    }
}
