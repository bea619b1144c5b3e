//! Reads arguments strictly, each with its single type.
//!
//! Servers parse leniently; here `"12"`, `12.0` and `true` are not project ids. An argument that is
//! `null` counts as missing, as it does for QuantConnect's own server.
//!
//! Invariant: an argument of another type, or one that the operation does not have, is rejected: two servers could read it
//! differently.

use qchost_catalog::Operation;
use serde_json::{Map, Value};

use crate::error::{ScopeError, shown};

/// Maximum entries of a list of touched items.
const MAX_LIST_LENGTH: usize = 100;

/// The arguments of a call, all of which the operation has.
pub(crate) struct Arguments<'a> {
    operation: &'static Operation,
    given: &'a Map<String, Value>,
}

impl<'a> Arguments<'a> {
    /// Rejects arguments that the operation does not have: inside of a wrapper, or under a name
    /// that only some servers know, they would go unchecked.
    pub(crate) fn of(
        operation: &'static Operation,
        given: &'a Map<String, Value>,
    ) -> Result<Self, ScopeError> {
        let known = |name: &str| property(operation, name).is_some();
        let Some(unknown) = given.keys().find(|name| !known(name)) else {
            return Ok(Self { operation, given });
        };
        let known: Vec<_> = operation
            .input_schema()
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, _)| name.as_str())
            .collect();
        Err(ScopeError::Invalid(format!(
            "{}: there is no argument {}; it takes {}",
            operation.tool,
            shown(unknown),
            if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            }
        )))
    }

    /// Whether the argument is optional in the contract.
    pub(crate) fn optional(&self, name: &str) -> bool {
        let required = self.operation.input_schema().get("required");
        let mut required = required.and_then(Value::as_array).into_iter().flatten();
        !required.any(|required| required == name)
    }

    /// Whether the contract has a list (or, if `false`, a single item) under this name.
    pub(crate) fn is_list(&self, name: &str) -> bool {
        property(self.operation, name).and_then(|schema| schema.get("type"))
            == Some(&Value::from("array"))
    }

    /// The argument; `None` if it is optional and missing.
    pub(crate) fn get(&self, name: &str) -> Result<Option<&'a Value>, ScopeError> {
        match self.given.get(name) {
            Some(value) if !value.is_null() => Ok(Some(value)),
            _ if self.optional(name) => Ok(None),
            _ => Err(ScopeError::Invalid(format!("`{name}` is missing"))),
        }
    }

    /// A whole number from 1 to 2³²−1.
    pub(crate) fn positive(&self, name: &str) -> Result<Option<u32>, ScopeError> {
        let Some(value) = self.get(name)? else {
            return Ok(None);
        };
        value
            .as_u64()
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| *number > 0)
            .map(Some)
            .ok_or_else(|| wrong(name, "a whole number from 1 to 4294967295"))
    }

    /// A string.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a str>, ScopeError> {
        let Some(value) = self.get(name)? else {
            return Ok(None);
        };
        value
            .as_str()
            .map(Some)
            .ok_or_else(|| wrong(name, "a string"))
    }

    /// A list of strings, at most 100 of them.
    pub(crate) fn texts(&self, name: &str) -> Result<Vec<&'a str>, ScopeError> {
        let Some(value) = self.get(name)? else {
            return Ok(Vec::new());
        };
        let expected = || wrong(name, "a list of at most 100 strings");
        let items = value
            .as_array()
            .filter(|items| items.len() <= MAX_LIST_LENGTH)
            .ok_or_else(expected)?;
        items
            .iter()
            .map(|item| item.as_str().ok_or_else(expected))
            .collect()
    }

    /// True or false.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, ScopeError> {
        let Some(value) = self.get(name)? else {
            return Ok(None);
        };
        value
            .as_bool()
            .map(Some)
            .ok_or_else(|| wrong(name, "true or false"))
    }

    /// An object.
    pub(crate) fn object(&self, name: &str) -> Result<Option<&'a Map<String, Value>>, ScopeError> {
        let Some(value) = self.get(name)? else {
            return Ok(None);
        };
        value
            .as_object()
            .map(Some)
            .ok_or_else(|| wrong(name, "an object"))
    }

    /// The arguments that another operation takes as well.
    pub(crate) fn shared_with(&self, other: &Operation) -> Map<String, Value> {
        let shared = self.given.iter();
        let shared = shared.filter(|(name, _)| property(other, name).is_some());
        shared
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

fn property(operation: &Operation, name: &str) -> Option<&'static Value> {
    operation.input_schema().get("properties")?.get(name)
}

/// The error for an argument of the wrong type.
pub(crate) fn wrong(name: &str, expected: &str) -> ScopeError {
    ScopeError::Invalid(format!("`{name}` must be {expected}"))
}
