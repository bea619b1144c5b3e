//! Why a value does not match the contract: where, and what was found.

use std::fmt::{self, Write};

use serde_json::Value;

/// Maximum bytes of a value that an error repeats.
const MAX_EXCERPT: usize = 200;

/// A value that does not match the contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Misfit {
    /// The path to it, innermost step first.
    path: Vec<String>,
    message: String,
}

impl Misfit {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            path: Vec::new(),
            message: message.into(),
        }
    }

    /// Something else was found than expected.
    pub(super) fn found(expected: &str, value: &Value) -> Self {
        Self::new(format!("expected {expected}, found {}", excerpt(value)))
    }

    /// The value is not there.
    pub(super) fn missing() -> Self {
        Self::new("missing")
    }

    /// Adds an outer step to the path.
    #[must_use]
    pub(super) fn inside(mut self, step: &str) -> Self {
        self.path.push(bounded(step));
        self
    }

    /// Adds an index as outer step to the path.
    #[must_use]
    pub(super) fn at(self, index: usize) -> Self {
        self.inside(&format!("[{index}]"))
    }

    /// The path of the mismatch: `backtest.charts[0].name`; empty for the whole value.
    #[must_use]
    pub fn path(&self) -> String {
        let mut path = String::new();
        for step in self.path.iter().rev() {
            if !path.is_empty() && !step.starts_with('[') {
                path.push('.');
            }
            path.push_str(step);
        }
        path
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "`{}`: {}", self.path(), self.message)
        }
    }
}

impl serde::de::Error for Misfit {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(bounded(&message.to_string()))
    }
}

impl serde::ser::Error for Misfit {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(bounded(&message.to_string()))
    }
}

/// A value as JSON text, truncated.
pub(super) fn excerpt(value: &Value) -> String {
    let mut out = Bounded(String::new());
    // The only error is that the text is full.
    if serde_json::to_writer(&mut out, value).is_err() {
        out.0.push('…');
    }
    out.0
}

fn bounded(text: &str) -> String {
    let mut out = Bounded(String::new());
    if out.write_str(text).is_err() {
        out.0.push('…');
    }
    out.0
}

/// A writer that accepts [`MAX_EXCERPT`] bytes and then fails, so that a huge value is not serialized
/// completely only to be truncated. Control characters are escaped: a key of the server's may have
/// some.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            let before = self.0.len();
            if letter.is_control() {
                self.0.extend(letter.escape_default());
            } else {
                self.0.push(letter);
            }
            if self.0.len() > MAX_EXCERPT {
                self.0.truncate(before);
                return Err(fmt::Error);
            }
        }
        Ok(())
    }
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // serde_json writes complete characters and escapes invalid ones.
        let text = String::from_utf8_lossy(bytes);
        self.write_str(&text)
            .map(|()| bytes.len())
            .map_err(std::io::Error::other)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
