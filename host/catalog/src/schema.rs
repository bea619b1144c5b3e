//! JSON Schemas of every operation's input and answer, from the shapes.
//!
//! An input schema is strict: unknown fields are rejected. An answer's schema is as lenient as the server:
//! every field may be absent or null, additional fields are allowed, and an empty object may be sent as an
//! empty array.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::operation::{Exception, Operation};
use crate::shape::{Field, Record, Type, Variant};
use crate::units::Unit;
use crate::{KEY, OPERATIONS};

type Schema = Map<String, Value>;

static INPUTS: LazyLock<HashMap<&'static str, Schema>> = LazyLock::new(|| {
    OPERATIONS
        .iter()
        .map(|operation| (operation.tool, input(operation)))
        .collect()
});

static EMPTY: LazyLock<Schema> = LazyLock::new(Schema::new);

impl Operation {
    /// JSON Schema (draft 2020-12) of the flat arguments.
    #[must_use]
    pub fn input_schema(&self) -> &'static Schema {
        INPUTS.get(self.tool).unwrap_or(&EMPTY)
    }

    /// The same for the server in front of the REST API, which also takes what a brokerage's profile gives.
    #[must_use]
    pub fn server_schema(&self) -> Schema {
        let mut schema = self.input_schema().clone();
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            properties.extend(self.of_profile().map(|field| (field.to_owned(), json!({}))));
        }
        schema
    }

    /// JSON Schema (draft 2020-12) of the whole answer, with `success` and `errors`. Built for each
    /// caller: only a client that lists the tools needs it, and all of them take a megabyte.
    #[must_use]
    pub fn output_schema(&self) -> Schema {
        output(self)
    }
}

fn input(operation: &Operation) -> Schema {
    let mut properties = Schema::new();
    let mut required = Vec::new();
    let mut alternatives = Vec::new();
    for field in operation.request() {
        let exception = operation
            .exceptions
            .iter()
            .find(|e| e.field() == field.json);
        let schema = match exception {
            Some(Exception::Profile(_)) => json!({
                "type": "object",
                "properties": { "id": { "type": "string" } },
                "required": ["id"],
            }),
            Some(Exception::Profiles(_)) => json!({ "type": "object" }),
            _ => request(&field.ty),
        };
        properties.insert(field.json.to_owned(), described(schema, field));
        if let Some(Exception::Bytes(text, base64)) = exception {
            properties.insert(
                (*base64).to_owned(),
                json!({ "type": "string", "contentEncoding": "base64",
                        "description": format!("The same as `{text}` for bytes that are not text.") }),
            );
            alternatives = vec![
                json!({ "required": [text] }),
                json!({ "required": [base64] }),
            ];
        } else if !matches!(field.ty, Type::Option(_)) {
            required.push(json!(field.json));
        }
    }
    for exception in operation.exceptions {
        match exception {
            Exception::Constant(field, value) => {
                properties.insert((*field).to_owned(), json!({ "const": value }));
            }
            Exception::Flag(field) => {
                properties.insert((*field).to_owned(), json!({ "const": true }));
            }
            Exception::Profile(_)
            | Exception::Profiles(_)
            | Exception::OfProfile(_)
            | Exception::Null(_)
            | Exception::Bytes(..) => {}
        }
    }
    let mut schema = object(properties);
    if !required.is_empty() {
        schema.insert("required".to_owned(), Value::Array(required));
    }
    if !alternatives.is_empty() {
        schema.insert("oneOf".to_owned(), Value::Array(alternatives));
    }
    schema.insert("additionalProperties".to_owned(), json!(false));
    schema
}

fn request(ty: &Type) -> Value {
    match ty {
        Type::Bool => json!({ "type": "boolean" }),
        Type::U8 => json!({ "type": "integer", "minimum": 0, "maximum": 255 }),
        Type::U32 => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
        Type::S32 => json!({ "type": "integer", "minimum": i32::MIN, "maximum": i32::MAX }),
        Type::F64 => json!({ "type": "number" }),
        Type::String | Type::List(Type::U8) => json!({ "type": "string" }),
        Type::Json => json!({ "type": "object" }),
        Type::Option(inner) => request(inner),
        Type::List(Type::Entry(value)) => {
            let mut value = request(value);
            if value == json!({ "type": "string" }) {
                // QuantConnect takes numbers for the values of parameters too.
                value = json!({ "type": ["string", "number"] });
            }
            json!({ "type": "object", "additionalProperties": value })
        }
        Type::List(inner) => json!({ "type": "array", "items": request(inner) }),
        Type::Entry(value) => json!({ "type": "object", "additionalProperties": request(value) }),
        Type::Record(record) => {
            let properties = record
                .fields
                .iter()
                .map(|f| (f.json.to_owned(), described(request(&f.ty), f)))
                .collect();
            let required: Vec<_> = record
                .fields
                .iter()
                .filter(|field| !matches!(field.ty, Type::Option(_)))
                .map(|field| field.json)
                .collect();
            let mut schema = object(properties);
            schema.insert("required".to_owned(), json!(required));
            schema.insert("additionalProperties".to_owned(), json!(false));
            Value::Object(schema)
        }
        Type::Variant(variant) => {
            let known: Vec<_> = variant
                .cases
                .iter()
                .filter_map(|case| case.json.first())
                .collect();
            if variant.cases.iter().any(|case| case.open) {
                json!({ "anyOf": [{ "enum": known }, { "type": "string" }] })
            } else {
                json!({ "enum": known })
            }
        }
    }
}

fn output(operation: &Operation) -> Schema {
    let result = operation.function().and_then(|function| function.result);
    let mut properties = Schema::new();
    match (result, operation.answer) {
        (Some(Type::Record(record)), "") => properties = fields(record),
        (Some(ty), path) if !path.is_empty() => {
            let mut steps = operation.answer_path().rev();
            let mut schema = answer(&ty);
            let mut name = steps.next().unwrap_or_default();
            for step in steps {
                // A step that is a number picks one of a list.
                schema = json!({ "type": ["array", "null"], "items": schema });
                name = step;
            }
            properties.insert(name.to_owned(), schema);
        }
        _ => {}
    }
    if !operation.answered_by_server() {
        let success = json!({ "type": ["boolean", "null"], "description": "Whether it was done." });
        let errors = json!({ "type": ["array", "null"], "items": { "type": "string" },
                             "description": "Why it was not." });
        properties.insert("success".to_owned(), success);
        properties.insert("errors".to_owned(), errors);
    }
    object(properties)
}

/// The fields of a record in an answer; its key stands outside of it.
fn fields(record: &Record) -> Schema {
    record
        .fields
        .iter()
        .filter(|field| field.json != KEY)
        .map(|field| {
            let mut schema = if field.positions.is_empty() {
                answer(&field.ty)
            } else {
                json!({ "type": ["array", "object", "null"],
                        "items": { "type": ["number", "null"] },
                        "additionalProperties": { "type": ["string", "number", "null"] } })
            };
            schema = described(schema, field);
            if let Some(unit) = sent_in(field)
                && let Some(Value::String(description)) = schema.get_mut("description")
            {
                description.push_str(unit);
            }
            (field.json.to_owned(), schema)
        })
        .collect()
}

/// What the description of a field in an answer adds to that of the contract: an answer is
/// QuantConnect's own, in its units.
fn sent_in(field: &Field) -> Option<&'static str> {
    match (field.unit, field.positions) {
        (Unit::Percent, _) => Some(" In this answer in per cent: 12.3 for the fraction 0.123."),
        (Unit::Labelled, _) => Some(" In this answer in the unit that is named: 12.3 for 12.3 %."),
        (_, [_, ..]) => Some(" In this answer percentages are bare numbers: 12.3 for 12.3 %."),
        _ => None,
    }
}

fn answer(ty: &Type) -> Value {
    match ty {
        Type::Bool => json!({ "type": ["boolean", "null"] }),
        Type::U8 | Type::U32 | Type::S32 => json!({ "type": ["integer", "null"] }),
        Type::F64 => json!({ "type": ["number", "string", "null"] }),
        Type::String => json!({ "type": ["string", "number", "null"] }),
        Type::Json => json!({}),
        Type::Option(inner) => answer(inner),
        Type::Entry(value) => answer(value),
        // Bytes come as the text that they are.
        Type::List(Type::U8) => json!({ "type": ["string", "null"] }),
        Type::List(Type::Entry(value)) => json!({
            "type": ["object", "array", "null"], "additionalProperties": answer(value),
        }),
        Type::List(Type::Record(Record {
            name: "statistic", ..
        })) => json!({
            "type": ["object", "array", "null"],
            "additionalProperties": { "type": ["string", "number", "null"] },
        }),
        Type::List(Type::Record(Record { name: "point", .. })) => json!({
            "type": ["array", "null"], "items": { "type": ["array", "object"] },
        }),
        Type::List(Type::Record(record)) if record.fields.iter().any(|f| f.json == KEY) => json!({
            "type": ["object", "array", "null"], "additionalProperties": answer(&Type::Record(record)),
        }),
        // The backtests of an optimisation come as an object by id, projects as an array.
        Type::List(inner @ Type::Record(_)) => json!({
            "type": ["object", "array", "null"],
            "additionalProperties": answer(inner),
            "items": answer(inner),
        }),
        Type::List(inner) => json!({ "type": ["array", "null"], "items": answer(inner) }),
        Type::Record(record) => {
            let mut schema = object(fields(record));
            schema.insert("type".to_owned(), json!(["object", "array", "null"]));
            Value::Object(schema)
        }
        Type::Variant(variant) => json!({ "type": variant_types(variant) }),
    }
}

fn variant_types(variant: &Variant) -> Vec<&'static str> {
    let numbers = variant
        .cases
        .iter()
        .flat_map(|case| case.json)
        .any(|json| json.parse::<i64>().is_ok());
    let mut types = vec!["string", "null"];
    if numbers {
        types.push("number");
    }
    types
}

fn described(mut schema: Value, field: &Field) -> Value {
    if let (Some(schema), false) = (schema.as_object_mut(), field.doc.is_empty()) {
        schema.insert("description".to_owned(), json!(field.doc));
    }
    schema
}

fn object(properties: Schema) -> Schema {
    Schema::from_iter([
        ("type".to_owned(), json!("object")),
        ("properties".to_owned(), Value::Object(properties)),
    ])
}
