//! Every operation is bound, and the bindings round-trip every value of every type.

use proptest::prelude::*;
use proptest::test_runner::Config;
use qchost_catalog::names::KEY;
use qchost_catalog::shape::{Field, Type};
use qchost_catalog::{Exception, OPERATIONS};
use serde_json::{Map, Value, json};

use super::all_bound;

#[test]
fn every_operation_is_bound_once() {
    let mut bound: Vec<_> = all_bound()
        .iter()
        .map(|bound| bound.operation.tool)
        .collect();
    let typed = OPERATIONS.iter().filter(|operation| operation.is_typed());
    let mut tools: Vec<_> = typed.map(|operation| operation.tool).collect();
    bound.sort_unstable();
    tools.sort_unstable();
    assert_eq!(bound, tools);
}

#[test]
fn a_function_is_called_like_its_tool() {
    for operation in OPERATIONS.iter().filter(|operation| operation.is_typed()) {
        let function = operation.function().unwrap();
        assert_eq!(function.name.replace('-', "_"), operation.tool);
    }
}

/// Any JSON.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1.0e9..1.0e9).prop_map(|number: f64| json!(number)),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-zA-Z]{0,8}", inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// JSON that matches the shape, like an agent's arguments.
fn sent(ty: &'static Type) -> BoxedStrategy<Value> {
    match ty {
        Type::Bool => any::<bool>().prop_map(Value::from).boxed(),
        Type::U8 => any::<u8>().prop_map(Value::from).boxed(),
        Type::U32 => any::<u32>().prop_map(Value::from).boxed(),
        Type::S32 => any::<i32>().prop_map(Value::from).boxed(),
        Type::F64 => (-1.0e12..1.0e12)
            .prop_map(|number: f64| json!(number))
            .boxed(),
        Type::String => ".{0,12}".prop_map(Value::from).boxed(),
        Type::Json => prop::collection::vec(("[a-z$]{1,6}", any::<i32>()), 0..3)
            .prop_map(|entries| entries.into_iter().map(|(k, v)| (k, json!(v))).collect())
            .prop_map(Value::Object)
            .boxed(),
        Type::Option(inner) => sent(inner),
        Type::List(Type::Entry(value)) => prop::collection::vec((".{1,8}", sent(value)), 0..4)
            .prop_map(|entries| Value::Object(entries.into_iter().collect()))
            .boxed(),
        Type::List(inner) => prop::collection::vec(sent(inner), 0..4)
            .prop_map(Value::from)
            .boxed(),
        Type::Entry(_) => unreachable!("only in lists"),
        Type::Record(record) => fields(record.fields),
        Type::Variant(variant) => {
            let known: Vec<_> = variant
                .cases
                .iter()
                .filter_map(|case| case.json.first())
                .map(|json| json!(json.trim_end_matches('*')))
                .collect();
            prop_oneof![
                prop::sample::select(known),
                "~[a-z]{0,8}".prop_map(Value::from)
            ]
            .boxed()
        }
    }
}

fn fields(fields: &'static [Field]) -> BoxedStrategy<Value> {
    fields.iter().fold(
        Just(Map::new()).prop_map(Value::Object).boxed(),
        |object, field| {
            let value = match field.ty {
                Type::Option(inner) => prop::option::of(sent(inner)).boxed(),
                _ => sent(&field.ty).prop_map(Some).boxed(),
            };
            (object, value)
                .prop_map(|(mut object, value)| {
                    if let (Some(object), Some(value)) = (object.as_object_mut(), value) {
                        object.insert(field.json.to_owned(), value);
                    }
                    object
                })
                .boxed()
        },
    )
}

/// A partly valid answer: JSON of the shape with some values replaced by arbitrary ones.
fn answered(ty: &'static Type) -> BoxedStrategy<Value> {
    let shaped = match ty {
        Type::Option(inner) => answered(inner),
        Type::List(Type::Entry(value)) => {
            prop::collection::vec(("[a-zA-Z ]{1,8}", answered(value)), 0..3)
                .prop_map(|entries| Value::Object(entries.into_iter().collect()))
                .boxed()
        }
        Type::List(inner) => prop::collection::vec(answered(inner), 0..3)
            .prop_map(Value::from)
            .boxed(),
        Type::Record(record) => record
            .fields
            .iter()
            .fold(
                Just(Map::new()).boxed(),
                |object: BoxedStrategy<Map<String, Value>>, field| {
                    let name = if field.json == KEY {
                        "name"
                    } else {
                        field.json
                    };
                    (object, answered(&field.ty))
                        .prop_map(move |(mut object, value)| {
                            object.insert(name.to_owned(), value);
                            object
                        })
                        .boxed()
                },
            )
            .prop_map(Value::Object)
            .boxed(),
        ty => sent(ty),
    };
    prop_oneof![12 => shaped, 1 => any_json()].boxed()
}

#[test]
fn arguments_come_back_as_they_went() {
    for bound in all_bound() {
        let bytes = |e: &Exception| matches!(e, Exception::Bytes(..));
        if bound.operation.exceptions.iter().any(bytes) {
            // Its bytes are sent as text and never read; the adapter's own tests cover them.
            continue;
        }
        let strategy = fields(bound.operation.function().unwrap().request());
        proptest!(Config::with_cases(32), |(arguments in strategy)| {
            let back = (bound.round_trip)(arguments.clone());
            prop_assert_eq!(back.map(Value::Object), Ok(arguments), "{}", bound.operation.tool);
        });
    }
}

#[test]
fn no_answer_panics_and_no_error_repeats_it_whole() {
    for bound in all_bound() {
        let body = |value: Value| {
            // Restored where the operation looks for it.
            bound
                .operation
                .answer_path()
                .rev()
                .fold(value, |value, step| match step {
                    "0" => json!([value]),
                    step => json!({ step: value }),
                })
        };
        let ty = bound.operation.function().unwrap().result.as_ref();
        let shaped = ty.map_or_else(|| any_json().boxed(), answered);
        proptest!(Config::with_cases(48), |(value in prop_oneof![4 => shaped, 1 => any_json()])| {
            for answer in [body(value.clone()), value] {
                if let Err(misfit) = (bound.answer)(answer) {
                    prop_assert!(misfit.to_string().len() < 1000, "{misfit}");
                }
            }
        });
    }
}
