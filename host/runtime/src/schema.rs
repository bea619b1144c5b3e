//! A plugin's JSON Schemas: untrusted programs that the host runs over untrusted inputs and outputs.
//!
//! Invariant: the maximum duration of a check is known before it begins, from the sizes of value
//! and schema, and is never more than a second or two. So a schema's size is bounded with its
//! references followed; references stay within it and never form a cycle; patterns must be matched
//! in time proportional to their program and to the text; and the larger a schema is, the fewer
//! values it is checked against, and the less text its patterns are matched against.

mod survey;

use std::sync::Arc;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use qchost_text::Redactor;
use qchost_traffic::CpuMeter;
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use self::survey::{MAX_PATTERN, Survey, Weight, options};
use crate::{json, text};

/// Maximum bytes of a schema.
const MAX_SIZE: usize = 64 << 10;
/// Maximum product of schemas and values.
const MAX_WORK: u64 = 1 << 24;
/// Bytes of a pattern's program, times bytes of text, that take as long as one schema on one value.
/// In the worst case each state of a program is visited for each byte (measured: 15 ns per state).
const PATTERN_STEP: u64 = 128;
/// Work that takes a few milliseconds at most, and usually some microseconds.
const MAX_INLINE_WORK: u64 = 1 << 16;
/// Maximum bytes of a message about a value that does not match.
const MAX_MESSAGE: usize = 300;

/// The location in a value, and the problem there.
pub(crate) type Misfit = (String, String);

/// The amount of work of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// It can be checked inline.
    Little,
    /// It may take a second or two, so it needs a thread that may block.
    Much,
}

/// Limits values that are checked aside at a time. Inputs and outputs are counted apart, so that neither waits for the other.
#[derive(Debug)]
pub(crate) struct CheckLimits {
    pub(crate) inputs: Arc<Semaphore>,
    pub(crate) outputs: Arc<Semaphore>,
}

impl CheckLimits {
    /// Limits of `max` inputs and `max` outputs at a time.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            inputs: Arc::new(Semaphore::new(max)),
            outputs: Arc::new(Semaphore::new(max)),
        }
    }
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
    /// Parses a schema; the error says what is wrong with it. Patterns may take a second to
    /// compile.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_SIZE {
            return Err(format!(
                "it has {} bytes; at most {MAX_SIZE} are allowed",
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
        let validator = options(MAX_PATTERN).build(&value).map_err(|error| {
            let mut why = text::line(&error.to_string(), MAX_MESSAGE);
            if survey.unmeasured {
                why.push_str(&format!(
                    "; a pattern's program may have {MAX_PATTERN} bytes, and lookaround and references are not understood"
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

    /// The amount of work to check a value, or an error if it is too much.
    pub(crate) fn work(&self, value: &Value) -> Result<Work, Misfit> {
        // Nothing is asked of the value, so it need not be measured.
        if self.value.as_object().is_some_and(Map::is_empty) {
            return Ok(Work::Little);
        }
        let Weight { schemas, programs } = self.weight;
        let mut size = Size::default();
        size.add(value);
        let too_much = |why| Err((String::new(), why));
        let max = MAX_WORK / schemas;
        if size.values > max {
            return too_much(format!(
                "it has {} values; by a schema like this one, {max} are checked",
                size.values
            ));
        }
        let max = MAX_WORK.saturating_mul(PATTERN_STEP) / programs.max(1);
        if size.text > max {
            return too_much(format!(
                "it has {} bytes of text; by a schema with patterns like these, {max} are checked",
                size.text
            ));
        }
        // Neither product is larger than what was just compared.
        let work = size.values * schemas + size.text * programs / PATTERN_STEP;
        Ok(if work > MAX_INLINE_WORK {
            Work::Much
        } else {
            Work::Little
        })
    }

    /// Checks a value, whatever the work. An error repeats names of the value, without secrets.
    pub(crate) fn validate(&self, value: &Value, redactor: &Redactor) -> Result<(), Misfit> {
        self.validator.validate(value).map_err(|error| {
            let clean = |text: &str| text::clean_line(text, MAX_MESSAGE, redactor);
            (
                clean(error.instance_path().as_str()),
                clean(&error.masked().to_string()) + &self.known_keys(&error),
            )
        })
    }

    /// The keys that there are where an unknown one is refused.
    fn known_keys(&self, error: &ValidationError<'_>) -> String {
        let ValidationErrorKind::AdditionalProperties { .. } = error.kind() else {
            return String::new();
        };
        let keyword = error.schema_path().as_str();
        let properties = keyword
            .strip_suffix("/additionalProperties")
            .and_then(|parent| self.value.pointer(parent)?.get("properties")?.as_object());
        let Some(properties) = properties else {
            return String::new();
        };
        let names: Vec<&str> = properties.keys().map(String::as_str).collect();
        match names.as_slice() {
            [] => String::new(),
            names => format!("; it has: {}", text::line(&names.join(", "), MAX_MESSAGE)),
        }
    }

    /// Checks a value on a thread that may block, once it has a permit of each semaphore, and gives
    /// it back. Its processor time is charged to `meter`. Dropping the future does not stop the check, which keeps its
    /// permits until it ends.
    pub(crate) async fn validate_aside(
        self: Arc<Self>,
        value: Value,
        semaphores: [&Arc<Semaphore>; 2],
        meter: CpuMeter,
        redactor: Redactor,
    ) -> Result<Value, Misfit> {
        // They are never closed.
        let [first, second] = semaphores.map(Arc::clone);
        let permits = (first.acquire_owned().await, second.acquire_owned().await);
        let checking = tokio::task::spawn_blocking(move || {
            let fits = meter.charge_work(|| self.validate(&value, &redactor));
            drop(permits);
            fits.map(|()| value)
        });
        checking.await.unwrap_or_else(|error| {
            let why = format!("it could not be checked: {error}");
            Err((String::new(), why))
        })
    }
}

/// The size of a value.
#[derive(Debug, Default)]
struct Size {
    /// Number of values, including itself.
    values: u64,
    /// Bytes of its texts and keys, plus one for each.
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
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    impl Schema {
        fn check(&self, value: &Value) -> Result<(), Misfit> {
            self.work(value)?;
            self.validate(value, &Redactor::default())
        }
    }

    #[tokio::test]
    async fn an_output_is_checked_while_inputs_take_all_their_permits_and_its_time_is_charged() {
        let (own, all) = (CheckLimits::new(1), CheckLimits::new(1));
        let taken =
            [&own.inputs, &all.inputs].map(|it| Arc::clone(it).try_acquire_owned().unwrap());
        let schema = Schema::parse(r#"{"items":{"type":"integer"}}"#).unwrap();
        let value = json!(vec![1; 40_000]);
        let meter = CpuMeter::default();
        let checked = Arc::new(schema).validate_aside(
            value.clone(),
            [&own.outputs, &all.outputs],
            meter.clone(),
            Redactor::default(),
        );
        assert_eq!(checked.await, Ok(value));
        assert!(!meter.spent().is_zero());
        drop(taken);
    }

    #[test]
    fn no_part_of_a_secret_is_left_where_a_name_is_cut() {
        let secret = "s3cret-0123456789-abcdefghij";
        let redactor = Redactor::default();
        redactor.remember(secret.into());
        let closed = json!({ "properties": { "a": {} }, "additionalProperties": false });
        let schema = json!({ "additionalProperties": closed });
        let schema = Schema::parse(&schema.to_string()).unwrap();
        for before in MAX_MESSAGE - 80..MAX_MESSAGE {
            let name = format!("{}{secret}", "x".repeat(before));
            let value = json!({ name.clone(): { name: 1 } });
            let (path, message) = schema.validate(&value, &redactor).unwrap_err();
            assert!(path.contains("xxx") && !path.contains("s3c"), "{path}");
            assert!(message.contains("xxx"), "{message}");
            assert!(!message.contains("s3c"), "{message}");
        }
    }

    fn refusal(schema: &Value) -> String {
        Schema::parse(&schema.to_string()).unwrap_err()
    }

    #[test]
    fn a_value_that_does_not_fit_is_named_by_its_path() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": { "project": { "$ref": "#/$defs/id" }, "name": { "type": "string", "pattern": "^[a-z]+$" } },
            "required": ["project"],
            "$defs": { "id": { "type": "integer", "minimum": 0 } }
        });
        let schema = Schema::parse(&schema.to_string()).unwrap();
        schema.check(&json!({ "project": 1, "name": "a" })).unwrap();
        let (pointer, message) = schema.check(&json!({ "project": -1 })).unwrap_err();
        assert_eq!(pointer, "/project");
        assert!(message.contains("minimum"), "{message}");
        let (pointer, message) = schema.check(&json!({})).unwrap_err();
        assert_eq!(pointer, "");
        assert!(message.contains("project"), "{message}");
        let long = json!({ "project": 1, "name": "9".repeat(100_000) });
        let (pointer, message) = schema.check(&long).unwrap_err();
        assert_eq!(pointer, "/name");
        assert!(message.len() <= MAX_MESSAGE + 3, "{message}");
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_known_ones() {
        let closed = json!({
            "type": "object",
            "properties": { "fast": {}, "slow": { "$ref": "#/$defs/range" } },
            "additionalProperties": false,
            "$defs": { "range": {
                "type": "object",
                "properties": { "from": {}, "to": {} },
                "additionalProperties": false
            } }
        });
        let schema = Schema::parse(&closed.to_string()).unwrap();
        schema
            .check(&json!({ "fast": 1, "slow": { "from": 1 } }))
            .unwrap();
        let (pointer, message) = schema.check(&json!({ "fasst": 1 })).unwrap_err();
        assert_eq!(pointer, "");
        assert!(
            message.contains("fasst") && message.ends_with("; it has: fast, slow"),
            "{message}"
        );
        let (pointer, message) = schema.check(&json!({ "slow": { "till": 1 } })).unwrap_err();
        assert_eq!(pointer, "/slow");
        assert!(message.ends_with("; it has: from, to"), "{message}");
        let many: serde_json::Map<_, _> =
            (0..1000).map(|at| (format!("k{at}"), json!({}))).collect();
        let schema = json!({ "properties": many, "additionalProperties": false });
        let schema = Schema::parse(&schema.to_string()).unwrap();
        let (_, message) = schema.check(&json!({ "other": 1 })).unwrap_err();
        assert!(message.len() < 3 * MAX_MESSAGE, "{message}");
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
        let (pointer, message) = schema.check(&input).unwrap_err();
        assert_eq!(pointer, "");
        assert!(message.contains("it has 50001 values"), "{message}");
        schema.check(&json!([1, 1999])).unwrap();
    }

    /// A pattern with `count` states that stay active while a text is printable.
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
                    Err((pointer, why)) => {
                        assert_eq!(pointer, "");
                        assert!(why.contains("bytes of text"), "{why}");
                        too_long = length;
                    }
                }
            }
            assert!(fits > 10_000, "{pattern}: {fits}");
            // A part is enough to extrapolate: without optimisation, the whole takes a minute.
            let part = fits / 32;
            let begun = std::time::Instant::now();
            let (pointer, _) = schema.check(&input(part)).unwrap_err();
            let took = begun.elapsed();
            println!("{took:?} for {part} of {fits} bytes of text and {pattern}");
            assert_eq!(pointer, "/source");
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

    /// Values of every kind, a few deep.
    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-3i64..12).prop_map(Value::from),
            "[a-c~/]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c~/]{1,2}", inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_check_says_what_the_library_says_and_names_a_place_in_the_value(
            value in values(),
            at in 0usize..5,
        ) {
            let schemas = [
                json!({}),
                json!({ "type": "object" }),
                json!({ "items": { "type": "integer", "minimum": 0 } }),
                json!({ "properties": { "a": { "items": { "maxLength": 1 } } }, "additionalProperties": { "type": "string" } }),
                json!({ "anyOf": [{ "required": ["a"] }, { "type": ["array", "null"], "maxItems": 2 }] }),
            ];
            let schema = Schema::parse(&schemas[at].to_string()).unwrap();
            let fits = jsonschema::is_valid(&schemas[at], &value);
            match schema.check(&value) {
                Ok(()) => prop_assert!(fits),
                Err((place, _)) => {
                    prop_assert!(!fits);
                    prop_assert!(value.pointer(&place).is_some(), "{}", place);
                }
            }
        }
    }
}
