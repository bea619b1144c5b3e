//! What a tool takes: which arguments, and whether flat or wrapped in a `model` object.
//!
//! Invariant: the server's `inputSchema` decides, never its name; and arguments that already have
//! the required form are sent unchanged.

use std::collections::BTreeSet;

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

/// What a tool takes, by its schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    shape: Shape,
    arguments: BTreeSet<String>,
    required: BTreeSet<String>,
}

impl Input {
    /// Wrapped if the schema's only property is a required object named `model`.
    pub(crate) fn of(schema: &Map<String, Value>) -> Self {
        let model = only_model(schema);
        let object = model.or(Some(schema));
        let arguments = object.and_then(properties).into_iter().flatten();
        let required = object.and_then(|object| object.get("required")?.as_array());
        let required = required.into_iter().flatten().filter_map(Value::as_str);
        Self {
            shape: match model {
                Some(_) => Shape::Wrapped,
                None => Shape::Flat,
            },
            arguments: arguments.map(|(name, _)| name.clone()).collect(),
            required: required.map(str::to_owned).collect(),
        }
    }

    /// The arguments in the tool's shape.
    pub(crate) fn apply(&self, arguments: Map<String, Value>) -> Map<String, Value> {
        self.shape.apply(arguments)
    }

    /// The first of these names that the call has and the tool does not take.
    pub(crate) fn lacks<'a>(
        &self,
        names: &[&'a str],
        arguments: &Map<String, Value>,
    ) -> Option<&'a str> {
        let mut names = names.iter().copied();
        names.find(|name| arguments.contains_key(*name) && !self.arguments.contains(*name))
    }

    /// Why the tool does not take exactly these arguments, by its own schema.
    pub(crate) fn misfit(&self, arguments: &Map<String, Value>) -> Option<String> {
        let mut given = arguments.keys();
        if let Some(unknown) = given.find(|name| !self.arguments.contains(*name)) {
            return Some(format!("it takes no argument `{unknown}`"));
        }
        let mut required = self.required.iter();
        let missing = required.find(|name| !arguments.contains_key(*name))?;
        Some(format!(
            "it wants an argument `{missing}` that the host does not know"
        ))
    }
}

/// The object that wraps all arguments, if there is one.
fn only_model(schema: &Map<String, Value>) -> Option<&Map<String, Value>> {
    let only = properties(schema).filter(|properties| properties.len() == 1)?;
    let required = schema.get("required")?.as_array()?;
    if !required.iter().any(|name| name == WRAPPER) {
        return None;
    }
    object(schema, only.get(WRAPPER)?)
}

fn properties(schema: &Map<String, Value>) -> Option<&Map<String, Value>> {
    schema.get("properties")?.as_object()
}

/// A caller of a tool unknown to the catalog may have read its schema.
fn is_wrapped(arguments: &Map<String, Value>) -> bool {
    arguments.len() == 1 && arguments.get(WRAPPER).is_some_and(Value::is_object)
}

/// The schema of a property, directly or through one local `$ref`, if it is an object's.
fn object<'a>(root: &'a Map<String, Value>, property: &'a Value) -> Option<&'a Map<String, Value>> {
    let target = match property.get("$ref").and_then(Value::as_str) {
        Some(reference) => reference
            .strip_prefix("#/")
            .and_then(|path| path.split_once('/'))
            .and_then(|(section, name)| root.get(section)?.get(name)),
        None => Some(property),
    };
    let schema = target?.as_object()?;
    let is_object = schema.get("type").is_some_and(|kind| kind == "object");
    (is_object || properties(schema).is_some()).then_some(schema)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn shape(schema: Value) -> Shape {
        Input::of(schema.as_object().unwrap()).shape
    }

    #[test]
    fn an_argument_that_a_server_would_drop_is_found() {
        let input = |schema: Value| Input::of(schema.as_object().unwrap());
        let of_2025 = input(json!({ "properties": { "projectId": {} } }));
        let newer = input(json!({ "properties": { "projectId": {}, "deployId": {} } }));
        let other = json!({ "projectId": 1, "other": 2 });
        let named = json!({ "projectId": 1, "deployId": "L-1" });
        for (input, arguments, lacks) in [
            (&of_2025, &other, None),
            (&of_2025, &named, Some("deployId")),
            (&newer, &named, None),
        ] {
            let arguments = arguments.as_object().unwrap();
            assert_eq!(input.lacks(&["deployId"], arguments), lacks);
        }
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

    #[test]
    fn what_the_schema_does_not_name_is_not_sent_and_what_it_wants_is_not_left_out() {
        let flat = json!({
            "properties": { "projectId": {}, "index": {}, "source": {} },
            "required": ["projectId"],
        });
        let wrapped = json!({
            "$defs": { "Request": flat },
            "properties": { "model": { "$ref": "#/$defs/Request" } },
            "required": ["model"],
        });
        for schema in [flat, wrapped] {
            let input = Input::of(schema.as_object().unwrap());
            let misfit = |arguments: Value| input.misfit(arguments.as_object().unwrap());
            assert_eq!(misfit(json!({ "projectId": 1, "index": 2 })), None);
            let unknown = misfit(json!({ "projectId": 1, "cell": 2 })).unwrap();
            assert!(unknown.contains("`cell`"), "{unknown}");
            let missing = misfit(json!({ "index": 2 })).unwrap();
            assert!(missing.contains("`projectId`"), "{missing}");
        }
        // A schema that names nothing takes nothing.
        let open = Input::of(json!({ "type": "object" }).as_object().unwrap());
        assert!(
            open.misfit(json!({ "a": 1 }).as_object().unwrap())
                .is_some()
        );
    }

    proptest! {
        #[test]
        fn no_schema_panics_and_none_is_sent_what_it_does_not_name(
            names in proptest::collection::btree_set("[a-c]{1,2}", 0..4),
            required in proptest::collection::vec("[a-c]{1,2}", 0..3),
            given in proptest::collection::btree_set("[a-c]{1,2}", 0..4),
            odd in proptest::option::of(Just(json!([1, "x", null]))),
        ) {
            let properties: Map<String, Value> =
                names.iter().map(|name| (name.clone(), json!({}))).collect();
            let schema = json!({
                "properties": odd.clone().unwrap_or(Value::Object(properties)),
                "required": required,
            });
            let input = Input::of(schema.as_object().unwrap());
            let arguments: Map<String, Value> =
                given.iter().map(|name| (name.clone(), json!(1))).collect();
            let fits = odd.is_none()
                && given.is_subset(&names)
                && required.iter().all(|name| given.contains(name));
            let nothing = odd.is_some() && given.is_empty() && required.is_empty();
            prop_assert_eq!(input.misfit(&arguments).is_none(), fits || nothing);
        }
    }
}
