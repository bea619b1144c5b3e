//! Whether a tool takes its arguments flat or wrapped in a `model` object.
//!
//! Invariant: the server's `inputSchema` decides, never its name; and arguments that already have
//! the required form are sent unchanged.

use serde_json::{Map, Value};

/// The single property that holds everything if a server wraps its arguments.
const WRAPPER: &str = "model";

/// The shape of a tool's arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `{"projectId": 1}`
    Flat,
    /// `{"model": {"projectId": 1}}`
    Wrapped,
}

impl Shape {
    /// Wrapped if the schema's only property is a required object named `model`.
    pub(crate) fn of(schema: &Map<String, Value>) -> Self {
        let only_model = schema
            .get("properties")
            .and_then(Value::as_object)
            .filter(|properties| properties.len() == 1)
            .and_then(|properties| properties.get(WRAPPER));
        let required = schema
            .get("required")
            .and_then(Value::as_array)
            .is_some_and(|names| names.iter().any(|name| name == WRAPPER));
        match only_model {
            Some(model) if required && is_object(schema, model) => Self::Wrapped,
            _ => Self::Flat,
        }
    }

    /// The arguments in this shape.
    pub(crate) fn apply(self, arguments: Map<String, Value>) -> Map<String, Value> {
        match self {
            Self::Wrapped if !is_wrapped(&arguments) => {
                Map::from_iter([(WRAPPER.to_owned(), Value::Object(arguments))])
            }
            _ => arguments,
        }
    }
}

/// A caller of a tool unknown to the catalog may have read its schema.
fn is_wrapped(arguments: &Map<String, Value>) -> bool {
    arguments.len() == 1 && arguments.get(WRAPPER).is_some_and(Value::is_object)
}

/// Whether a property's schema is an object's, directly or through one local `$ref`.
fn is_object(root: &Map<String, Value>, property: &Value) -> bool {
    let target = match property.get("$ref").and_then(Value::as_str) {
        Some(reference) => reference
            .strip_prefix("#/")
            .and_then(|path| path.split_once('/'))
            .and_then(|(section, name)| root.get(section)?.get(name)),
        None => Some(property),
    };
    target.is_some_and(|schema| {
        schema.get("type").is_some_and(|kind| kind == "object")
            || schema.get("properties").is_some_and(Value::is_object)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shape(schema: Value) -> Shape {
        Shape::of(schema.as_object().unwrap())
    }

    #[test]
    fn the_schema_decides() {
        let definition = json!({ "type": "object", "properties": { "projectId": {} } });
        let wrapped = json!({
            "$defs": { "Request": definition },
            "properties": { "model": { "$ref": "#/$defs/Request" } },
            "required": ["model"],
        });
        assert_eq!(shape(wrapped), Shape::Wrapped);
        let inline = json!({ "properties": { "model": definition }, "required": ["model"] });
        assert_eq!(shape(inline), Shape::Wrapped);
    }

    #[test]
    fn a_field_that_is_only_called_model_is_a_field() {
        for schema in [
            json!({}),
            json!({ "properties": {} }),
            json!({ "properties": [], "required": 3 }),
            json!({ "properties": { "projectId": {} }, "required": ["projectId"] }),
            // The name of a model, not a wrapper.
            json!({ "properties": { "model": { "type": "string" } }, "required": ["model"] }),
            json!({ "properties": { "model": { "$ref": "#/$defs/Kind" } }, "required": ["model"],
                    "$defs": { "Kind": { "type": "string" } } }),
            json!({ "properties": { "model": { "$ref": "elsewhere" } }, "required": ["model"] }),
            json!({ "properties": { "model": { "type": "object" } } }),
            json!({ "properties": { "model": { "type": "object" }, "name": {} }, "required": ["model"] }),
        ] {
            assert_eq!(shape(schema.clone()), Shape::Flat, "{schema}");
        }
    }

    #[test]
    fn arguments_are_wrapped_once() {
        let flat = json!({ "projectId": 1 }).as_object().unwrap().clone();
        let wrapped = json!({ "model": { "projectId": 1 } })
            .as_object()
            .unwrap()
            .clone();
        assert_eq!(Shape::Wrapped.apply(flat.clone()), wrapped);
        assert_eq!(Shape::Wrapped.apply(wrapped.clone()), wrapped);
        assert_eq!(Shape::Flat.apply(flat.clone()), flat);
        assert_eq!(Shape::Flat.apply(wrapped.clone()), wrapped);
    }
}
