//! JSON after the shapes of the contract, out of the bytes of an input.

use arbitrary::Unstructured;
use qchost_catalog::OPERATIONS;
use qchost_catalog::names::{CASES, KEY};
use qchost_catalog::shape::{Field, Record, Type, Variant};
use serde_json::{Map, Value, json};

/// How many elements a list gets at most.
const ELEMENTS: usize = 4;

/// Makes answers.
pub(crate) struct Shaper<'b, 'a> {
    bytes: &'b mut Unstructured<'a>,
    /// Whether a value may be anything at all.
    careless: bool,
    /// How many names were made up.
    names: usize,
    /// Cases that no contract knows, by number.
    unknown: Vec<String>,
}

impl<'b, 'a> Shaper<'b, 'a> {
    /// Makes answers in the forms that the contract forgives.
    pub(crate) fn careful(bytes: &'b mut Unstructured<'a>) -> Self {
        Self {
            bytes,
            careless: false,
            names: 0,
            unknown: Vec::new(),
        }
    }

    /// Makes answers in which a value may be anything.
    pub(crate) fn careless(bytes: &'b mut Unstructured<'a>) -> Self {
        Self {
            careless: true,
            ..Self::careful(bytes)
        }
    }

    /// The cases that were made up.
    pub(crate) fn unknown(self) -> Vec<String> {
        self.unknown
    }

    /// A value that an answer may have for a type.
    pub(crate) fn answer(&mut self, ty: &'static Type) -> Value {
        if self.careless && self.chance(16) {
            return any(self.bytes, 3);
        }
        match ty {
            Type::Bool => self.pick(&[
                json!(true),
                json!(false),
                json!(1),
                json!(0),
                json!("true"),
                json!("False"),
            ]),
            Type::U8 => json!(self.number::<u8>()),
            Type::U32 => {
                let number: u32 = self.number();
                self.written(json!(number), f64::from(number))
            }
            Type::S32 => {
                let number: i32 = self.number();
                self.written(json!(number), f64::from(number))
            }
            Type::F64 => {
                let number = finite(self.bytes);
                self.written(json!(number), number)
            }
            Type::String => match self.below(4) {
                0 => json!(self.number::<i64>()),
                1 => json!(true),
                _ => json!(text(self.bytes)),
            },
            Type::Json => any(self.bytes, 3),
            Type::Option(inner) => match self.below(4) {
                0 => self.nothing(inner),
                _ => self.answer(inner),
            },
            Type::List(Type::U8) => json!(text(self.bytes)),
            Type::List(inner) => self.list(inner),
            Type::Entry(_) => unreachable!("only in lists"),
            Type::Record(record) => Value::Object(self.record(record, false)),
            Type::Variant(variant) => self.case(variant),
        }
    }

    /// How QuantConnect says that there is nothing.
    fn nothing(&mut self, inner: &Type) -> Value {
        match inner {
            Type::Record(_) => self.pick(&[Value::Null, json!([])]),
            Type::U32 | Type::S32 | Type::F64 => self.pick(&[Value::Null, json!(""), json!("-")]),
            _ => Value::Null,
        }
    }

    /// A number as a number, with a fraction, or as text.
    fn written(&mut self, number: Value, float: f64) -> Value {
        match self.below(4) {
            0 => json!(float),
            1 => json!(number.to_string()),
            2 => json!(format!(" {number} ")),
            _ => number,
        }
    }

    fn list(&mut self, inner: &'static Type) -> Value {
        if self.chance(8) {
            return self.pick(&[Value::Null, json!([])]);
        }
        let length = self.below(ELEMENTS + 1);
        let keyed = match inner {
            Type::Entry(_) => true,
            _ => self.chance(3),
        };
        match inner {
            Type::Entry(value) => self.object(length, |shaper| shaper.answer(value)),
            Type::Record(record) if record.name == "statistic" && keyed => {
                self.object(length, Self::figure)
            }
            Type::Record(record) if record.name == "statistic" => self.array(length, |shaper| {
                if shaper.chance(2) {
                    shaper.figure()
                } else {
                    Value::Object(shaper.record(record, false))
                }
            }),
            Type::Record(record) if record.name == "point" => self.array(length, Self::point),
            Type::Record(record) if keyed => {
                self.object(length, |shaper| Value::Object(shaper.record(record, true)))
            }
            _ => self.array(length, |shaper| shaper.answer(inner)),
        }
    }

    fn array(&mut self, length: usize, mut element: impl FnMut(&mut Self) -> Value) -> Value {
        Value::Array((0..length).map(|_| element(self)).collect())
    }

    fn object(&mut self, length: usize, mut element: impl FnMut(&mut Self) -> Value) -> Value {
        let entries = (0..length).map(|_| (self.name(), element(self)));
        Value::Object(entries.collect())
    }

    /// A name that no other has, so that nothing replaces what has it. What is before the number may end in digits.
    fn name(&mut self) -> String {
        self.names += 1;
        format!("{}#{}", text(self.bytes), self.names)
    }

    fn figure(&mut self) -> Value {
        let number = finite(self.bytes);
        let words = ["12.3%", "-$1,234.50", "-", "00:00:01", "1.5E-05", ""];
        match self.below(4) {
            0 => json!(number),
            1 => json!(text(self.bytes)),
            2 => json!(format!("${number}")),
            _ => json!(words[self.below(words.len())]),
        }
    }

    fn point(&mut self) -> Value {
        let (time, value) = (finite(self.bytes), finite(self.bytes));
        match self.below(5) {
            0 => json!([time]),
            1 => json!([time, value, null, value.to_string()]),
            2 => json!({ "x": time, "y": value }),
            3 => json!({ "time": time.to_string(), "open": value, "close": null }),
            _ => json!({ "t": time, "values": [value, null] }),
        }
    }

    /// A record; one found under a key may leave out what the key says.
    fn record(&mut self, record: &'static Record, keyed: bool) -> Map<String, Value> {
        let mut object = Map::new();
        for field in record.fields {
            let name = match field.json {
                KEY if keyed => continue,
                KEY => plain(field),
                name => name.to_owned(),
            };
            let absent = match &field.ty {
                Type::List(Type::U8) => self.careless && self.chance(16),
                Type::Option(_) | Type::List(_) => self.chance(4),
                _ => self.careless && self.chance(16),
            };
            if !absent {
                let value = match (&field.ty, field.positions) {
                    (Type::List(_), [_, ..]) if self.chance(2) => {
                        let length = self.below(field.positions.len() + 2);
                        self.array(length, |shaper| json!(finite(shaper.bytes)))
                    }
                    (ty, _) => self.answer(ty),
                };
                object.insert(name, value);
            }
        }
        if self.chance(8) {
            object.insert(self.name(), any(self.bytes, 2));
        }
        object
    }

    fn case(&mut self, variant: &'static Variant) -> Value {
        let open = variant.cases.iter().any(|case| case.open);
        if open && self.chance(3) {
            let made_up = format!("~{}~", self.unknown.len());
            self.unknown.push(made_up.clone());
            return json!(made_up);
        }
        let known: Vec<_> = variant.cases.iter().flat_map(|case| case.json).collect();
        let json = known[self.below(known.len())];
        match (json.strip_suffix('*'), json.parse::<i64>()) {
            (Some(start), _) => json!(format!("{start}{}", text(self.bytes))),
            (None, Ok(number)) if self.chance(2) => json!(number),
            _ => json!(json),
        }
    }

    fn pick(&mut self, values: &[Value]) -> Value {
        values[self.below(values.len())].clone()
    }

    /// Once in `many` times; never when the bytes are used up.
    fn chance(&mut self, times: usize) -> bool {
        !self.bytes.is_empty() && self.below(times) == 0
    }

    fn below(&mut self, end: usize) -> usize {
        below(self.bytes, end)
    }

    fn number<T: arbitrary::Arbitrary<'a>>(&mut self) -> T {
        number(self.bytes)
    }
}

/// Arguments of these fields as an agent's are sent: in the contract's own form.
pub(crate) fn arguments(
    fields: &'static [Field],
    bytes: &mut Unstructured<'_>,
) -> Map<String, Value> {
    let mut object = Map::new();
    for field in fields {
        let name = match field.json {
            KEY => plain(field),
            name => name.to_owned(),
        };
        match &field.ty {
            Type::Option(_) if below(bytes, 2) == 0 => {}
            ty => {
                object.insert(name, argument(ty, bytes));
            }
        }
    }
    object
}

fn argument(ty: &'static Type, bytes: &mut Unstructured<'_>) -> Value {
    match ty {
        Type::Bool => json!(number::<bool>(bytes)),
        Type::U8 => json!(number::<u8>(bytes)),
        Type::U32 => json!(number::<u32>(bytes)),
        Type::S32 => json!(number::<i32>(bytes)),
        Type::F64 => json!(finite(bytes)),
        Type::String => json!(text(bytes)),
        Type::Json => json!({ "$type": text(bytes), "more": any(bytes, 2) }),
        Type::Option(inner) => argument(inner, bytes),
        Type::List(Type::Entry(value)) => {
            let entries = (0..below(bytes, ELEMENTS))
                .map(|at| (format!("{}{at}", text(bytes)), argument(value, bytes)));
            Value::Object(entries.collect())
        }
        Type::List(inner) => {
            let length = below(bytes, ELEMENTS);
            Value::Array((0..length).map(|_| argument(inner, bytes)).collect())
        }
        Type::Entry(_) => unreachable!("only in lists"),
        Type::Record(record) => Value::Object(arguments(record.fields, bytes)),
        Type::Variant(variant) => {
            let case = &variant.cases[below(bytes, variant.cases.len())];
            match case.json.first() {
                Some(json) => json!(json.trim_end_matches('*')),
                None => json!(format!("~{}", text(bytes))),
            }
        }
    }
}

/// Any JSON, nested at most so deep.
fn any(bytes: &mut Unstructured<'_>, depth: usize) -> Value {
    match below(bytes, if depth == 0 { 6 } else { 8 }) {
        0 => Value::Null,
        1 => json!(number::<bool>(bytes)),
        2 => json!(number::<i64>(bytes)),
        3 => json!(number::<u64>(bytes)),
        4 => json!(finite(bytes)),
        5 => json!(text(bytes)),
        6 => (0..below(bytes, ELEMENTS))
            .map(|_| any(bytes, depth - 1))
            .collect(),
        _ => {
            let entries = (0..below(bytes, ELEMENTS)).map(|_| (text(bytes), any(bytes, depth - 1)));
            Value::Object(entries.collect())
        }
    }
}

fn below(bytes: &mut Unstructured<'_>, end: usize) -> usize {
    bytes.choose_index(end).unwrap_or_default()
}

fn number<'a, T: arbitrary::Arbitrary<'a>>(bytes: &mut Unstructured<'a>) -> T {
    // There is always a number: where the bytes are used up, they count as zeros.
    bytes.arbitrary().expect("a number")
}

/// A number that JSON has.
fn finite(bytes: &mut Unstructured<'_>) -> f64 {
    let number: f64 = match below(bytes, 2) {
        0 => f64::from(number::<i32>(bytes)) / 100.0,
        _ => number(bytes),
    };
    if number.is_finite() { number } else { 0.5 }
}

fn text(bytes: &mut Unstructured<'_>) -> String {
    let length = below(bytes, 12);
    let text = bytes.bytes(length.min(bytes.len())).unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// The JSON name that the rule gives a field: `projectId`.
fn plain(field: &Field) -> String {
    let mut name = String::new();
    for (at, word) in field.name.split('-').enumerate() {
        let mut letters = word.chars();
        if at > 0 {
            name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        }
        name.push_str(letters.as_str());
    }
    name
}

/// The names of fields and cases, and what values are made of.
pub(crate) fn words() -> Vec<String> {
    let values = [
        "null",
        "true",
        "[]",
        "{}",
        "{\"",
        "\":",
        ",",
        "\"success\":false",
        "\"12.3%\"",
        "\"-$1,234.50\"",
        "1e999",
        "-0.0",
        "4294967296",
        "9007199254740993",
        "[1700000000, 1.5, null]",
        "{\"x\":1,\"y\":2}",
        "\"open\"",
        "\"values\"",
        "\\u0000",
        "\\ud800",
    ];
    let mut words: Vec<_> = values.map(str::to_owned).to_vec();
    for operation in OPERATIONS {
        let Some(function) = operation.function() else {
            continue;
        };
        words.extend(operation.answer_path().map(|step| format!("{{\"{step}\":")));
        words.extend(
            function
                .request()
                .iter()
                .map(|it| format!("\"{}\":", it.json)),
        );
        if let Some(ty) = &function.result {
            names(ty, &mut words);
        }
    }
    let cases = CASES.iter().flat_map(|(_, _, json)| *json);
    words.extend(cases.map(|json| format!("\"{}\"", json.trim_end_matches('*'))));
    words.sort_unstable();
    words.dedup();
    words
}

fn names(ty: &Type, words: &mut Vec<String>) {
    match ty {
        Type::Option(inner) | Type::List(inner) | Type::Entry(inner) => names(inner, words),
        Type::Record(record) => {
            for field in record.fields {
                let name = match field.json {
                    KEY => plain(field),
                    name => name.to_owned(),
                };
                words.push(format!("\"{name}\":"));
                names(&field.ty, words);
            }
        }
        _ => {}
    }
}
