//! Parses TOML so that every error has its location.
//!
//! Invariant: every error has the line, the key with its table, and what is allowed. An unknown key is an error.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::units;
use crate::grantable::nearest;

/// Maximum characters of a key in messages. Keys are concatenated at each table, so without a limit they would take
/// time quadratic in the size of the document.
const MAX_KEY: usize = 200;

/// The end of a key that is too long for a message.
fn short(key: &str) -> Cow<'_, str> {
    match key.char_indices().rev().nth(MAX_KEY) {
        Some((at, _)) => Cow::Owned(format!("…{}", key.get(at..).unwrap_or_default())),
        None => Cow::Borrowed(key),
    }
}

/// An error and its location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Offset into the text in bytes.
    pub(crate) at: usize,
    /// The key with its table.
    pub(crate) key: String,
    /// The problem, and what is allowed.
    pub(crate) message: String,
    /// Whether it is a key that this version knows but does not enforce.
    pub(crate) later: bool,
}

/// A table.
pub(crate) struct Fields<'a> {
    key: String,
    at: usize,
    table: &'a DeTable<'a>,
}

/// A value with its key.
#[derive(Clone)]
pub(crate) struct Item<'a> {
    key: String,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Fields<'a> {
    /// The document's root table.
    pub(crate) fn root(document: &'a Spanned<DeTable<'a>>) -> Self {
        Self {
            key: String::new(),
            at: 0,
            table: document.get_ref(),
        }
    }

    /// The same table, with a name that distinguishes it from its siblings.
    pub(crate) fn called(mut self, key: String) -> Self {
        self.key = key;
        self
    }

    /// Rejects every key but these; those of `later` with a message of their own.
    pub(crate) fn only(&self, known: &[&str], later: &[&str]) -> Result<(), Problem> {
        let unknown = self
            .table
            .iter()
            .map(|(key, _)| key)
            .filter(|key| !known.contains(&key.get_ref().as_ref()))
            .min_by_key(|key| key.span().start);
        let Some(unknown) = unknown else {
            return Ok(());
        };
        let name = unknown.get_ref().as_ref();
        let later = later.contains(&name);
        let message = if later {
            "is not enforced by this version; take it out, or use a version that enforces it"
                .to_owned()
        } else {
            let hint = nearest(name, known.iter().copied())
                .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            format!("unknown key{hint}; known are: {}", known.join(", "))
        };
        Err(Problem {
            at: unknown.span().start,
            key: self.path(name),
            message,
            later,
        })
    }

    /// A value, if present.
    pub(crate) fn get(&self, name: &str) -> Option<Item<'a>> {
        let value = self.table.get(name)?;
        Some(Item {
            key: self.path(name),
            value,
        })
    }

    /// A value as `read` takes it, if present.
    pub(crate) fn read<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Item<'a>) -> Result<T, Problem>,
    ) -> Result<Option<T>, Problem> {
        self.get(name).map(|item| read(&item)).transpose()
    }

    /// Replaces a default by the value, if present.
    pub(crate) fn set<T>(
        &self,
        name: &str,
        target: &mut T,
        read: impl FnOnce(&Item<'a>) -> Result<T, Problem>,
    ) -> Result<(), Problem> {
        if let Some(value) = self.read(name, read)? {
            *target = value;
        }
        Ok(())
    }

    /// A required value; `like` is an example for the message.
    pub(crate) fn need(&self, name: &str, like: &str) -> Result<Item<'a>, Problem> {
        self.get(name)
            .ok_or_else(|| self.absent(name, &format!("is missing; write {name} = {like}")))
    }

    /// An error about a key that is absent.
    pub(crate) fn absent(&self, name: &str, why: &str) -> Problem {
        Problem {
            at: self.at,
            key: self.path(name),
            message: why.to_owned(),
            later: false,
        }
    }

    /// The tables of an array of tables, at most `max`; empty if absent.
    pub(crate) fn tables(&self, name: &str, max: usize) -> Result<Vec<Fields<'a>>, Problem> {
        let Some(item) = self.get(name) else {
            return Ok(Vec::new());
        };
        let items = match item.value.get_ref() {
            DeValue::Array(_) => item.list("tables")?,
            _ => return Err(item.wrong(&format!("must be written as [[{name}]]"))),
        };
        if let Some(first) = items.get(max) {
            return Err(first.wrong(&format!(
                "is one of {} tables [[{name}]]; at most {max} are allowed, so put what has the same scope and limits into one",
                items.len()
            )));
        }
        items.iter().map(Item::table).collect()
    }

    /// All keys with their values.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'a str, Item<'a>)> {
        self.table.iter().map(|(key, value)| {
            let name = key.get_ref().as_ref();
            let key = self.path(name);
            (name, Item { key, value })
        })
    }

    fn path(&self, name: &str) -> String {
        let name = short(name);
        if self.key.is_empty() {
            name.into_owned()
        } else {
            format!("{}.{name}", short(&self.key))
        }
    }
}

impl<'a> Item<'a> {
    /// An error about this value.
    pub(crate) fn wrong(&self, message: &str) -> Problem {
        Problem {
            at: self.value.span().start,
            key: self.key.clone(),
            message: message.to_owned(),
            later: false,
        }
    }

    fn mistyped(&self, expected: &str) -> Problem {
        let found = match self.value.get_ref() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.wrong(&format!("must be {expected}, not {found}"))
    }

    /// A text.
    pub(crate) fn text(&self) -> Result<&'a str, Problem> {
        match self.value.get_ref() {
            DeValue::String(text) => Ok(text.as_ref()),
            _ => Err(self.mistyped("a text")),
        }
    }

    /// A text of one's own.
    pub(crate) fn owned(&self) -> Result<String, Problem> {
        self.text().map(str::to_owned)
    }

    /// A number of bytes: `"64MiB"`.
    pub(crate) fn size(&self) -> Result<u64, Problem> {
        units::size(self.text()?).map_err(|message| self.wrong(&message))
    }

    /// A time: `"5s"`.
    pub(crate) fn duration(&self) -> Result<Duration, Problem> {
        units::duration(self.text()?).map_err(|message| self.wrong(&message))
    }

    /// A text that is a valid name.
    pub(crate) fn name(&self) -> Result<&'a str, Problem> {
        let text = self.text()?;
        if is_name(text) {
            Ok(text)
        } else {
            Err(self.wrong(&format!(
                "`{text}` is not a name: a-z, 0-9 and `-`, at most 64"
            )))
        }
    }

    /// A text, if it is one.
    pub(crate) fn as_text(&self) -> Option<&'a str> {
        self.text().ok()
    }

    /// A whole number, if it is one and in range.
    pub(crate) fn as_integer(&self) -> Option<i64> {
        match self.value.get_ref() {
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        }
    }

    /// A whole number within a range.
    pub(crate) fn count(&self, range: RangeInclusive<u32>) -> Result<u32, Problem> {
        let DeValue::Integer(number) = self.value.get_ref() else {
            return Err(self.mistyped("a whole number"));
        };
        self.as_integer()
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let (min, max) = (range.start(), range.end());
                self.wrong(&format!("{number} is not between {min} and {max}"))
            })
    }

    /// A number, whole or not.
    pub(crate) fn number(&self) -> Result<f64, Problem> {
        let text = match self.value.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
            DeValue::Float(number) => number.as_str(),
            _ => return Err(self.mistyped("a number")),
        };
        text.parse()
            .map_err(|_| self.wrong("is a number that cannot be read"))
    }

    /// The entries of a list; `of` says of what.
    pub(crate) fn list(&self, of: &str) -> Result<Vec<Item<'a>>, Problem> {
        match self.value.get_ref() {
            DeValue::Array(items) => Ok(items
                .iter()
                .map(|value| Item {
                    key: self.key.clone(),
                    value,
                })
                .collect()),
            _ => Err(self.mistyped(&format!("a list of {of}"))),
        }
    }

    /// The entries of a list of names or patterns, at most `max`.
    pub(crate) fn short_list(&self, of: &str, max: usize) -> Result<Vec<Item<'a>>, Problem> {
        let items = self.list(of)?;
        match items.get(max) {
            None => Ok(items),
            Some(first) => Err(first.wrong(&format!(
                "has {} entries; at most {max} are allowed, and `*` stands for any characters",
                items.len()
            ))),
        }
    }

    /// The table that it is.
    pub(crate) fn table(&self) -> Result<Fields<'a>, Problem> {
        match self.value.get_ref() {
            DeValue::Table(table) => Ok(Fields {
                key: self.key.clone(),
                at: self.value.span().start,
                table,
            }),
            _ => Err(self.mistyped("a table")),
        }
    }

    /// The entries of a list, if it is one.
    pub(crate) fn as_list(&self) -> Option<Vec<Item<'a>>> {
        self.list("values").ok()
    }

    /// Whether it is a table.
    pub(crate) fn is_table(&self) -> bool {
        matches!(self.value.get_ref(), DeValue::Table(_))
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self) -> Result<bool, Problem> {
        match self.value.get_ref() {
            DeValue::Boolean(value) => Ok(*value),
            _ => Err(self.mistyped("true or false")),
        }
    }

    /// The value as JSON; a date becomes its text.
    pub(crate) fn json(&self) -> Result<Value, Problem> {
        Ok(match self.value.get_ref() {
            DeValue::String(text) => Value::String(text.as_ref().to_owned()),
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Datetime(date) => Value::String(date.to_string()),
            DeValue::Integer(_) => self
                .as_integer()
                .map(Value::from)
                .ok_or_else(|| self.wrong("does not fit into 64 bits"))?,
            DeValue::Float(_) => serde_json::Number::from_f64(self.number()?)
                .map(Value::Number)
                .ok_or_else(|| self.wrong("must be finite: JSON has no other numbers"))?,
            DeValue::Array(items) => {
                let items = items.iter().map(|value| {
                    let key = self.key.clone();
                    Item { key, value }.json()
                });
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            DeValue::Table(_) => Value::Object(
                self.table()?
                    .entries()
                    .map(|(name, item)| Ok((name.to_owned(), item.json()?)))
                    .collect::<Result<Map<_, _>, _>>()?,
            ),
        })
    }
}

/// Whether a text is a valid name of a plugin, an account or a grant.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
