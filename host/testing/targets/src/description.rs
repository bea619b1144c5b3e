//! What a plugin says of itself: names and JSON Schemas, which the host runs over inputs.
//!
//! A description that is accepted says what it was given, and its schema checks any input. One that
//! is refused is refused in one bounded line. Time is bounded by libFuzzer's own limit.
//!
//! The input is a schema and, after 0xFF, the input of an action.

use qchost_policy::is_name;
use qchost_runtime::fuzzing;
use serde_json::Value;

/// The longest refusal.
const ERROR: usize = 1000;

pub(crate) fn run(data: &[u8]) {
    let mut parts = data.splitn(3, |byte| *byte == 0xff);
    let mut text = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let (schema, input, name) = (text(), text(), text());
    let name = if name.is_empty() {
        "act"
    } else {
        name.as_str()
    };
    let input: Option<Value> = serde_json::from_str(&input).ok();
    match fuzzing::describe(name, &schema, input.as_ref()) {
        Ok((description, fits)) => {
            assert!(is_name(name), "{name:?}");
            let action = &description.actions[0];
            assert_eq!(
                (description.name.as_str(), action.name.as_str()),
                (name, name)
            );
            let schema: Value = serde_json::from_str(&schema).expect("it was read before");
            assert_eq!(action.input_schema, schema);
            assert_eq!(action.output_schema, schema);
            assert_eq!(description.config_schema.as_ref(), Some(&schema));
            assert_eq!(fits.is_some(), input.is_some());
            // The same schema over the same input says the same.
            let again = fuzzing::describe(name, &schema.to_string(), input.as_ref());
            assert_eq!(again.expect("it was accepted before").1, fits);
        }
        Err(error) => crate::assert_line(&error, ERROR),
    }
}

/// The keywords of JSON Schema.
pub(crate) fn words() -> Vec<String> {
    let keywords = [
        "type",
        "properties",
        "required",
        "additionalProperties",
        "patternProperties",
        "propertyNames",
        "items",
        "prefixItems",
        "additionalItems",
        "contains",
        "minContains",
        "maxContains",
        "unevaluatedItems",
        "unevaluatedProperties",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "if",
        "then",
        "else",
        "dependentSchemas",
        "dependentRequired",
        "dependencies",
        "enum",
        "const",
        "pattern",
        "format",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minItems",
        "maxItems",
        "uniqueItems",
        "minProperties",
        "maxProperties",
        "$ref",
        "$defs",
        "definitions",
        "$schema",
        "$anchor",
        "$id",
        "$dynamicRef",
        "$dynamicAnchor",
        "$vocabulary",
        "contentSchema",
        "contentEncoding",
        "contentMediaType",
        "default",
        "title",
    ];
    let values = [
        "\"object\"",
        "\"array\"",
        "\"string\"",
        "\"integer\"",
        "\"number\"",
        "\"boolean\"",
        "\"null\"",
        "{}",
        "[]",
        "true",
        "false",
        "\"#\"",
        "\"#/$defs/a\"",
        "\"#a\"",
        "\"#/~0~1%25\"",
        "\"^(a+)+$\"",
        "\"[a-z]{1,1000}\"",
        "\"\\\\p{L}(?=x)\"",
        "\"date-time\"",
        "\"uri\"",
        "\"email\"",
        "\"regex\"",
        "0.1",
        "1e308",
        "-1",
        "9007199254740993",
        "1e-320",
        "\"https://json-schema.org/draft/2020-12/schema\"",
        "\"http://json-schema.org/draft-07/schema#\"",
    ];
    let keywords = keywords.iter().map(|keyword| format!("\"{keyword}\":"));
    keywords.chain(values.map(str::to_owned)).collect()
}
