//! A plugin's JSON Schemas: untrusted programs that the host runs over untrusted inputs.
//!
//! Invariant: how long a check takes at most is known before it begins, from the size of the value
//! and that of the schema, and it is never more than a second or two. So a schema is bounded once its
//! references are followed; references go only within it and never in a circle; patterns are of the
//! kind that takes time in proportion to their program and to the text; and the more a schema stands
//! for, the fewer values it is checked against, and the less text the larger its patterns are.

mod survey;

use std::sync::Arc;

use jsonschema::{PatternOptions, ValidationOptions, Validator};
use serde_json::Value;
use tokio::sync::Semaphore;

use self::survey::{Survey, Weight};
use crate::{json, text};

/// The largest schema, in bytes.
const SIZE: usize = 64 << 10;
/// How many schemas may be tried on how many values, the one times the other.
const WORK: u64 = 1 << 24;
/// Bytes of a pattern's program, times bytes of text, that take as long as one schema on one value.
/// In the worst case each state of a program is looked at for each byte (measured: 15 ns a state).
const STEP: u64 = 128;
/// Work that takes a few milliseconds at most, and mostly some microseconds.
const LITTLE: u64 = 1 << 16;
/// The largest program of a pattern, in bytes; what is remembered of its matching has as much again.
const PATTERN: usize = 64 << 10;
/// The longest message about a value that does not fit, in bytes.
const MESSAGE: usize = 300;

/// The place in a value, and what is wrong there.
pub(crate) type Misfit = (String, String);

/// How much there is to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// So little that it can be done on the spot.
    Little,
    /// So much that it takes a thread which may be busy for a second or two.
    Much,
}

/// A schema that is ready for use.
#[derive(Debug)]
pub(crate) struct Schema {
    /// As the plugin wrote it.
    pub(crate) value: Value,
    weight: Weight,
    validator: Validator,
}

impl Schema {
    /// Reads a schema; the error says what is wrong with it. Patterns may take a second to compile.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > SIZE {
            return Err(format!(
                "it has {} bytes; at most {SIZE} are allowed",
                text.len()
            ));
        }
        let value: Value = json::input(text).map_err(|error| {
            let why = json::problem(&error);
            match why.starts_with("not JSON") {
                true => format!("it is {why}"),
                false => why,
            }
        })?;
        if !value.is_object() {
            return Err("it is not a JSON object".to_owned());
        }
        let survey = Survey::of(&value)?;
        let validator = options(PATTERN).build(&value).map_err(|error| {
            let mut why = text::line(&error.to_string(), MESSAGE);
            if survey.unmeasured {
                why.push_str(&format!(
                    "; a pattern's program may have {PATTERN} bytes, and lookaround and references are not understood"
                ));
            }
            why
        })?;
        Ok(Self {
            weight: survey.weight,
            value,
            validator,
        })
    }

    /// How much there is to check in a value; the error is that it is too much.
    pub(crate) fn work(&self, value: &Value) -> Result<Work, Misfit> {
        let Weight { schemas, programs } = self.weight;
        let mut size = Size::default();
        size.add(value);
        let too_much = |why| Err((String::new(), why));
        let most = WORK / schemas;
        if size.values > most {
            return too_much(format!(
                "it has {} values; by a schema like this one, {most} are checked",
                size.values
            ));
        }
        let most = WORK.saturating_mul(STEP) / programs.max(1);
        if size.text > most {
            return too_much(format!(
                "it has {} bytes of text; by a schema with patterns like these, {most} are checked",
                size.text
            ));
        }
        // Neither product is larger than what was just compared.
        let work = size.values * schemas + size.text * programs / STEP;
        Ok(if work > LITTLE {
            Work::Much
        } else {
            Work::Little
        })
    }

    /// Checks a value, whatever the work.
    pub(crate) fn validate(&self, value: &Value) -> Result<(), Misfit> {
        self.validator.validate(value).map_err(|error| {
            (
                text::line(error.instance_path().as_str(), MESSAGE),
                text::line(&error.masked().to_string(), MESSAGE),
            )
        })
    }

    /// Checks a value on a thread that may be busy, once each of these has a place. What was begun
    /// goes on and keeps its places when the future is dropped.
    pub(crate) async fn validate_aside(
        self: Arc<Self>,
        value: Value,
        places: [&Arc<Semaphore>; 2],
    ) -> Result<(), Misfit> {
        // They are never closed.
        let [first, second] = places.map(Arc::clone);
        let held = (first.acquire_owned().await, second.acquire_owned().await);
        let checking = tokio::task::spawn_blocking(move || {
            let fits = self.validate(&value);
            drop(held);
            fits
        });
        checking.await.unwrap_or_else(|error| {
            let why = format!("it could not be checked: {error}");
            Err((String::new(), why))
        })
    }
}

/// How schemas are read, with programs of patterns up to a size.
fn options(program: usize) -> ValidationOptions<'static> {
    jsonschema::options().with_pattern_options(
        PatternOptions::regex()
            .size_limit(program)
            .dfa_size_limit(PATTERN),
    )
}

/// How large a value is.
#[derive(Debug, Default)]
struct Size {
    /// The values in it, itself included.
    values: u64,
    /// Bytes of its texts and keys, each with one more.
    text: u64,
}

impl Size {
    fn add(&mut self, value: &Value) {
        self.values += 1;
        match value {
            Value::String(text) => self.text(text),
            Value::Array(items) => items.iter().for_each(|item| self.add(item)),
            Value::Object(fields) => {
                for (name, field) in fields {
                    self.text(name);
                    self.add(field);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn text(&mut self, text: &str) {
        self.text += u64::try_from(text.len()).unwrap_or(u64::MAX) + 1;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    impl Schema {
        fn check(&self, value: &Value) -> Result<(), Misfit> {
            self.work(value)?;
            self.validate(value)
        }
    }

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
            (json!({ "pattern": "(a{1000}){1000}" }), "program may have"),
            (json!({ "pattern": states(3000) }), "program may have"),
            (
                json!({ "patternProperties": { states(3000): {} } }),
                "program may have",
            ),
            (
                json!({ "anyOf": vec![json!({ "pattern": states(300) }); 8] }),
                "bytes together",
            ),
            (json!({ "pattern": "\\cA".repeat(15_000) }), "more than 16"),
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

    /// A pattern of which so many states stay possible as long as a text is printable.
    fn states(count: usize) -> String {
        format!("([!-~][ -~]{{{count}}}[^ -~]|[ -~]{{{count}}}[^ -~][!-~])")
    }

    #[test]
    fn the_longest_text_that_a_pattern_is_tried_on_takes_a_moment() {
        for pattern in ["^(a+)+$".to_owned(), states(100), states(300)] {
            let schema = json!({ "properties": { "source": { "pattern": pattern } } });
            let schema = Schema::parse(&schema.to_string()).unwrap();
            let (mut fits, mut too_long) = (0, 4 << 20);
            let input = |length: usize| json!({ "source": format!("{}!", "a".repeat(length)) });
            if let Ok(work) = schema.work(&input(too_long)) {
                assert_eq!(work, Work::Much);
                fits = too_long;
            }
            while fits + 1 < too_long {
                let length = usize::midpoint(fits, too_long);
                match schema.work(&input(length)) {
                    Ok(_) => fits = length,
                    Err((place, why)) => {
                        assert_eq!(place, "");
                        assert!(why.contains("bytes of text"), "{why}");
                        too_long = length;
                    }
                }
            }
            assert!(fits > 10_000, "{pattern}: {fits}");
            // A part of it says how long it takes: without optimisation, all takes a minute.
            let part = fits / 32;
            let begun = std::time::Instant::now();
            let (place, _) = schema.check(&input(part)).unwrap_err();
            let took = begun.elapsed();
            println!("{took:?} for {part} of {fits} bytes of text and {pattern}");
            assert_eq!(place, "/source");
            assert!(took < std::time::Duration::from_secs(5), "{took:?}");
        }
    }

    #[test]
    fn a_pattern_counts_as_often_as_it_is_referred_to() {
        let text = json!("a".repeat(50_000));
        let schema = |references: usize| {
            let name = json!({ "$ref": "#/$defs/name" });
            let schema = json!({
                "allOf": vec![name; references],
                "$defs": { "name": { "pattern": "^[a-z]+[0-9]?$" } }
            });
            Schema::parse(&schema.to_string()).unwrap()
        };
        schema(10).check(&text).unwrap();
        let (_, why) = schema(1000).check(&text).unwrap_err();
        assert!(why.contains("bytes of text"), "{why}");
        assert_eq!(schema(1000).work(&json!("a")), Ok(Work::Little));
    }

    #[test]
    fn a_small_input_is_checked_on_the_spot() {
        let field = |at: usize| {
            (
                format!("f{at}"),
                json!({ "type": "string", "pattern": "^[a-z0-9-]{1,64}$", "maxLength": 64 }),
            )
        };
        let fields: serde_json::Map<_, _> = (0..10).map(field).collect();
        let schema = json!({ "type": "object", "properties": fields });
        let schema = Schema::parse(&schema.to_string()).unwrap();
        let input = |length: usize| {
            let text = "a".repeat(length);
            let fields = (0..10).map(|at| (format!("f{at}"), json!(text)));
            Value::Object(fields.collect())
        };
        assert_eq!(schema.work(&input(10)), Ok(Work::Little));
        assert_eq!(schema.work(&input(1000)), Ok(Work::Much));
        schema.check(&input(64)).unwrap();
    }
}
