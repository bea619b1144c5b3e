//! Functions that are not the project's: Python's own, `datetime`, and those classes of LEAN's
//! that a plan depends on.

use std::str::FromStr;

use jiff::civil::{Date, Time};
use ruff_python_ast::CmpOp;

use super::calls::{Call, CallArguments};
use super::reader::{Evaluated, Reader};
use super::value::{self, Refused, Value};
use crate::engine::model::numbers::{display_float, whole};
use crate::engine::model::plan::AverageKind;

impl<'a> Reader<'a> {
    /// Calls something by the name that the source gives it.
    pub(super) fn call_path(&mut self, call: &Call<'a>) -> Evaluated<'a> {
        let (path, arguments) = (&*call.path, &call.arguments);
        let first = arguments.value(0, "");
        let plain = arguments.len() == 1 && !arguments.incomplete;
        // `datetime.datetime(…)` and `dt.datetime(…)` are the `datetime(…)` of `from datetime
        // import datetime`.
        let last = path.rsplit('.').next().unwrap_or(path);
        let name = match last {
            "datetime" | "date" | "timedelta" | "strptime" | "fromisoformat" => last,
            _ => path,
        };
        match name {
            "int" if plain => self.refused(to_int(&first)),
            "float" if plain => self.refused(to_float(&first)),
            "str" if plain => Ok(self.shown(&first)),
            "bool" if plain => Ok(self.truth(&first).map_or(Value::Unknown, Value::Bool)),
            "abs" if plain => Ok(match (first.integer(), first.number()) {
                (Some(int), _) => int.checked_abs().map_or(Value::Unknown, Value::Int),
                (None, Some(float)) => Value::Float(float.abs()),
                _ => Value::Unknown,
            }),
            "round" if plain => Ok(whole_number(&first, libm::rint)),
            "math.floor" if plain => Ok(whole_number(&first, libm::floor)),
            "math.ceil" if plain => Ok(whole_number(&first, libm::ceil)),
            "len" if plain => self.length(&first),
            "list" | "tuple" | "set" if arguments.len() <= 1 => {
                if arguments.len() == 0 {
                    return self.new_list(Vec::new());
                }
                match self.elements(&first)? {
                    Some(elements) => self.new_list(elements),
                    None => Ok(Value::Unknown),
                }
            }
            "sorted" if plain => self.sorted(&first),
            "dict" if arguments.positional.is_empty() && !arguments.incomplete => {
                let items = arguments.keywords.iter();
                let items = items.map(|(name, value)| (Value::text(name), value.clone()));
                self.new_dict(items.collect())
            }
            "range" => self.range(arguments),
            "enumerate" => self.enumerate(arguments),
            "zip" => self.zip(arguments),
            "min" => self.extreme(arguments, CmpOp::Lt),
            "max" => self.extreme(arguments, CmpOp::Gt),
            "sum" if plain => self.sum(&first),
            "datetime" | "date" => self.refused(moment(arguments)),
            "timedelta" => Ok(span(arguments)),
            "strptime" => Ok(parse_moment(arguments)),
            "fromisoformat" => Ok(iso_moment(&first)),
            "print" => {
                self.log_message(&first);
                Ok(Value::None)
            }
            "Symbol.create" | "Symbol.Create" => Ok(first),
            "SimpleMovingAverage" => self.average_object(AverageKind::Simple, call),
            "ExponentialMovingAverage" => self.average_object(AverageKind::Exponential, call),
            "PortfolioTarget" => {
                self.trade_weight(call)?;
                Ok(Value::Unknown)
            }
            _ => Ok(Value::Unknown),
        }
    }

    fn length(&mut self, of: &Value<'a>) -> Evaluated<'a> {
        let length = match of {
            Value::List(list) => self.lists.get(*list).map(Vec::len),
            Value::Dict(dict) => self.dicts.get(*dict).map(Vec::len),
            Value::Text(text) => Some(text.chars().count()),
            Value::None | Value::Int(_) | Value::Float(_) | Value::Bool(_) => {
                let message = format!("object of type '{}' has no len()", of.type_name());
                return self.refuse("TypeError", message);
            }
            _ => None,
        };
        Ok(length
            .and_then(|length| i64::try_from(length).ok())
            .map_or(Value::Unknown, Value::Int))
    }

    fn range(&mut self, arguments: &CallArguments<'a>) -> Evaluated<'a> {
        let bounds: Option<Vec<i64>> = arguments.positional.iter().map(Value::integer).collect();
        let (from, to, by) = match bounds.as_deref() {
            Some([to]) => (0, *to, 1),
            Some([from, to]) => (*from, *to, 1),
            Some([from, to, by]) if *by != 0 => (*from, *to, *by),
            _ => return Ok(Value::Unknown),
        };
        let mut elements = Vec::new();
        let mut next = from;
        while (by > 0 && next < to) || (by < 0 && next > to) {
            self.check_length(elements.len() + 1)?;
            elements.push(Value::Int(next));
            match next.checked_add(by) {
                Some(after) => next = after,
                None => break,
            }
        }
        self.new_list(elements)
    }

    fn enumerate(&mut self, arguments: &CallArguments<'a>) -> Evaluated<'a> {
        let of = arguments.value(0, "iterable");
        let Some(elements) = self.elements(&of)? else {
            return Ok(Value::Unknown);
        };
        let start = arguments
            .get(1, "start")
            .and_then(Value::integer)
            .unwrap_or(0);
        let mut pairs = Vec::with_capacity(elements.len());
        for (index, element) in (start..).zip(elements) {
            pairs.push(self.new_list(vec![Value::Int(index), element])?);
        }
        self.new_list(pairs)
    }

    fn zip(&mut self, arguments: &CallArguments<'a>) -> Evaluated<'a> {
        let mut columns = Vec::new();
        for argument in &arguments.positional {
            match self.elements(argument)? {
                Some(elements) => columns.push(elements.into_iter()),
                None => return Ok(Value::Unknown),
            }
        }
        let mut rows = Vec::new();
        while !columns.is_empty() {
            let row: Option<Vec<_>> = columns.iter_mut().map(Iterator::next).collect();
            match row {
                Some(row) => rows.push(self.new_list(row)?),
                None => break,
            }
        }
        self.new_list(rows)
    }

    /// `min(…)` and `max(…)`: the first element that none beats.
    fn extreme(&mut self, arguments: &CallArguments<'a>, beats: CmpOp) -> Evaluated<'a> {
        let candidates = match arguments.positional.as_slice() {
            [only] => self.elements(only)?,
            many => Some(many.to_vec()),
        };
        let Some(candidates) = candidates.filter(|_| arguments.keywords.is_empty()) else {
            return Ok(Value::Unknown);
        };
        let mut candidates = candidates.into_iter();
        let Some(mut best) = candidates.next() else {
            return self.refuse("ValueError", "the sequence is empty");
        };
        for candidate in candidates {
            match value::compare(beats, &candidate, &best) {
                Some(true) => best = candidate,
                Some(false) => {}
                None => return Ok(Value::Unknown),
            }
        }
        Ok(best)
    }

    fn sorted(&mut self, of: &Value<'a>) -> Evaluated<'a> {
        let Some(mut elements) = self.elements(of)? else {
            return Ok(Value::Unknown);
        };
        let comparable = |pair: &[Value<'a>]| match pair {
            [a, b] => value::compare(CmpOp::Lt, a, b).is_some(),
            _ => false,
        };
        if !elements.windows(2).all(comparable) {
            return Ok(Value::Unknown);
        }
        elements.sort_by(|a, b| {
            let less = |a, b| value::compare(CmpOp::Lt, a, b) == Some(true);
            match (less(a, b), less(b, a)) {
                (true, _) => std::cmp::Ordering::Less,
                (_, true) => std::cmp::Ordering::Greater,
                _ => std::cmp::Ordering::Equal,
            }
        });
        self.new_list(elements)
    }

    fn sum(&mut self, of: &Value<'a>) -> Evaluated<'a> {
        let Some(elements) = self.elements(of)? else {
            return Ok(Value::Unknown);
        };
        let mut total = Value::Int(0);
        for element in elements {
            total = self.operate(ruff_python_ast::Operator::Add, &total, &element)?;
        }
        Ok(total)
    }
}

fn whole_number<'a>(value: &Value<'_>, round: fn(f64) -> f64) -> Value<'a> {
    let number = value.number().and_then(|number| whole(round(number)));
    number.map_or(Value::Unknown, Value::Int)
}

/// `int(value)`
fn to_int<'a>(value: &Value<'_>) -> Result<Value<'a>, Refused> {
    match value {
        Value::Text(text) => number_in(text, Value::Int, "invalid literal for int() with base 10"),
        Value::Float(float) if float.is_nan() => Err(Refused::new(
            "ValueError",
            "cannot convert float NaN to integer",
        )),
        Value::Float(float) if float.is_infinite() => Err(Refused::new(
            "OverflowError",
            "cannot convert float infinity to integer",
        )),
        Value::Float(float) => Ok(whole(*float).map_or(Value::Unknown, Value::Int)),
        value => match value.integer() {
            Some(int) => Ok(Value::Int(int)),
            None => {
                let accepted =
                    "int() argument must be a string, a bytes-like object or a real number";
                not_a_number(value, accepted)
            }
        },
    }
}

/// `float(value)`
fn to_float<'a>(value: &Value<'_>) -> Result<Value<'a>, Refused> {
    match value {
        Value::Text(text) => number_in(text, Value::Float, "could not convert string to float"),
        value => match value.number() {
            Some(number) => Ok(Value::Float(number)),
            None => not_a_number(value, "float() argument must be a string or a real number"),
        },
    }
}

/// The number that a text is, refused with `problem` if it is none.
fn number_in<'a, T: FromStr>(
    text: &str,
    value: fn(T) -> Value<'a>,
    problem: &str,
) -> Result<Value<'a>, Refused> {
    let number = text.trim().replace('_', "").parse();
    let refused = |_| Refused::new("ValueError", format!("{problem}: '{text}'"));
    number.map(value).map_err(refused)
}

/// What a conversion to a number gives for a value that is neither text nor number.
fn not_a_number<'a>(value: &Value<'_>, accepted: &str) -> Result<Value<'a>, Refused> {
    match value {
        Value::None | Value::List(_) | Value::Dict(_) => Err(Refused::new(
            "TypeError",
            format!("{accepted}, not '{}'", value.type_name()),
        )),
        _ => Ok(Value::Unknown),
    }
}

/// A date from year, month and day, refused as Python refuses it.
pub(super) fn date(year: i64, month: i64, day: i64) -> Result<Date, Refused> {
    let refused = |message: String| Refused::new("ValueError", message);
    let year = i16::try_from(year)
        .ok()
        .filter(|year| *year >= 1)
        .ok_or_else(|| refused(format!("year {year} is out of range")))?;
    let month = i8::try_from(month)
        .ok()
        .filter(|month| (1..=12).contains(month))
        .ok_or_else(|| refused(format!("month must be in 1..12, not {month}")))?;
    i8::try_from(day)
        .ok()
        .and_then(|day| Date::new(year, month, day).ok())
        .ok_or_else(|| refused(format!("day is out of range for month: {day}")))
}

/// `datetime(y, m, d, …)`, `date(y, m, d)`
fn moment<'a>(arguments: &CallArguments<'_>) -> Result<Value<'a>, Refused> {
    let part = |index, name| arguments.value(index, name).integer();
    let (Some(year), Some(month), Some(day)) = (part(0, "year"), part(1, "month"), part(2, "day"))
    else {
        return Ok(Value::Unknown);
    };
    let time = |index, name| {
        let value = part(index, name).unwrap_or(0);
        i8::try_from(value).map_err(|_| Refused::new("ValueError", format!("{name} {value}")))
    };
    let time = Time::new(time(3, "hour")?, time(4, "minute")?, time(5, "second")?, 0)
        .map_err(|_| Refused::new("ValueError", "hour, minute or second is out of range"))?;
    Ok(Value::Moment(date(year, month, day)?.to_datetime(time)))
}

/// `timedelta(days, seconds, microseconds, milliseconds, minutes, hours, weeks)`
fn span<'a>(arguments: &CallArguments<'_>) -> Value<'a> {
    const PARTS: [(&str, f64); 7] = [
        ("days", 86_400.0),
        ("seconds", 1.0),
        ("microseconds", 1e-6),
        ("milliseconds", 1e-3),
        ("minutes", 60.0),
        ("hours", 3_600.0),
        ("weeks", 604_800.0),
    ];
    let mut seconds = 0.0;
    for (index, (name, unit)) in PARTS.into_iter().enumerate() {
        match arguments.value(index, name) {
            Value::None => {}
            value => match value.number() {
                Some(number) => seconds += number * unit,
                None => return Value::Unknown,
            },
        }
    }
    Value::Span(seconds)
}

fn parse_moment<'a>(arguments: &CallArguments<'_>) -> Value<'a> {
    let (Value::Text(text), Value::Text(format)) = (arguments.value(0, ""), arguments.value(1, ""))
    else {
        return Value::Unknown;
    };
    jiff::fmt::strtime::parse(format.as_bytes(), text.as_bytes())
        .ok()
        .and_then(|parts| {
            let time = parts.to_time().unwrap_or(Time::midnight());
            Some(parts.to_date().ok()?.to_datetime(time))
        })
        .map_or(Value::Unknown, Value::Moment)
}

fn iso_moment<'a>(text: &Value<'_>) -> Value<'a> {
    match text {
        Value::Text(text) => text.parse().map_or(Value::Unknown, Value::Moment),
        _ => Value::Unknown,
    }
}

/// A value as LEAN holds parameters: as text.
pub(super) fn parameter_text(value: &Value<'_>) -> Option<String> {
    match value {
        Value::Float(float) => Some(display_float(*float)),
        Value::None => None,
        value => value.display(),
    }
}
