//! Lists, in every form in which QuantConnect writes them: arrays, objects whose keys are names,
//! figures by name or by position, and points of a chart.

use qchost_catalog::Unit;
use qchost_catalog::shape::{Field, Record, Type};
use serde::de::value::{F64Deserializer, SeqAccessDeserializer, StringDeserializer};
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::map::IntoIter;
use serde_json::{Map, Value};

use super::decode::{self, Decoder};
use super::left_out::LeftOut;
use super::misfit::Misfit;
use super::scalar;

/// Feeds the elements of a list to the visitor. Rows that cannot be read are left out and counted, including nulls; a
/// null figure or keyed entry is unset and skipped silently.
pub(super) fn visit<'de, V: Visitor<'de>>(
    form: Form,
    value: Option<&mut Value>,
    left_out: &LeftOut,
    visitor: V,
) -> Result<V::Value, Misfit> {
    check_rows(form, value.as_deref())?;
    match value {
        None => visitor.visit_seq(Items {
            items: [].iter_mut().enumerate(),
            form,
            left_out,
        }),
        Some(Value::Array(items)) if matches!(form, Form::Entries(_)) => {
            let pairs: Map<String, Value> = items.iter_mut().filter_map(take_pair).collect();
            visitor.visit_seq(Entries {
                entries: pairs.into_iter(),
                form,
                left_out,
            })
        }
        Some(Value::Array(items)) => visitor.visit_seq(Items {
            items: items.iter_mut().enumerate(),
            form,
            left_out,
        }),
        Some(Value::Object(object)) => visitor.visit_seq(Entries {
            entries: std::mem::take(object).into_iter(),
            form,
            left_out,
        }),
        Some(other) => Err(Misfit::found("a list", other)),
    }
}

/// Whether a value is a list of this type. Names and units do not matter for that.
pub(super) fn check(inner: &'static Type, value: Option<&Value>) -> Result<(), Misfit> {
    check_rows(Form::of(inner, &[], Unit::Plain), value)
}

/// Whether a value is a row of a list of this type.
pub(super) fn check_row(inner: &'static Type, row: &Value) -> Result<(), Misfit> {
    Form::of(inner, &[], Unit::Plain).check(row, false)
}

/// Whether a value is a list of this form: empty, or with at least one readable row. If no row can be read, the list
/// violates the contract, and an empty list would wrongly say that there are no rows.
fn check_rows(form: Form, value: Option<&Value>) -> Result<(), Misfit> {
    // A problem other than null is more informative.
    let (mut first, mut null): (Option<Misfit>, Option<Misfit>) = (None, None);
    let mut reads = |value: &Value, keyed, locate: &dyn Fn(Misfit) -> Misfit| {
        let checked = match form.is_unset(value) {
            true => return false,
            false => form.check(value, keyed),
        };
        let misfits = if value.is_null() {
            &mut null
        } else {
            &mut first
        };
        checked
            .map_err(|misfit| {
                misfits.get_or_insert_with(|| locate(misfit));
            })
            .is_ok()
    };
    let readable = match (value, form) {
        (None, _) => true,
        (Some(Value::Array(items)), Form::Entries(_)) if !items.is_empty() => {
            if items.iter().any(|item| pair(item).is_none()) {
                return Err(Misfit::new("expected an object, found a list"));
            }
            let mut pairs = items.iter().filter_map(pair);
            pairs.any(|(key, value)| reads(value, true, &|misfit| misfit.inside(key)))
        }
        (Some(Value::Array(items)), _) => {
            let mut rows = items.iter().enumerate();
            rows.any(|(at, value)| reads(value, false, &|misfit| misfit.at(at)))
        }
        (Some(Value::Object(object)), _) => object
            .iter()
            .any(|(key, value)| reads(value, true, &|misfit| misfit.inside(key))),
        (Some(other), _) => return Err(Misfit::found("a list", other)),
    };
    match first.or(null) {
        Some(misfit) if !readable => Err(misfit),
        _ => Ok(()),
    }
}

/// An entry of an object that QuantConnect writes as a list, as it does with the parameters of a project.
fn pair(item: &Value) -> Option<(&str, &Value)> {
    Some((item.get("key")?.as_str()?, item.get("value")?))
}

fn take_pair(item: &mut Value) -> Option<(String, Value)> {
    let key = item.get("key")?.as_str()?.to_owned();
    Some((key, item.get_mut("value")?.take()))
}

/// Names and units of statistics that are sent as bare numbers.
type Positions = &'static [(&'static str, Unit)];

/// The form of the elements.
#[derive(Clone, Copy)]
pub(super) enum Form {
    Plain(&'static Type),
    Entries(&'static Type),
    Statistics(&'static Type, &'static Record, Positions),
    Points(&'static Record, Unit),
}

impl Form {
    /// The form of elements of this type. The unit is that of the values of points.
    pub(super) fn of(inner: &'static Type, positions: Positions, unit: Unit) -> Self {
        match inner {
            Type::Record(record) if record.name == "statistic" => {
                Self::Statistics(inner, record, positions)
            }
            Type::Record(record) if record.name == "point" => Self::Points(record, unit),
            Type::Entry(value) => Self::Entries(value),
            _ => Self::Plain(inner),
        }
    }

    /// Whether an element is an unset figure or keyed entry, which is not counted as a missing row.
    fn is_unset(self, value: &Value) -> bool {
        value.is_null() && matches!(self, Self::Statistics(..) | Self::Entries(_))
    }

    /// Whether an element can be read. `keyed`: it was found under a key.
    fn check(self, value: &Value, keyed: bool) -> Result<(), Misfit> {
        match self {
            _ if value.is_null() => Err(Misfit::found("a row of the list", value)),
            Self::Plain(ty) => decode::check(ty, Some(value), keyed),
            Self::Entries(ty) => decode::check(ty, Some(value), false),
            Self::Statistics(ty, ..) if value.is_object() && !keyed => {
                decode::check(ty, Some(value), false)
            }
            Self::Statistics(..) => scalar::check_text(value),
            Self::Points(record, unit) => point(record, value, unit).map(drop),
        }
    }

    /// Whether an element is read. One that cannot be is counted as left out, with its path.
    fn reads(
        self,
        value: &Value,
        keyed: bool,
        left_out: &LeftOut,
        locate: impl FnOnce(Misfit) -> Misfit,
    ) -> bool {
        !self.is_unset(value)
            && self
                .check(value, keyed)
                .map_err(|misfit| left_out.add(locate(misfit)))
                .is_ok()
    }
}

struct Items<'a> {
    items: std::iter::Enumerate<std::slice::IterMut<'a, Value>>,
    form: Form,
    left_out: &'a LeftOut,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Misfit> {
        let (form, left_out) = (self.form, self.left_out);
        let readable = |(index, value): &(usize, &mut Value)| {
            form.reads(value, false, left_out, |misfit| misfit.at(*index))
        };
        let Some((index, value)) = self.items.find(readable) else {
            return Ok(None);
        };
        let element = match self.form {
            Form::Plain(ty) | Form::Entries(ty) => {
                seed.deserialize(Decoder::new(ty, Some(value), left_out))
            }
            Form::Statistics(ty, ..) if value.is_object() => {
                seed.deserialize(Decoder::new(ty, Some(value), left_out))
            }
            Form::Statistics(_, record, positions) => {
                let (name, unit) = positions
                    .get(index)
                    .map_or_else(|| (index.to_string(), Unit::Plain), named_statistic);
                scalar::text(value)
                    .and_then(|text| seed.deserialize(statistic(record, name, text, unit)))
            }
            Form::Points(record, unit) => {
                point(record, value, unit).and_then(|built| seed.deserialize(built))
            }
        };
        element.map(Some).map_err(|misfit| misfit.at(index))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries<'a> {
    entries: IntoIter,
    form: Form,
    left_out: &'a LeftOut,
}

impl<'de> SeqAccess<'de> for Entries<'_> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Misfit> {
        let (form, left_out) = (self.form, self.left_out);
        let readable = |(key, value): &(String, Value)| {
            form.reads(value, true, left_out, |misfit| misfit.inside(key))
        };
        let Some((key, mut value)) = self.entries.find(readable) else {
            return Ok(None);
        };
        let element = match self.form {
            Form::Plain(ty) => {
                seed.deserialize(Decoder::new(ty, Some(&mut value), left_out).found_under(&key))
            }
            Form::Entries(ty) => seed.deserialize(SeqAccessDeserializer::new(Pair {
                key: Some(&key),
                value: Some(Decoder::new(ty, Some(&mut value), left_out)),
            })),
            Form::Statistics(_, record, positions) => match scalar::text(&mut value) {
                Ok(text) => {
                    let (name, unit) = keyed_statistic(positions, key);
                    let statistic = statistic(record, name, text, unit);
                    return seed.deserialize(statistic).map(Some);
                }
                Err(misfit) => Err(misfit),
            },
            Form::Points(record, unit) => {
                point(record, &value, unit).and_then(|built| seed.deserialize(built))
            }
        };
        element.map(Some).map_err(|misfit| misfit.inside(&key))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// An entry of an object as a pair.
struct Pair<'a> {
    key: Option<&'a str>,
    value: Option<Decoder<'a>>,
}

impl<'de> SeqAccess<'de> for Pair<'_> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Misfit> {
        if let Some(key) = self.key.take() {
            return seed.deserialize(key.into_deserializer()).map(Some);
        }
        self.value
            .take()
            .map(|value| seed.deserialize(value))
            .transpose()
    }
}

fn named_statistic((name, unit): &(&'static str, Unit)) -> (String, Unit) {
    ((*name).to_owned(), *unit)
}

/// The name and the unit of a statistic that was found under a key: its position, or its name.
fn keyed_statistic(positions: Positions, key: String) -> (String, Unit) {
    let position = key.parse().ok().and_then(|at: usize| positions.get(at));
    let known = position.or_else(|| positions.iter().find(|(name, _)| *name == key));
    known.map_or((key, Unit::Plain), named_statistic)
}

/// A statistic from its name and the text under it. The bare number of a percentage gets its sign.
fn statistic(
    record: &'static Record,
    name: String,
    mut text: String,
    unit: Unit,
) -> Building<'static> {
    let mut value = scalar::figure(&text);
    if unit == Unit::Percent && value.is_some() && !text.trim_end().ends_with('%') {
        text.push('%');
        value = scalar::figure(&text);
    }
    SeqAccessDeserializer::new(Built {
        fields: record.fields.iter(),
        parts: Parts::Statistic { name, text, value },
    })
}

/// A sample of a chart: `[time, value…]`, `{x, y}`, or a candle with long or short names. The unit
/// is that of its values.
fn point<'a>(
    record: &'static Record,
    value: &'a Value,
    unit: Unit,
) -> Result<Building<'a>, Misfit> {
    let (time, values) = match value {
        Value::Array(items) => {
            let [time, values @ ..] = items.as_slice() else {
                return Err(Misfit::new("expected a point, found an empty list"));
            };
            (Some(time), Samples::List(values.iter()))
        }
        Value::Object(object) => (first(object, &["x", "time", "t"]), named(object)),
        other => return Err(Misfit::found("a point of a chart", other)),
    };
    let time = time
        .filter(|time| !time.is_null())
        .ok_or_else(|| Misfit::missing().inside("time"))?;
    Ok(SeqAccessDeserializer::new(Built {
        fields: record.fields.iter(),
        parts: Parts::Point {
            time: scalar::number(time).map_err(|misfit| misfit.inside("time"))?,
            values: Values {
                samples: values,
                unit,
            },
        },
    }))
}

/// The values of a point with named fields.
fn named(object: &Map<String, Value>) -> Samples<'_> {
    const CANDLES: [[&str; 4]; 2] = [["open", "high", "low", "close"], ["o", "h", "l", "c"]];
    if let Some(value) = first(object, &["y", "value", "v"]) {
        return Samples::List(std::slice::from_ref(value).iter());
    }
    if let Some(Value::Array(values)) = object.get("values") {
        return Samples::List(values.iter());
    }
    let candle = CANDLES
        .iter()
        .find(|names| names.iter().any(|name| object.contains_key(*name)));
    candle.map_or(Samples::List([].iter()), |names| {
        Samples::Candle(names.map(|name| object.get(name)).into_iter())
    })
}

fn first<'v>(object: &'v Map<String, Value>, names: &[&str]) -> Option<&'v Value> {
    names.iter().find_map(|name| object.get(*name))
}

/// A value of a series, or a gap in it, also for non-numbers such as `"NaN"`.
fn number_or_gap(value: &Value, unit: Unit) -> OptionalNumber {
    OptionalNumber(match unit {
        Unit::Percent => scalar::percentage(value).ok(),
        _ => scalar::number(value).ok(),
    })
}

/// A number that may be missing.
#[derive(Clone, Copy)]
struct OptionalNumber(Option<f64>);

impl<'de> Deserializer<'de> for OptionalNumber {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Some(number) => visitor.visit_some(F64Deserializer::new(number)),
            None => visitor.visit_none(),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// The values of a point with their unit, borrowed from the answer: charts have thousands of points, so none allocates
/// but those of percentages.
struct Values<'a> {
    samples: Samples<'a>,
    unit: Unit,
}

enum Samples<'a> {
    /// A sequence of values.
    List(std::slice::Iter<'a, Value>),
    /// Under four names, of which some may be missing.
    Candle(std::array::IntoIter<Option<&'a Value>, 4>),
}

impl<'de> SeqAccess<'de> for Values<'_> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Misfit> {
        let value = match &mut self.samples {
            Samples::List(values) => values.next().map(Some),
            Samples::Candle(values) => values.next(),
        };
        let unit = self.unit;
        let number = |value| number_or_gap(value, unit);
        value
            .map(|value| seed.deserialize(value.map_or(OptionalNumber(None), number)))
            .transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(match &self.samples {
            Samples::List(values) => values.len(),
            Samples::Candle(values) => values.len(),
        })
    }
}

/// Feeds what is built to a visitor.
type Building<'a> = SeqAccessDeserializer<Built<'a>>;

/// A statistic or a point, built from parts that are not laid out like a record.
struct Built<'a> {
    fields: std::slice::Iter<'static, Field>,
    parts: Parts<'a>,
}

enum Parts<'a> {
    Statistic {
        name: String,
        text: String,
        value: Option<f64>,
    },
    Point {
        time: f64,
        values: Values<'a>,
    },
}

impl<'de> SeqAccess<'de> for Built<'_> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Misfit> {
        let Some(field) = self.fields.next() else {
            return Ok(None);
        };
        match (&mut self.parts, field.name) {
            (Parts::Statistic { name, .. }, "name") => seed.deserialize(owned(name)),
            (Parts::Statistic { text, .. }, "text") => seed.deserialize(owned(text)),
            (Parts::Statistic { value, .. }, "value") => seed.deserialize(OptionalNumber(*value)),
            (Parts::Point { time, .. }, "time") => seed.deserialize(F64Deserializer::new(*time)),
            (Parts::Point { values, .. }, "values") => {
                let samples = std::mem::replace(&mut values.samples, Samples::List([].iter()));
                let unit = values.unit;
                seed.deserialize(SeqAccessDeserializer::new(Values { samples, unit }))
            }
            (_, name) => Err(Misfit::missing().inside(name)),
        }
        .map(Some)
    }
}

fn owned(text: &mut String) -> StringDeserializer<Misfit> {
    std::mem::take(text).into_deserializer()
}
