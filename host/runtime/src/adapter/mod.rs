//! The one serde adapter between QuantConnect's JSON and the types of the contract.
//!
//! The generated types derive serde's traits, and the catalog's [shapes](qchost_catalog::shape) say
//! what each field is called in JSON and what forms it may come in. The two meet here, so that no
//! type and no operation has code of its own. Fields are carried by position: a record's shape and
//! its Rust type come from the same WIT, so no name is looked up on the Rust side.
//!
//! What QuantConnect may send and the contract forgives: an absent or null field is `none` or an
//! empty list; a map may come as an array when it is empty, and a list as an object when it has
//! gaps; numbers may be text and text may be numbers. An optional field that cannot be read is absent; a row
//! of a list that cannot be read is left out and [counted](LeftOut). What it does not forgive is an answer that
//! lacks what the contract promises, and a list of which no row can be read.
//!
//! Invariant: any JSON value gives a typed value or a [`Misfit`] with the path of what does not
//! fit; nothing panics, and nothing of the server's is repeated in an error beyond 200 characters.

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

/// Makes what an operation's function returns from the whole body of its answer.
///
/// The answer is taken apart: its texts move.
///
/// # Errors
/// When the answer does not have it or it does not fit.
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
    // Inside of what is returned, a list that is not there is empty. One that is all of the answer has to be there: who is
    // told that there is nothing may make it a second time.
    if selected.is_none() && matches!(ty, Type::List(_)) {
        return Err(misplaced(Misfit::missing()));
    }
    T::deserialize(decode::Decoder::new(ty, selected.as_mut(), left_out)).map_err(misplaced)
}

/// The whole body of an answer whose value this is: [`decode_answer`] of it gives the value again.
///
/// # Errors
/// When it has no form in JSON.
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
    let value = answer.serialize(encode::Encoder { ty })?.value()?;
    Ok(operation
        .answer_path()
        .rev()
        .fold(value, |value, step| match step {
            "0" => Value::Array(vec![value]),
            step => Value::Object([(step.to_owned(), value)].into_iter().collect()),
        }))
}

/// Makes a value of this type from JSON.
///
/// # Errors
/// When the JSON does not fit the type.
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

/// The JSON name that the rule gives a field whose own name stands for its key.
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
