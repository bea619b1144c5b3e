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

    /// The argument as `read` takes it from its value.
    fn typed<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ScopeError> {
        let value = self.get(name)?;
        let read = value.map(|value| read(value).ok_or_else(|| wrong(name, expected)));
        read.transpose()
    }

    /// A whole number from 1 to 2³²−1.
    pub(crate) fn positive(&self, name: &str) -> Result<Option<u32>, ScopeError> {
        self.typed(name, "a whole number from 1 to 4294967295", |value| {
            let number = u32::try_from(value.as_u64()?).ok()?;
            (number > 0).then_some(number)
        })
    }

    /// A string.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a str>, ScopeError> {
        self.typed(name, "a string", Value::as_str)
    }

    /// A list of strings, at most 100 of them.
    pub(crate) fn texts(&self, name: &str) -> Result<Vec<&'a str>, ScopeError> {
        let texts = self.typed(name, "a list of at most 100 strings", |value| {
            let items = value.as_array()?;
            let few = Some(items).filter(|items| items.len() <= MAX_LIST_LENGTH)?;
            few.iter().map(Value::as_str).collect::<Option<Vec<_>>>()
        })?;
        Ok(texts.unwrap_or_default())
    }

    /// True or false.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, ScopeError> {
        self.typed(name, "true or false", Value::as_bool)
    }

    /// An object.
    pub(crate) fn object(&self, name: &str) -> Result<Option<&'a Map<String, Value>>, ScopeError> {
        self.typed(name, "an object", Value::as_object)
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
