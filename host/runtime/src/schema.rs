//! A plugin's JSON Schemas: untrusted programs that the host runs over untrusted inputs.
//!
//! Invariant: checking a value takes time in proportion to its size, for every schema that was let
//! in, and never more than a moment. So a schema is bounded once its references are followed;
//! references go only within it and never in a circle; patterns are of the kind that takes linear
//! time; and the more a schema stands for, the fewer values it is checked against.

use std::collections::HashMap;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use crate::text;

/// The largest schema, in bytes.
const SIZE: usize = 64 << 10;
/// How deep it may be nested, references followed.
const DEPTH: usize = 64;
/// How many schemas it may stand for, references followed.
const WEIGHT: u64 = 20_000;
/// By how much the schemas below `unevaluatedProperties` or `unevaluatedItems` count more: what was
/// evaluated is found out by evaluating it again, at each level once more (measured: 2.7 times).
const AGAIN: u64 = 4;
/// How many schemas may be tried on how many values, the one times the other.
const WORK: u64 = 1 << 24;
/// The most patterns.
const PATTERNS: usize = 64;
/// Memory of one compiled pattern, in bytes.
const PATTERN: usize = 1 << 20;
/// The longest message about a value that does not fit, in bytes.
const MESSAGE: usize = 300;

/// The dialects that are understood.
const DRAFTS: [&str; 3] = [
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema#",
];

/// A schema that is ready for use.
#[derive(Debug)]
pub(crate) struct Schema {
    /// As the plugin wrote it.
    pub(crate) value: Value,
    /// The most values that it is checked against.
    values: u64,
    validator: Validator,
}

impl Schema {
    /// Reads a schema; the error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > SIZE {
            return Err(format!(
                "it has {} bytes; at most {SIZE} are allowed",
                text.len()
            ));
        }
        let value: Value =
            serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
        if !value.is_object() {
            return Err("it is not a JSON object".to_owned());
        }
        let weight = Survey::of(&value)?;
        let validator = jsonschema::options()
            .with_pattern_options(
                PatternOptions::regex()
                    .size_limit(PATTERN)
                    .dfa_size_limit(PATTERN),
            )
            .build(&value)
            .map_err(|error| text::line(&error.to_string(), MESSAGE))?;
        Ok(Self {
            value,
            values: WORK / weight,
            validator,
        })
    }

    /// Checks a value; the error is the place in it and what is wrong there.
    pub(crate) fn check(&self, value: &Value) -> Result<(), (String, String)> {
        let values = count(value);
        if values > self.values {
            let most = self.values;
            let why =
                format!("it has {values} values; by a schema like this one, {most} are checked");
            return Err((String::new(), why));
        }
        self.validator.validate(value).map_err(|error| {
            (
                text::line(error.instance_path().as_str(), MESSAGE),
                text::line(&error.masked().to_string(), MESSAGE),
            )
        })
    }
}

/// How many values there are in a value, itself included.
fn count(value: &Value) -> u64 {
    match value {
        Value::Array(items) => items.iter().map(count).sum::<u64>() + 1,
        Value::Object(fields) => fields.values().map(count).sum::<u64>() + 1,
        _ => 1,
    }
}

/// Walks a schema before the library sees it.
struct Survey<'a> {
    root: &'a Value,
    patterns: usize,
    /// What each reference stands for, once it is known.
    known: HashMap<&'a str, u64>,
    /// The references that are being followed.
    open: Vec<&'a str>,
}

impl<'a> Survey<'a> {
    /// How many schemas a schema stands for, at least one.
    fn of(root: &'a Value) -> Result<u64, String> {
        let mut survey = Self {
            root,
            patterns: 0,
            known: HashMap::new(),
            open: Vec::new(),
        };
        survey.weigh(root, 0)
    }

    /// How many schemas a part of the schema stands for.
    fn weigh(&mut self, part: &'a Value, depth: usize) -> Result<u64, String> {
        if depth > DEPTH {
            return Err(format!("it is nested deeper than {DEPTH}"));
        }
        let mut weight: u64 = 1;
        match part {
            Value::Array(items) => {
                for item in items {
                    weight = weight.saturating_add(self.weigh(item, depth + 1)?);
                }
            }
            Value::Object(fields) => {
                for (name, field) in fields {
                    let added = match (name.as_str(), field) {
                        ("$ref", Value::String(target)) => self.follow(target, depth)?,
                        ("$dynamicRef" | "$recursiveRef", _) => {
                            return Err(format!("`{name}` is not allowed; use `$ref`"));
                        }
                        // It would change what the references below it mean.
                        ("$id", Value::String(_)) => {
                            return Err("`$id` is not allowed".to_owned());
                        }
                        ("$schema", Value::String(draft)) if !DRAFTS.contains(&draft.as_str()) => {
                            return Err(format!("`$schema` must be one of {}", DRAFTS.join(", ")));
                        }
                        ("pattern", Value::String(_)) => {
                            self.patterns += 1;
                            1
                        }
                        ("patternProperties", Value::Object(patterns)) => {
                            self.patterns += patterns.len();
                            self.weigh(field, depth + 1)?
                        }
                        _ => self.weigh(field, depth + 1)?,
                    };
                    weight = weight.saturating_add(added);
                }
                for name in ["unevaluatedProperties", "unevaluatedItems"] {
                    if fields.contains_key(name) {
                        weight = weight.saturating_mul(AGAIN);
                    }
                }
            }
            _ => {}
        }
        if self.patterns > PATTERNS {
            return Err(format!("it has more than {PATTERNS} patterns"));
        }
        if weight > WEIGHT {
            return Err(format!(
                "it stands for more than {WEIGHT} schemas once its references are followed"
            ));
        }
        Ok(weight)
    }

    /// What a reference stands for.
    fn follow(&mut self, target: &'a str, depth: usize) -> Result<u64, String> {
        if let Some(weight) = self.known.get(target) {
            return Ok(*weight);
        }
        let shown = text::line(target, 100);
        let Some(pointer) = target.strip_prefix('#') else {
            return Err(format!(
                "`$ref` to `{shown}`: references go only within the schema (`#/$defs/…`)"
            ));
        };
        if self.open.contains(&target) {
            return Err(format!(
                "`$ref` to `{shown}` goes in a circle; a schema must be finite"
            ));
        }
        let part = self
            .root
            .pointer(pointer)
            .ok_or_else(|| format!("`$ref` to `{shown}`: there is no such place in it"))?;
        self.open.push(target);
        let weight = self.weigh(part, depth + 1)?;
        self.open.pop();
        self.known.insert(target, weight);
        Ok(weight)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(schema: &Value) -> String {
        Schema::parse(&schema.to_string()).unwrap_err()
    }

    #[test]
    fn a_value_that_does_not_fit_is_named_by_its_place() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": { "project": { "$ref": "#/$defs/id" }, "name": { "type": "string", "pattern": "^[a-z]+$" } },
            "required": ["project"],
            "$defs": { "id": { "type": "integer", "minimum": 0 } }
        });
        let schema = Schema::parse(&schema.to_string()).unwrap();
        schema.check(&json!({ "project": 1, "name": "a" })).unwrap();
        let (place, message) = schema.check(&json!({ "project": -1 })).unwrap_err();
        assert_eq!(place, "/project");
        assert!(message.contains("minimum"), "{message}");
        let (place, message) = schema.check(&json!({})).unwrap_err();
        assert_eq!(place, "");
        assert!(message.contains("project"), "{message}");
        let long = json!({ "project": 1, "name": "9".repeat(100_000) });
        let (place, message) = schema.check(&long).unwrap_err();
        assert_eq!(place, "/name");
        assert!(message.len() <= MESSAGE + 3, "{message}");
    }

    #[test]
    fn what_could_hurt_the_host_is_refused() {
        let mut deep = json!({});
        for _ in 0..100 {
            deep = json!({ "not": deep });
        }
        let doubling: serde_json::Map<_, _> = (0..18)
            .map(|at| {
                let next = json!({ "$ref": format!("#/$defs/d{}", at + 1) });
                (format!("d{at}"), json!({ "allOf": [next, next] }))
            })
            .chain([("d18".to_owned(), json!({}))])
            .collect();
        let mut again = json!({});
        for _ in 0..20 {
            again = json!({ "if": again, "unevaluatedProperties": {} });
        }
        let patterns: Vec<_> = (0..100)
            .map(|at| json!({ "pattern": at.to_string() }))
            .collect();
        for (schema, words) in [
            (json!({ "$ref": "#" }), "circle"),
            (
                json!({ "properties": { "a": { "$ref": "#/properties/a" } } }),
                "circle",
            ),
            (
                json!({ "$ref": "https://example.com/schema" }),
                "only within",
            ),
            (json!({ "$ref": "other.json" }), "only within"),
            (json!({ "$ref": "#/nowhere" }), "no such place"),
            (json!({ "$dynamicRef": "#a" }), "not allowed"),
            (json!({ "$id": "https://example.com/" }), "not allowed"),
            (
                json!({ "$schema": "https://example.com/" }),
                "must be one of",
            ),
            (deep, "nested deeper"),
            (
                json!({ "$ref": "#/$defs/d0", "$defs": doubling }),
                "stands for more",
            ),
            (again, "stands for more"),
            (json!({ "anyOf": patterns }), "patterns"),
            (json!({ "pattern": "(a{1000}){1000}" }), ""),
            (json!({ "pattern": "(a)\\1" }), ""),
            (json!({ "type": "nonsense" }), ""),
            (json!({ "description": "x".repeat(100_000) }), "bytes"),
            (json!([]), "object"),
        ] {
            let refusal = refusal(&schema);
            assert!(refusal.contains(words), "{words}: {refusal}");
        }
        assert!(Schema::parse("{").unwrap_err().contains("not JSON"));
    }

    #[test]
    fn the_larger_a_schema_the_smaller_what_it_is_checked_against() {
        let input = json!(vec![1999; 50_000]);
        let schema = Schema::parse(r#"{ "items": { "maximum": 2000 } }"#).unwrap();
        schema.check(&input).unwrap();
        let consts: Vec<_> = (0..2000).map(|at| json!({ "const": at })).collect();
        let schema = json!({ "items": { "anyOf": consts } });
        let schema = Schema::parse(&schema.to_string()).unwrap();
        let (place, message) = schema.check(&input).unwrap_err();
        assert_eq!(place, "");
        assert!(message.contains("it has 50001 values"), "{message}");
        schema.check(&json!([1, 1999])).unwrap();
    }

    #[test]
    fn a_pattern_takes_linear_time() {
        let schema = Schema::parse(r#"{ "pattern": "^(a+)+$" }"#).unwrap();
        let begun = std::time::Instant::now();
        assert!(
            schema
                .check(&json!(format!("{}!", "a".repeat(100_000))))
                .is_err()
        );
        assert!(begun.elapsed() < std::time::Duration::from_secs(2));
    }
}
