//! From JSON to the contract: a deserializer driven by the shape rather than by the value.
//!
//! Invariant: a required value that does not fit is an error, and so is a missing one unless it is a list. An optional one
//! that does not fit counts as absent; a row of a list is left out and counted, unless no row can be read, which is an
//! error.

use std::borrow::Cow;

use qchost_catalog::Unit;
use qchost_catalog::names::KEY;
use qchost_catalog::shape::{Case, Field, Record, Type, Variant};
use serde::de::value::{SeqDeserializer, StrDeserializer, StringDeserializer, U32Deserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, SeqAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

use super::left_out::LeftOut;
use super::misfit::{Misfit, excerpt};
use super::{lists, plain, scalar};

const U32: &str = "a whole number from 0 to 4294967295";
const S32: &str = "a whole number of 32 bits";

/// A value and the type it should have.
pub(super) struct Decoder<'a> {
    pub(super) ty: &'static Type,
    /// `None` if the value is absent or null, which the contract does not distinguish.
    pub(super) value: Option<&'a mut Value>,
    /// The key it was found under, in an object that represents a list.
    pub(super) key: Option<&'a str>,
    /// Names and units of statistics that are sent as bare numbers.
    pub(super) positions: &'static [(&'static str, Unit)],
    /// The unit in which QuantConnect sends a number, or the values of points.
    pub(super) unit: Unit,
    /// Counts list rows that cannot be read.
    pub(super) left_out: &'a LeftOut,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(
        ty: &'static Type,
        value: Option<&'a mut Value>,
        left_out: &'a LeftOut,
    ) -> Self {
        Self {
            ty,
            value: value.filter(|value| !value.is_null()),
            key: None,
            positions: &[],
            unit: Unit::Plain,
            left_out,
        }
    }

    pub(super) fn found_under(mut self, key: &'a str) -> Self {
        self.key = Some(key);
        self
    }

    fn present(self) -> Result<&'a mut Value, Misfit> {
        self.value.ok_or_else(Misfit::missing)
    }

    /// Whether an optional value is absent: the server expresses that in several ways, such as an empty list instead of
    /// an object, or the value cannot be read.
    fn is_nothing(&self, inner: &'static Type) -> bool {
        match (inner, self.value.as_deref()) {
            (_, None) => true,
            (Type::Record(_), Some(Value::Array(items))) if items.is_empty() => true,
            (Type::F64, Some(value)) if self.unit == Unit::Percent => {
                scalar::percentage(value).is_err()
            }
            (_, value) => check(inner, value, self.key.is_some()).is_err(),
        }
    }
}

/// Checks that a value has what the contract requires. Optional values are skipped, since they are absent if they
/// cannot be read. `keyed`: it was found under a key, in an object that represents a list.
pub(super) fn check(ty: &'static Type, value: Option<&Value>, keyed: bool) -> Result<(), Misfit> {
    let value = value.filter(|value| !value.is_null());
    match ty {
        Type::Option(_) => return Ok(()),
        Type::List(Type::U8) => {}
        Type::List(inner) => return lists::check(inner, value),
        _ => {}
    }
    let value = value.ok_or_else(Misfit::missing)?;
    match ty {
        Type::Bool => scalar::boolean(value).map(drop),
        Type::U32 => scalar::integer::<u32>(value, U32).map(drop),
        Type::S32 => scalar::integer::<i32>(value, S32).map(drop),
        Type::F64 => scalar::number(value).map(drop),
        Type::String => scalar::check_text(value),
        Type::List(Type::U8) if !value.is_string() => Err(Misfit::found("a text", value)),
        Type::Json | Type::Option(_) | Type::List(_) => Ok(()),
        Type::Variant(variant) => {
            let open = variant.cases.iter().any(|case| case.open);
            if open || Choice::case(variant, &Choice::words(value)).is_some() {
                return Ok(());
            }
            Err(Choice::unknown(variant, value))
        }
        Type::Record(record) => {
            let object = match value {
                Value::Object(object) => Some(object),
                Value::Array(items) if items.is_empty() => None,
                other => return Err(Misfit::found("an object", other)),
            };
            let required = |field: &&Field| {
                !(matches!(field.ty, Type::Option(_)) || keyed && field.json == KEY)
            };
            for field in record.fields.iter().filter(required) {
                let named = match field.json {
                    KEY => Cow::Owned(plain(field)),
                    json => Cow::Borrowed(json),
                };
                let value = object.and_then(|object| object.get(&*named));
                let checked = match (&field.ty, former(field, value, object)) {
                    (Type::List(inner), Some(row)) => lists::check_row(inner, row),
                    _ => check(&field.ty, value, false),
                };
                checked.map_err(|misfit| misfit.inside(&named))?;
            }
            Ok(())
        }
        Type::Entry(_) | Type::U8 => Err(unanswered(value)),
    }
}

/// The object under a former name of a field, where nothing is under the present one.
fn former<'v>(
    field: &Field,
    value: Option<&Value>,
    object: Option<&'v Map<String, Value>>,
) -> Option<&'v Value> {
    if value.is_some_and(|value| !value.is_null()) {
        return None;
    }
    let mut named = field.former.iter().filter_map(|name| object?.get(*name));
    named.find(|value| value.is_object())
}

/// Not reached for valid answers: an entry has no key of its own, and bytes come as a text.
fn unanswered(value: &Value) -> Misfit {
    Misfit::found("nothing, since no answer has this type", value)
}

impl<'de> Deserializer<'de> for Decoder<'_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.ty {
            Type::Bool => visitor.visit_bool(scalar::boolean(self.present()?)?),
            Type::U32 => visitor.visit_u32(scalar::integer(self.present()?, U32)?),
            Type::S32 => visitor.visit_i32(scalar::integer(self.present()?, S32)?),
            Type::F64 if self.unit == Unit::Percent => {
                visitor.visit_f64(scalar::percentage(self.present()?)?)
            }
            Type::F64 => visitor.visit_f64(scalar::number(self.present()?)?),
            Type::String => visitor.visit_string(scalar::text(self.present()?)?),
            Type::Json => visitor.visit_string(self.present()?.to_string()),
            Type::Option(inner) => {
                if self.is_nothing(inner) {
                    visitor.visit_none()
                } else {
                    visitor.visit_some(Decoder { ty: inner, ..self })
                }
            }
            Type::List(Type::U8) => {
                let text = match self.present()? {
                    Value::String(text) => std::mem::take(text),
                    other => return Err(Misfit::found("a text", other)),
                };
                visitor.visit_seq(SeqDeserializer::<_, Misfit>::new(
                    text.into_bytes().into_iter(),
                ))
            }
            Type::List(inner) => {
                let form = lists::Form::of(inner, self.positions, self.unit);
                lists::visit(form, self.value, self.left_out, visitor)
            }
            Type::Record(record) => visitor.visit_seq(Fields::of(record, self)?),
            Type::Variant(variant) => visitor.visit_enum(Choice::of(variant, self.present()?)?),
            Type::Entry(_) | Type::U8 => Err(unanswered(self.present()?)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match self.ty {
            Type::Record(record) if record.rust == name => self.deserialize_any(visitor),
            _ => Err(Misfit::new(format!("no `{name}` by the contract"))),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The fields of a record, in the order of the contract.
struct Fields<'a> {
    fields: std::slice::Iter<'static, Field>,
    /// The object's value for each field; empty if there is no object.
    values: std::vec::IntoIter<Option<&'a mut Value>>,
    key: Option<&'a str>,
    /// The unit of what is in the unit that the object names.
    labelled: Unit,
    left_out: &'a LeftOut,
}

impl<'a> Fields<'a> {
    fn of(record: &'static Record, decoder: Decoder<'a>) -> Result<Self, Misfit> {
        let (key, left_out) = (decoder.key, decoder.left_out);
        let mut labelled = Unit::Plain;
        let values = match decoder.present()? {
            Value::Object(object) => {
                let label = object.get("unit").and_then(Value::as_str);
                if label.is_some_and(|label| label.trim() == "%") {
                    labelled = Unit::Percent;
                }
                by_field(record.fields, object, key.is_some())
            }
            // PHP writes an empty object as an empty array.
            Value::Array(items) if items.is_empty() => Vec::new(),
            other => return Err(Misfit::found("an object", other)),
        };
        Ok(Self {
            fields: record.fields.iter(),
            values: values.into_iter(),
            key,
            labelled,
            left_out,
        })
    }
}

/// The values of an object in the order of the fields; for one found under a key, without the value that the key
/// represents. The object is traversed once, and each name is first compared with the field after the last one found,
/// since servers mostly use the contract's order; looking up each field would hash every name. What is under a former
/// name is taken where nothing is under the present one.
fn by_field<'a>(
    fields: &'static [Field],
    object: &'a mut Map<String, Value>,
    keyed: bool,
) -> Vec<Option<&'a mut Value>> {
    let mut values: Vec<_> = fields.iter().map(|_| None).collect();
    let mut next = 0;
    for (name, value) in object {
        let (before, after) = fields.split_at_checked(next).unwrap_or((fields, &[]));
        let is_named = |field: &Field| match field.json {
            KEY => !keyed && plain(field) == *name,
            json => json == name || field.former.contains(&name.as_str()),
        };
        let found = (next..)
            .zip(after)
            .chain((0..).zip(before))
            .find(|(_, field)| is_named(field));
        if let Some((at, field)) = found
            && let Some(of_field) = values.get_mut(at)
        {
            if !field.former.contains(&name.as_str()) {
                if of_field.is_none() || !value.is_null() {
                    *of_field = Some(value);
                }
            } else if value.is_object() && of_field.as_deref().is_none_or(Value::is_null) {
                *value = Value::Array(vec![value.take()]);
                *of_field = Some(value);
            }
            next = at + 1;
        }
    }
    values
}

impl<'de> SeqAccess<'de> for Fields<'_> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Misfit> {
        let Some(field) = self.fields.next() else {
            return Ok(None);
        };
        let value = self.values.next().flatten();
        if let (KEY, Some(key)) = (field.json, self.key) {
            return seed.deserialize(StrDeserializer::new(key)).map(Some);
        }
        let mut decoder = Decoder::new(&field.ty, value, self.left_out);
        decoder.positions = field.positions;
        decoder.unit = match field.unit {
            Unit::Labelled => self.labelled,
            unit => unit,
        };
        seed.deserialize(decoder)
            .map(Some)
            .map_err(|misfit| match field.json {
                KEY => misfit.inside(&plain(field)),
                json => misfit.inside(json),
            })
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.fields.len())
    }
}

/// The selected case of a variant.
struct Choice {
    index: u32,
    /// The payload of the open case.
    text: Option<String>,
}

impl Choice {
    fn of(variant: &'static Variant, value: &mut Value) -> Result<Self, Misfit> {
        let at = Self::case(variant, &Self::words(value));
        let open = || variant.cases.iter().position(|case| case.open);
        let Some(index) = at.or_else(open) else {
            return Err(Self::unknown(variant, value));
        };
        let text = match value {
            Value::String(text) => std::mem::take(text),
            other => Self::words(other).into_owned(),
        };
        Ok(Self {
            index: u32::try_from(index)
                .map_err(|_| Misfit::new("a variant with too many cases"))?,
            text: at.is_none().then_some(text),
        })
    }

    /// The text that identifies a case.
    fn words(value: &Value) -> Cow<'_, str> {
        match value {
            Value::String(text) => Cow::Borrowed(text),
            Value::Number(number) => Cow::Owned(number.to_string()),
            other => Cow::Owned(excerpt(other)),
        }
    }

    /// The index of the case that a text identifies.
    fn case(variant: &Variant, text: &str) -> Option<usize> {
        let known = |case: &Case| !case.open && case.means(text);
        variant.cases.iter().position(known)
    }

    fn unknown(variant: &Variant, value: &Value) -> Misfit {
        Misfit::found(&format!("a case of `{}`", variant.name), value)
    }
}

impl<'de> EnumAccess<'de> for Choice {
    type Error = Misfit;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Misfit> {
        let index: U32Deserializer<Misfit> = self.index.into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'de> VariantAccess<'de> for Choice {
    type Error = Misfit;

    fn unit_variant(self) -> Result<(), Misfit> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Misfit> {
        let text: StringDeserializer<Misfit> = self.text.unwrap_or_default().into_deserializer();
        seed.deserialize(text)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Misfit> {
        Err(Misfit::new("no case of the contract"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Misfit> {
        Err(Misfit::new("no case of the contract"))
    }
}
