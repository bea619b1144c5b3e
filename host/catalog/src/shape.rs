//! The shapes of the contract: what `wit/` says, as tables.
//!
//! `build.rs` writes the tables. They carry what the serde adapter and the JSON Schemas need and
//! nothing of Rust or Wasm: names on both sides, types, units, documentation.

use crate::units::Unit;

/// A type of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// `bool`
    Bool,
    /// `u8`; only in lists, which are bytes then.
    U8,
    /// `u32`
    U32,
    /// `s32`
    S32,
    /// `f64`
    F64,
    /// `string`
    String,
    /// `json`: text on the Wasm side, any value on the JSON side.
    Json,
    /// `option<…>`: absent or null on the JSON side.
    Option(&'static Type),
    /// `list<…>`: an array, or an object where the element is an entry or has a key.
    List(&'static Type),
    /// `tuple<string, …>`: an entry of an object.
    Entry(&'static Type),
    /// A record: an object.
    Record(&'static Record),
    /// A variant: a string or a number.
    Variant(&'static Variant),
}

/// A record.
#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name in WIT: `file-parameters`.
    pub name: &'static str,
    /// Its name in Rust: `FileParameters`.
    pub rust: &'static str,
    /// Its fields, in order.
    pub fields: &'static [Field],
}

/// A field of a record or a parameter of a function.
#[derive(Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name in WIT: `project-id`.
    pub name: &'static str,
    /// Its name in JSON: `projectId`, or [`KEY`](crate::names::KEY).
    pub json: &'static str,
    /// Its other JSON names, under which an object is the only row of the list.
    pub former: &'static [&'static str],
    /// What it means.
    pub doc: &'static str,
    /// Names and units of statistics that come as bare numbers.
    pub positions: &'static [(&'static str, Unit)],
    /// The unit in which QuantConnect sends it.
    pub unit: Unit,
    /// Its type.
    pub ty: Type,
}

/// A variant.
#[derive(Debug, PartialEq, Eq)]
pub struct Variant {
    /// Its name in WIT: `order-type`.
    pub name: &'static str,
    /// Its name in Rust: `OrderType`.
    pub rust: &'static str,
    /// Its cases, in order.
    pub cases: &'static [Case],
}

/// A case of a variant.
#[derive(Debug, PartialEq, Eq)]
pub struct Case {
    /// Its name in WIT: `in-queue`.
    pub name: &'static str,
    /// Its name in Rust: `InQueue`.
    pub rust: &'static str,
    /// The JSON values that mean it, the one to send first; a star at the end stands for
    /// any rest.
    pub json: &'static [&'static str],
    /// Whether it is the case `other`, which takes every value that no case means.
    pub open: bool,
}

impl Case {
    /// Whether a JSON value (numbers as text) means this case.
    #[must_use]
    pub fn means(&self, value: &str) -> bool {
        self.json.iter().any(|json| match json.strip_suffix('*') {
            Some(start) => value.starts_with(start),
            None => *json == value,
        })
    }
}

/// A function of an interface.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// The interface: `compile`.
    pub interface: &'static str,
    /// Its name: `read-compile`.
    pub name: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// Its parameters, in order.
    pub parameters: &'static [Field],
    /// What it returns on success.
    pub result: Option<Type>,
}

impl Function {
    /// The fields of the request: the parameters, or the fields of the one record among them
    /// that is called `request`.
    #[must_use]
    pub fn request(&self) -> &'static [Field] {
        match self.parameters {
            [
                Field {
                    name: "request",
                    ty: Type::Record(record),
                    ..
                },
            ] => record.fields,
            parameters => parameters,
        }
    }
}

include!(concat!(env!("OUT_DIR"), "/shapes.rs"));

/// The record with this Rust name.
#[must_use]
pub fn record(rust: &str) -> Option<&'static Record> {
    let at = RECORDS
        .binary_search_by(|record| record.rust.cmp(rust))
        .ok()?;
    RECORDS.get(at).copied()
}

/// The variant with this Rust name.
#[must_use]
pub fn variant(rust: &str) -> Option<&'static Variant> {
    let at = VARIANTS
        .binary_search_by(|variant| variant.rust.cmp(rust))
        .ok()?;
    VARIANTS.get(at).copied()
}

/// All functions of `quantconnect:api`.
#[must_use]
pub fn functions() -> &'static [Function] {
    FUNCTIONS
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A member of an object is handed to one field.
    #[test]
    fn no_two_fields_of_a_record_have_one_name_in_json() {
        for record in RECORDS {
            let all = record.fields.iter();
            let all = all.flat_map(|field| [field.json].into_iter().chain(field.former.to_vec()));
            let all: Vec<_> = all.collect();
            let names: BTreeSet<_> = all.iter().collect();
            assert_eq!(names.len(), all.len(), "{}", record.name);
        }
    }
}
