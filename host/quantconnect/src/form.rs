//! Arguments as a form, for endpoints that are known to take one: nested values have brackets in their names, as in
//! `files[0][name]`.
//!
//! Invariant: no argument is left out. An empty list or object is an empty text, by which the cloud clears a setting.

use serde_json::{Map, Value};

/// The body of a form with these arguments.
pub(crate) fn encoded(arguments: &Map<String, Value>) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs(arguments))
        .finish()
}

/// The fields of the form, in order. An object is a list of its keys and values, which is how the cloud takes
/// parameters.
fn pairs(arguments: &Map<String, Value>) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for (name, value) in arguments {
        match value {
            Value::Null => {}
            Value::Array(items) if items.is_empty() => pairs.push((name.clone(), String::new())),
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    match item {
                        Value::Object(fields) => {
                            pairs.extend(fields.iter().map(|(field, value)| {
                                (format!("{name}[{at}][{field}]"), text(value))
                            }))
                        }
                        scalar => pairs.push((format!("{name}[{at}]"), text(scalar))),
                    }
                }
            }
            Value::Object(fields) if fields.is_empty() => pairs.push((name.clone(), String::new())),
            Value::Object(fields) => {
                for (at, (key, value)) in fields.iter().enumerate() {
                    pairs.push((format!("{name}[{at}][key]"), key.clone()));
                    pairs.push((format!("{name}[{at}][value]"), text(value)));
                }
            }
            scalar => pairs.push((name.clone(), text(scalar))),
        }
    }
    pairs
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn nested_values_have_brackets_and_empty_ones_are_sent() {
        let arguments = json!({
            "projectId": 7,
            "versionId": -1,
            "codeSourceId": null,
            "parameters": { "fast": "5", "slow": 20 },
            "files": [{ "name": "main.py", "content": "a & b\n" }],
            "libraries": [3, 4],
            "nothing": {},
        });
        let pairs = pairs(arguments.as_object().unwrap());
        let pairs: Vec<(&str, &str)> = pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [
                ("projectId", "7"),
                ("versionId", "-1"),
                ("parameters[0][key]", "fast"),
                ("parameters[0][value]", "5"),
                ("parameters[1][key]", "slow"),
                ("parameters[1][value]", "20"),
                ("files[0][name]", "main.py"),
                ("files[0][content]", "a & b\n"),
                ("libraries[0]", "3"),
                ("libraries[1]", "4"),
                ("nothing", ""),
            ]
        );
    }

    proptest! {
        /// Whatever a text contains, the other side reads the same text, and no other field.
        #[test]
        fn a_text_cannot_add_or_change_a_field(name in "\\PC{0,20}", content in "\\PC*") {
            let arguments = json!({ "files": [{ "name": name, "content": content }] });
            let body = encoded(arguments.as_object().unwrap());
            let read: Vec<(String, String)> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
            prop_assert_eq!(read, [
                ("files[0][name]".to_owned(), name),
                ("files[0][content]".to_owned(), content),
            ]);
        }
    }
}
