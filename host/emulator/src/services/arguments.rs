//! The fields of one request, with typed access.
//!
//! Invariant: reading a field never fails in silence. A missing required field, a wrong type
//! and a number out of range are each a [`Refusal`] that names the field. `null` counts as
//! missing. Forms and query strings carry only text, so a number or a flag may be a string
//! that parses as one.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::answer::Refusal;
use crate::engine::{Language, SourceFile};
use crate::store::limits;

/// The fields of a request, decoded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arguments {
    /// All fields but uploaded files.
    pub(crate) fields: Map<String, Value>,
    /// The file `objectData` of a multipart request.
    pub(crate) object_data: Option<Bytes>,
}

impl Arguments {
    /// A field that is there and not `null`.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    fn required(&self, name: &str) -> Result<&Value, Refusal> {
        self.get(name).ok_or_else(|| Refusal::missing(name))
    }

    /// A field that may be left out, read by the method for a required one.
    pub(crate) fn optional<'a, T>(
        &'a self,
        name: &str,
        read: impl FnOnce(&'a Self, &str) -> Result<T, Refusal>,
    ) -> Result<Option<T>, Refusal> {
        self.get(name).map(|_| read(self, name)).transpose()
    }

    /// A string.
    pub(crate) fn text(&self, name: &str) -> Result<&str, Refusal> {
        let text = self.required(name)?.as_str();
        text.ok_or_else(|| Refusal::invalid(name, "a string"))
    }

    /// A string that is not blank.
    pub(crate) fn filled_text(&self, name: &str) -> Result<&str, Refusal> {
        let text = self.text(name)?;
        if text.trim().is_empty() {
            return Err(Refusal::invalid(name, "a string that is not blank"));
        }
        Ok(text)
    }

    /// A name of bounded length that is not blank.
    pub(crate) fn name(&self, name: &str) -> Result<&str, Refusal> {
        at_most(limits::NAME_LENGTH, name, self.filled_text(name)?)
    }

    /// A description or a note.
    pub(crate) fn note(&self, name: &str) -> Result<&str, Refusal> {
        at_most(limits::TEXT_LENGTH, name, self.text(name)?)
    }

    /// The name of a file or a project: a relative path that is not blank.
    pub(crate) fn path(&self, name: &str) -> Result<&str, Refusal> {
        let path = self.filled_text(name)?;
        check_path(name, path)?;
        Ok(path)
    }

    /// A whole number.
    pub(crate) fn integer(&self, name: &str) -> Result<i64, Refusal> {
        integer_of(self.required(name)?).ok_or_else(|| Refusal::invalid(name, "an integer"))
    }

    /// A finite number.
    pub(crate) fn number(&self, name: &str) -> Result<f64, Refusal> {
        number_of(self.required(name)?).ok_or_else(|| Refusal::invalid(name, "a number"))
    }

    /// A flag.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.required(name)? {
            Value::Bool(flag) => Ok(*flag),
            Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            _ => Err(Refusal::invalid(name, "a boolean")),
        }
    }

    /// A list. An empty string counts as an empty list: a form has no other way to write one.
    pub(crate) fn list(&self, name: &str) -> Result<&[Value], Refusal> {
        match self.required(name)? {
            Value::Array(items) => Ok(items),
            Value::String(text) if text.is_empty() => Ok(&[]),
            _ => Err(Refusal::invalid(name, "a list")),
        }
    }

    /// An object.
    pub(crate) fn object(&self, name: &str) -> Result<&Map<String, Value>, Refusal> {
        let fields = self.required(name)?.as_object();
        fields.ok_or_else(|| Refusal::invalid(name, "an object"))
    }

    /// The field `language`.
    pub(crate) fn language(&self) -> Result<Language, Refusal> {
        let name = self.text("language")?;
        name.parse()
            .map_err(|_| Refusal::invalid("language", "'Py' or 'C#'"))
    }

    /// Source files: a list of objects with `name` and `content`.
    pub(crate) fn files(&self, name: &str) -> Result<Vec<SourceFile>, Refusal> {
        let items = self.list(name)?;
        if items.len() > limits::FILES {
            return Err(Refusal::invalid(name, "at most 500 files"));
        }
        let file = |item: &Value| {
            let text = |field: &str| item.get(field).and_then(Value::as_str);
            let (Some(file), Some(content)) = (text("name"), text("content")) else {
                return Err(Refusal::invalid(name, "a name and a content for each file"));
            };
            check_path(name, file)?;
            check_content(content)?;
            Ok(SourceFile {
                name: file.to_owned(),
                content: content.to_owned(),
            })
        };
        items.iter().map(file).collect()
    }
}

/// Changes what a request gives a new value for.
pub(crate) fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

/// Refuses a string of more than `limit` characters.
pub(crate) fn at_most<'t>(limit: usize, field: &str, text: &'t str) -> Result<&'t str, Refusal> {
    if text.chars().count() > limit {
        let expected = format!("at most {limit} characters");
        return Err(Refusal::invalid(field, &expected));
    }
    Ok(text)
}

/// Refuses a file's content that is too long.
pub(crate) fn check_content(content: &str) -> Result<(), Refusal> {
    at_most(limits::FILE_LENGTH, "content", content).map(|_| ())
}

/// Refuses a name for a file or a project that is not a relative path, is too long, or leads out.
pub(crate) fn check_path(field: &str, path: &str) -> Result<(), Refusal> {
    if is_relative_path(path, limits::NAME_LENGTH) {
        return Ok(());
    }
    Err(Refusal::invalid(
        field,
        "a relative path of at most 200 characters without '.', '..' or empty parts",
    ))
}

/// Whether a string is a relative path of at most `limit` characters that does not lead out.
pub(crate) fn is_relative_path(path: &str, limit: usize) -> bool {
    path.chars().count() <= limit
        && !path.chars().any(|it| it.is_control() || it == '\\')
        && path
            .split('/')
            .all(|part| !part.trim().is_empty() && part != "." && part != "..")
}

/// A whole number, from a number without a fraction or from a string.
pub(crate) fn integer_of(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// A finite number, from a number or from a string.
pub(crate) fn number_of(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse::<f64>().ok(),
        _ => None,
    };
    number.filter(|number| number.is_finite())
}

/// A number or a string as a string, the form of algorithm parameters.
pub(crate) fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
