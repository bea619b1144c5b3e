//! The one serde adapter between QuantConnect's JSON and the types of the contract.
//!
//! The generated types derive serde's traits, and the catalog's [shapes](qchost_catalog::shape) define the JSON name of
//! each field and the forms it may have. The adapter combines the two, so that no type and no operation needs code of its
//! own. Fields are passed by position: a record's shape and its Rust type come from the same WIT, so no name is looked up
//! on the Rust side.
//!
//! Deviations of QuantConnect that are tolerated: an absent or null field is `none` or an empty list; a map may be sent as
//! an array when it is empty, and a list as an object when it has gaps; numbers may be text and text may be numbers. An
//! optional field that cannot be read is absent; a list row that cannot be read is left out and [counted](LeftOut). Shares
//! that QuantConnect sends in per cent become fractions, by the catalog's table of [units](qchost_catalog::Unit). Not
//! tolerated are an answer without what the contract requires, and a list without a readable row.
//!
//! Invariant: any JSON value gives a typed value or a [`Misfit`] with the path of the mismatch; nothing panics, and an
//! error repeats at most 200 characters of the server's text.

mod decode;
mod encode;
mod left_out;
mod lists;
mod misfit;
mod scalar;

#[cfg(test)]
mod tests;

use qchost_catalog::Operation;
use qchost_catalog::shape::{Field, Type};
#[cfg(any(test, feature = "fuzzing"))]
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use encode::Arguments;
pub(crate) use left_out::LeftOut;
pub(crate) use misfit::Misfit;

/// Decodes what an operation's function returns from the whole body of its answer.
///
/// Consumes the answer: its texts are moved.
///
/// # Errors
/// When the answer does not contain the value or it does not match.
pub(crate) fn decode_answer<T: DeserializeOwned>(
    operation: &'static Operation,
    body: Value,
    left_out: &LeftOut,
) -> Result<T, Misfit> {
    let Some(ty) = operation
        .function()
        .and_then(|function| function.result.as_ref())
    else {
        return T::deserialize(serde::de::value::UnitDeserializer::new());
    };
    let mut selected = operation.select(body);
    let misplaced = |misfit| operation.answer_path().rev().fold(misfit, Misfit::inside);
    // Inside of the returned value, a missing list is empty. A list that is the whole answer must be present: an agent
    // that is wrongly told that there are no items may create them a second time.
    if selected.is_none() && matches!(ty, Type::List(_)) {
        return Err(misplaced(Misfit::missing()));
    }
    T::deserialize(decode::Decoder::new(ty, selected.as_mut(), left_out)).map_err(misplaced)
}

/// The whole body of an answer with this value: [`decode_answer`] of the body returns the value.
///
/// # Errors
/// When it cannot be represented in JSON.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn encode_answer<T: Serialize>(
    operation: &'static Operation,
    answer: &T,
) -> Result<Value, Misfit> {
    let Some(ty) = operation
        .function()
        .and_then(|function| function.result.as_ref())
    else {
        return Ok(Value::Null);
    };
    let mut value = answer.serialize(encode::Encoder { ty })?.value()?;
    encode::restore_units(ty, qchost_catalog::Unit::Plain, &mut value);
    Ok(operation
        .answer_path()
        .rev()
        .fold(value, |value, step| match step {
            "0" => Value::Array(vec![value]),
            step => Value::Object([(step.to_owned(), value)].into_iter().collect()),
        }))
}

/// Decodes a value of this type from JSON.
///
/// # Errors
/// When the JSON does not match the type.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn decode<T: DeserializeOwned>(
    ty: &'static qchost_catalog::shape::Type,
    mut value: Value,
) -> Result<T, Misfit> {
    T::deserialize(decode::Decoder::new(
        ty,
        Some(&mut value),
        &LeftOut::default(),
    ))
}

/// The JSON name by rule of a field whose own name stands for its key.
fn plain(field: &Field) -> String {
    let mut words = field.name.split('-');
    let mut name = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name
}
