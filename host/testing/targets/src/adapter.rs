//! JSON to the contract and back: the adapter of `qchost_runtime`, for every operation.
//!
//! Any body gives a value or one bounded line of why not. What a plugin gets of a body, put back
//! into a body, gives the plugin the same again. A body that is right is understood, and no unknown
//! status is lost from it. Arguments come out as they went in.
//!
//! The first byte says what the rest is, the second one of which operation.

use arbitrary::Unstructured;
use qchost_catalog::shape::Type;
use qchost_catalog::{Exception, OPERATIONS, Operation};
use qchost_runtime::fuzzing;
use serde_json::{Map, Value};

use crate::shaped::{self, Shaper};

/// The longest error: a path of a few steps and an excerpt.
const ERROR: usize = 2000;

pub(crate) fn run(data: &[u8]) {
    let [form, operation, rest @ ..] = data else {
        return;
    };
    // The others have no types.
    let typed: Vec<_> = OPERATIONS.iter().filter(|it| it.is_typed()).collect();
    let operation = typed[usize::from(*operation) % typed.len()];
    let mut bytes = Unstructured::new(rest);
    match form % 4 {
        0 => {
            if let Ok(body) = serde_json::from_slice(rest) {
                answered(operation, body);
            }
        }
        1 => {
            let body = shaped_body(operation, &mut Shaper::careless(&mut bytes));
            answered(operation, body);
        }
        2 => right(operation, &mut bytes),
        _ => sent(operation, &mut bytes),
    }
}

/// A body in which the answer is where the operation looks for it.
fn shaped_body(operation: &'static Operation, shaper: &mut Shaper<'_, '_>) -> Value {
    let result = operation
        .function()
        .and_then(|function| function.result.as_ref());
    let value = result.map_or(Value::Null, |ty| match (ty, shaper.answer(ty)) {
        // Where JSON has to be, null is none.
        (Type::Json, Value::Null) => Value::Array(Vec::new()),
        (_, value) => value,
    });
    operation
        .answer_path()
        .rev()
        .fold(value, |value, step| match step {
            "0" => Value::Array(vec![value]),
            step => Value::Object(Map::from_iter([(step.to_owned(), value)])),
        })
}

/// Any body.
fn answered(operation: &Operation, body: Value) -> Option<String> {
    let given = body.to_string().len();
    // A plugin gets JSON as it is, and what it puts back is parsed as arguments are.
    let is_kept = unrounded(body.clone()) == body;
    let answer = fuzzing::answer(operation, body).expect("every operation is bound");
    let answer = answer
        .map_err(|error| crate::assert_line(&error, ERROR))
        .ok()?;
    // An empty object may be a record of many fields, so there is a factor; but nothing more.
    assert!(
        answer.shown.len() <= 4096 + given * 2048,
        "{given} bytes became {}",
        answer.shown.len()
    );
    let body = answer.body.expect("a value has a form in JSON");
    let again = fuzzing::answer(operation, body.clone()).expect("every operation is bound");
    let again = again.unwrap_or_else(|error| panic!("{}: {error}\n{body}", operation.tool));
    if is_kept {
        assert_eq!(again.shown, answer.shown, "{}\n{body}", operation.tool);
    }
    assert_eq!(again.body, Ok(body), "{}", operation.tool);
    Some(answer.shown)
}

/// A body in one of the forms that QuantConnect uses.
fn right(operation: &'static Operation, bytes: &mut Unstructured<'_>) {
    let mut shaper = Shaper::careful(bytes);
    let body = shaped_body(operation, &mut shaper);
    let unknown = shaper.unknown();
    let shown = answered(operation, body.clone())
        .unwrap_or_else(|| panic!("{} was not understood: {body}", operation.tool));
    for case in unknown {
        assert!(
            shown.contains(&format!("Other(\"{case}\")")),
            "{}: `{case}` is lost from {body}:\n{shown}",
            operation.tool
        );
    }
}

/// Arguments as an agent sends them.
fn sent(operation: &'static Operation, bytes: &mut Unstructured<'_>) {
    let fields = operation
        .function()
        .map_or(&[][..], |function| function.request());
    let arguments = Value::Object(shaped::arguments(fields, bytes));
    let back = fuzzing::arguments(operation, arguments.clone()).expect("every operation is bound");
    let binary = |e: &Exception| matches!(e, Exception::Bytes(..));
    if operation.exceptions.iter().any(binary) {
        // Bytes are sent as text and never read.
        return;
    }
    let expected = match operation.tool {
        "create_live_command" | "broadcast_live_command" => unrounded(arguments),
        _ => arguments,
    };
    assert_eq!(back.map(Value::Object), Ok(expected), "{}", operation.tool);
}

/// Arguments as they arrive: numbers that a double cannot hold travel as their text.
fn unrounded(value: Value) -> Value {
    const EXACT: u64 = 1 << 53;
    match value {
        Value::Number(number) => {
            let size = number.as_u64().or(number.as_i64().map(i64::unsigned_abs));
            match size.is_some_and(|size| size > EXACT) {
                true => Value::String(number.to_string()),
                false => Value::Number(number),
            }
        }
        Value::Array(items) => items.into_iter().map(unrounded).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| (name, unrounded(value)))
            .collect(),
        plain => plain,
    }
}
