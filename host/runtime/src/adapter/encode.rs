//! From the contract to JSON: the arguments of a call.
//!
//! Invariant: a number that is not finite, a text that should be JSON and is not, and a key that an object already has are
//! errors.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
#[cfg(any(test, feature = "fuzzing"))]
use qchost_catalog::Unit;
use qchost_catalog::names::KEY;
use qchost_catalog::shape::{Field, Record, Type, Variant};
use qchost_catalog::{Exception, Operation, aside};
use serde::Serialize;
use serde::ser::{Impossible, SerializeSeq, SerializeStruct, SerializeTuple, Serializer};
use serde_json::{Map, Number, Value};

use super::misfit::Misfit;
use super::plain;
use crate::json;

/// The arguments of one call, collected in the order of its function's parameters.
pub struct Arguments {
    exceptions: &'static [Exception],
    parameters: &'static [Field],
    arguments: Map<String, Value>,
}

impl Arguments {
    /// Creates an empty set of arguments.
    #[must_use]
    pub fn of(operation: &'static Operation) -> Self {
        Self {
            exceptions: operation.exceptions,
            parameters: operation
                .function()
                .map_or(&[][..], |function| function.parameters),
            arguments: Map::new(),
        }
    }

    /// Adds the value of the next parameter. A record named `request` is flattened into its fields;
    /// `none` is omitted.
    ///
    /// # Errors
    /// When the value cannot be sent: text that should be JSON and is not, a number that is not
    /// finite, or a duplicate name.
    pub fn push<T: Serialize>(&mut self, value: &T) -> Result<(), Misfit> {
        let Some((field, rest)) = self.parameters.split_first() else {
            return Err(Misfit::new("more parameters than the contract has"));
        };
        self.parameters = rest;
        let encoded = value
            .serialize(Encoder { ty: &field.ty })
            .map_err(|misfit| misfit.inside(field.json))?;
        match encoded {
            Encoded::Absent => {}
            Encoded::Value(Value::Object(fields))
                if field.name == "request" && matches!(field.ty, Type::Record(_)) =>
            {
                self.arguments = fields;
            }
            Encoded::Value(value) => {
                self.arguments.insert(field.json.to_owned(), value);
            }
            Encoded::Bytes(bytes) => self.push_bytes(field, bytes)?,
            Encoded::Entry(..) => return Err(misplaced()),
        }
        Ok(())
    }

    /// UTF-8 bytes are sent as text, others under the name that the catalog has for them.
    fn push_bytes(&mut self, field: &'static Field, bytes: Vec<u8>) -> Result<(), Misfit> {
        let base64 = self
            .exceptions
            .iter()
            .find_map(|exception| match exception {
                Exception::Bytes(text, base64) if *text == field.json => Some(*base64),
                _ => None,
            });
        let (name, text) = match (String::from_utf8(bytes), base64) {
            (Ok(text), _) => (field.json, text),
            (Err(error), Some(name)) => (name, BASE64.encode(error.as_bytes())),
            (Err(_), None) => return Err(Misfit::new("not UTF-8").inside(field.json)),
        };
        self.arguments.insert(name.to_owned(), Value::String(text));
        Ok(())
    }

    /// The arguments, flat and under their JSON names.
    #[must_use]
    pub fn finish(self) -> Map<String, Value> {
        self.arguments
    }
}

/// An encoded value.
pub(super) enum Encoded {
    /// It is omitted.
    Absent,
    Value(Value),
    Bytes(Vec<u8>),
    /// An entry of an object.
    Entry(String, Value),
}

impl Encoded {
    /// The value where one is required; an absent one becomes null.
    pub(super) fn value(self) -> Result<Value, Misfit> {
        match self {
            Self::Absent => Ok(Value::Null),
            Self::Value(value) => Ok(value),
            Self::Bytes(bytes) => String::from_utf8(bytes)
                .map(Value::String)
                .map_err(|_| Misfit::new("not UTF-8")),
            Self::Entry(..) => Err(misplaced()),
        }
    }
}

fn misplaced() -> Misfit {
    Misfit::new("of a type that the contract does not have here")
}

/// Encodes one value as JSON, driven by its type in the contract.
pub(super) struct Encoder {
    pub(super) ty: &'static Type,
}

impl Encoder {
    fn variant(&self) -> Result<&'static Variant, Misfit> {
        match self.ty {
            Type::Variant(variant) => Ok(variant),
            _ => Err(misplaced()),
        }
    }
}

type Never = Impossible<Encoded, Misfit>;

/// Methods of a serializer for types that have no encoding.
macro_rules! misplaced {
    ($($method:ident($($ty:ty),*) -> $output:ty;)*) => {$(
        fn $method(self, $(_: $ty),*) -> Result<$output, Misfit> {
            Err(misplaced())
        }
    )*};
}

impl Serializer for Encoder {
    type Ok = Encoded;
    type Error = Misfit;
    type SerializeSeq = List;
    type SerializeTuple = Pair;
    type SerializeTupleStruct = Never;
    type SerializeTupleVariant = Never;
    type SerializeMap = Never;
    type SerializeStruct = Object;
    type SerializeStructVariant = Never;

    fn serialize_bool(self, value: bool) -> Result<Encoded, Misfit> {
        Ok(Encoded::Value(Value::Bool(value)))
    }

    fn serialize_u8(self, value: u8) -> Result<Encoded, Misfit> {
        Ok(Encoded::Value(value.into()))
    }

    fn serialize_u32(self, value: u32) -> Result<Encoded, Misfit> {
        Ok(Encoded::Value(value.into()))
    }

    fn serialize_i32(self, value: i32) -> Result<Encoded, Misfit> {
        Ok(Encoded::Value(value.into()))
    }

    fn serialize_f64(self, value: f64) -> Result<Encoded, Misfit> {
        Number::from_f64(value)
            .map(|number| Encoded::Value(Value::Number(number)))
            .ok_or_else(|| Misfit::new("not a finite number"))
    }

    fn serialize_str(self, value: &str) -> Result<Encoded, Misfit> {
        match self.ty {
            Type::Json => aside(value.len(), || json::argument(value))
                .map(Encoded::Value)
                .map_err(|error| Misfit::new(json::problem(&error))),
            _ => Ok(Encoded::Value(value.into())),
        }
    }

    fn serialize_none(self) -> Result<Encoded, Misfit> {
        Ok(Encoded::Absent)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Encoded, Misfit> {
        match self.ty {
            Type::Option(inner) => value.serialize(Self { ty: inner }),
            _ => Err(misplaced()),
        }
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        index: u32,
        _case: &'static str,
    ) -> Result<Encoded, Misfit> {
        let case = usize::try_from(index)
            .ok()
            .and_then(|index| self.variant().ok()?.cases.get(index));
        let json = case
            .and_then(|case| case.json.first())
            .ok_or_else(misplaced)?;
        Ok(Encoded::Value(json.trim_end_matches('*').into()))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        _case: &'static str,
        value: &T,
    ) -> Result<Encoded, Misfit> {
        self.variant()?;
        value.serialize(Self { ty: &Type::String })
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<List, Misfit> {
        let Type::List(inner) = self.ty else {
            return Err(misplaced());
        };
        let length = length.unwrap_or_default();
        let items = match inner {
            Type::Entry(_) => Items::Entries(Map::with_capacity(length)),
            Type::U8 => Items::Bytes(Vec::with_capacity(length)),
            _ => Items::Values(Vec::with_capacity(length)),
        };
        Ok(List { inner, items })
    }

    fn serialize_tuple(self, _length: usize) -> Result<Pair, Misfit> {
        match self.ty {
            Type::Entry(value) => Ok(Pair {
                ty: value,
                key: None,
                value: None,
            }),
            _ => Err(misplaced()),
        }
    }

    fn serialize_struct(self, name: &'static str, length: usize) -> Result<Object, Misfit> {
        match self.ty {
            Type::Record(Record { rust, fields, .. }) if *rust == name => Ok(Object {
                fields,
                object: Map::with_capacity(length),
            }),
            _ => Err(misplaced()),
        }
    }

    // The contract has none of the following (the catalog's `build.rs` rejects them).

    misplaced! {
        serialize_i8(i8) -> Encoded;
        serialize_i16(i16) -> Encoded;
        serialize_i64(i64) -> Encoded;
        serialize_u16(u16) -> Encoded;
        serialize_u64(u64) -> Encoded;
        serialize_f32(f32) -> Encoded;
        serialize_char(char) -> Encoded;
        serialize_bytes(&[u8]) -> Encoded;
        serialize_unit() -> Encoded;
        serialize_unit_struct(&'static str) -> Encoded;
        serialize_tuple_struct(&'static str, usize) -> Never;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Never;
        serialize_map(Option<usize>) -> Never;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Never;
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: &T,
    ) -> Result<Encoded, Misfit> {
        Err(misplaced())
    }
}

/// A list being encoded as an array, an object or bytes.
pub(super) struct List {
    inner: &'static Type,
    items: Items,
}

enum Items {
    Values(Vec<Value>),
    Entries(Map<String, Value>),
    Bytes(Vec<u8>),
}

impl SerializeSeq for List {
    type Ok = Encoded;
    type Error = Misfit;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Misfit> {
        let encoded = value.serialize(Encoder { ty: self.inner });
        match (&mut self.items, encoded) {
            (Items::Values(values), encoded) => {
                let at = values.len();
                values.push(
                    encoded
                        .and_then(Encoded::value)
                        .map_err(|misfit| misfit.at(at))?,
                );
            }
            (Items::Entries(entries), Ok(Encoded::Entry(key, value))) => {
                if entries.contains_key(&key) {
                    return Err(Misfit::new("there twice").inside(&key));
                }
                entries.insert(key, value);
            }
            (Items::Bytes(bytes), Ok(Encoded::Value(Value::Number(byte)))) => {
                let byte = byte.as_u64().and_then(|byte| u8::try_from(byte).ok());
                bytes.push(byte.ok_or_else(misplaced)?);
            }
            (_, Err(misfit)) => return Err(misfit),
            (_, Ok(_)) => return Err(misplaced()),
        }
        Ok(())
    }

    fn end(self) -> Result<Encoded, Misfit> {
        Ok(match self.items {
            Items::Values(values) => Encoded::Value(Value::Array(values)),
            Items::Entries(entries) => Encoded::Value(Value::Object(entries)),
            Items::Bytes(bytes) => Encoded::Bytes(bytes),
        })
    }
}

/// An entry of an object: its key, then its value.
pub(super) struct Pair {
    ty: &'static Type,
    key: Option<String>,
    value: Option<Value>,
}

impl SerializeTuple for Pair {
    type Ok = Encoded;
    type Error = Misfit;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Misfit> {
        match &self.key {
            None => match value.serialize(Encoder { ty: &Type::String })? {
                Encoded::Value(Value::String(key)) => self.key = Some(key),
                _ => return Err(misplaced()),
            },
            Some(key) => {
                let encoded = value.serialize(Encoder { ty: self.ty });
                self.value = Some(
                    encoded
                        .and_then(Encoded::value)
                        .map_err(|misfit| misfit.inside(key))?,
                );
            }
        }
        Ok(())
    }

    fn end(self) -> Result<Encoded, Misfit> {
        match (self.key, self.value) {
            (Some(key), Some(value)) => Ok(Encoded::Entry(key, value)),
            _ => Err(misplaced()),
        }
    }
}

/// A record being encoded as an object.
pub(super) struct Object {
    fields: &'static [Field],
    object: Map<String, Value>,
}

impl SerializeStruct for Object {
    type Ok = Encoded;
    type Error = Misfit;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), Misfit> {
        let Some((field, rest)) = self.fields.split_first() else {
            return Err(misplaced());
        };
        self.fields = rest;
        let name = match field.json {
            KEY => plain(field),
            name => name.to_owned(),
        };
        match value.serialize(Encoder { ty: &field.ty }) {
            Ok(Encoded::Absent) => Ok(()),
            Ok(encoded) => {
                self.object.insert(name, encoded.value()?);
                Ok(())
            }
            Err(misfit) => Err(misfit.inside(&name)),
        }
    }

    fn end(self) -> Result<Encoded, Misfit> {
        Ok(Encoded::Value(Value::Object(self.object)))
    }
}

/// Changes the numbers of an answer back into the units in which QuantConnect sends them.
///
/// They are text, since no double is a hundred times another one exactly.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn restore_units(ty: &Type, unit: Unit, value: &mut Value) {
    match (ty, value) {
        (Type::Option(inner) | Type::Entry(inner), value) => restore_units(inner, unit, value),
        (Type::F64, value) if unit == Unit::Percent => {
            let number = value.as_f64().map(|number| format!("{number:e}"));
            let parts = number.as_deref().and_then(|text| text.split_once('e'));
            if let Some((digits, exponent)) = parts
                && let Ok(exponent) = exponent.parse::<i32>()
            {
                *value = format!("{digits}e{}", exponent + 2).into();
            }
        }
        (Type::List(inner), Value::Array(items)) => {
            for item in items {
                restore_units(inner, unit, item);
            }
        }
        (Type::List(inner), Value::Object(entries)) => {
            for entry in entries.values_mut() {
                restore_units(inner, unit, entry);
            }
        }
        (Type::Record(record), Value::Object(object)) => {
            let percent = object.get("unit").is_some_and(|label| {
                let label = label.as_str();
                label.is_some_and(|label| label.trim() == "%")
            });
            for field in record.fields {
                let unit = match field.unit {
                    Unit::Labelled if percent => Unit::Percent,
                    Unit::Plain if record.name == "point" => unit,
                    unit => unit,
                };
                let name = match field.json {
                    KEY => plain(field),
                    name => name.to_owned(),
                };
                if let Some(value) = object.get_mut(&name) {
                    restore_units(&field.ty, unit, value);
                }
            }
        }
        _ => {}
    }
}
