//! The fields of one request, read with a type.
//!
//! Invariant: reading a field never fails in silence. A missing required field, a wrong type
//! and a number out of range are each a [`Refusal`] that names the field. `null` counts as
//! missing. Forms and query strings carry only text, so a number or a flag may be text that
//! reads as one.

use axum::body::Bytes;
use serde_json::{Map, Value};

use crate::answer::Refusal;

/// The fields of a request, whatever encoding they came in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arguments {
    /// All fields but uploaded files.
    pub(crate) fields: Map<String, Value>,
    /// The file `objectData` of a multipart request.
    pub(crate) object_data: Option<Bytes>,
}

impl Arguments {
    /// A field that is there and not `null`.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    /// A required text.
    pub(crate) fn text(&self, name: &str) -> Result<&str, Refusal> {
        self.optional_text(name)?
            .ok_or_else(|| Refusal::missing(name))
    }

    /// A required text with something other than white space in it.
    pub(crate) fn filled_text(&self, name: &str) -> Result<&str, Refusal> {
        let text = self.text(name)?;
        if text.trim().is_empty() {
            return Err(Refusal::invalid(name, "a text that is not blank"));
        }
        Ok(text)
    }

    /// A text that may be left out.
    pub(crate) fn optional_text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Refusal::invalid(name, "a string")),
        }
    }

    /// A required whole number.
    pub(crate) fn integer(&self, name: &str) -> Result<i64, Refusal> {
        self.optional_integer(name)?
            .ok_or_else(|| Refusal::missing(name))
    }

    /// A whole number that may be left out.
    pub(crate) fn optional_integer(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        integer_of(value)
            .map(Some)
            .ok_or_else(|| Refusal::invalid(name, "an integer"))
    }

    /// A required finite number.
    pub(crate) fn number(&self, name: &str) -> Result<f64, Refusal> {
        let value = self.get(name).ok_or_else(|| Refusal::missing(name))?;
        number_of(value).ok_or_else(|| Refusal::invalid(name, "a number"))
    }

    /// A required flag.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        self.optional_flag(name)?
            .ok_or_else(|| Refusal::missing(name))
    }

    /// A flag that may be left out.
    pub(crate) fn optional_flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(_) => Err(Refusal::invalid(name, "a boolean")),
        }
    }

    /// A required list.
    pub(crate) fn list(&self, name: &str) -> Result<&[Value], Refusal> {
        self.optional_list(name)?
            .ok_or_else(|| Refusal::missing(name))
    }

    /// A list that may be left out. Empty text counts as an empty list: a form has no other
    /// way to write one.
    pub(crate) fn optional_list(&self, name: &str) -> Result<Option<&[Value]>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(Value::String(text)) if text.is_empty() => Ok(Some(&[])),
            Some(_) => Err(Refusal::invalid(name, "a list")),
        }
    }

    /// A required object.
    pub(crate) fn object(&self, name: &str) -> Result<&Map<String, Value>, Refusal> {
        match self.get(name) {
            None => Err(Refusal::missing(name)),
            Some(Value::Object(fields)) => Ok(fields),
            Some(_) => Err(Refusal::invalid(name, "an object")),
        }
    }
}

/// A whole number, from a number without a fraction or from text.
pub(crate) fn integer_of(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// A finite number, from a number or from text.
pub(crate) fn number_of(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse::<f64>().ok(),
        _ => None,
    };
    number.filter(|number| number.is_finite())
}

/// A number or a text as text, as algorithm parameters are given.
pub(crate) fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
