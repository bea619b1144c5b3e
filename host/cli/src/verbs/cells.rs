//! Values in the cells of a table: in one line, and `-` if there is none.

use serde::Serialize;
use serde_json::Value;

use crate::terminal;

/// A text.
pub fn text(text: &str) -> String {
    match text {
        "" => "-".to_owned(),
        text => terminal::line(text),
    }
}

/// A value that may be missing.
pub fn maybe(value: Option<impl ToString>) -> String {
    text(&value.map_or_else(String::new, |value| value.to_string()))
}

/// Several texts.
pub fn list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items = items.into_iter().map(|item| terminal::line(item.as_ref()));
    text(&items.collect::<Vec<_>>().join(", "))
}

/// The word that a value of an enumeration has in JSON too.
pub fn word(value: impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => "-".to_owned(),
    }
}
