//! Checks of answers. A failed check is an error with a reason, never a panic.

use serde_json::Value;

/// The result of a case, or why it failed.
pub type Check<T = ()> = Result<T, String>;

/// Fails with a reason unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($reason:tt)+) => {
        match $condition {
            true => {}
            false => return Err(format!($($reason)+)),
        }
    };
}
pub(crate) use ensure;

/// An answer.
pub trait Body {
    /// The value at a JSON pointer.
    fn at(&self, pointer: &str) -> Check<&Value>;

    /// The string at a JSON pointer.
    fn text(&self, pointer: &str) -> Check<String> {
        let value = self.at(pointer)?;
        let text = value.as_str().map(str::to_owned);
        text.ok_or_else(|| format!("{pointer} is no text: {value}"))
    }

    /// The number at a JSON pointer.
    fn number(&self, pointer: &str) -> Check<f64> {
        let value = self.at(pointer)?;
        value
            .as_f64()
            .ok_or_else(|| format!("{pointer} is no number: {value}"))
    }

    /// The array at a JSON pointer.
    fn list(&self, pointer: &str) -> Check<&Vec<Value>> {
        let value = self.at(pointer)?;
        value
            .as_array()
            .ok_or_else(|| format!("{pointer} is no list: {value}"))
    }

    /// Expects a value at a JSON pointer.
    fn equals(&self, pointer: &str, expected: impl Into<Value>) -> Check {
        let (value, expected) = (self.at(pointer)?, expected.into());
        // 1 and 1.0 are the same number.
        let same = match (value.as_f64(), expected.as_f64()) {
            (Some(one), Some(other)) => (one - other).abs() < 1e-9,
            _ => *value == expected,
        };
        ensure!(same, "{pointer} is {value}, expected {expected}");
        Ok(())
    }

    /// The entry, of the array at a JSON pointer, whose field has a value.
    fn find(&self, pointer: &str, field: &str, expected: impl Into<Value>) -> Check<&Value> {
        let expected = expected.into();
        self.list(pointer)?
            .iter()
            .find(|entry| entry[field] == expected)
            .ok_or_else(|| format!("{pointer} has no entry whose {field} is {expected}"))
    }

    /// Expects that there is no such entry.
    fn lacks(&self, pointer: &str, field: &str, expected: impl Into<Value>) -> Check {
        let expected = expected.into();
        let found = self
            .list(pointer)?
            .iter()
            .any(|entry| entry[field] == expected);
        ensure!(
            !found,
            "{pointer} still has an entry whose {field} is {expected}"
        );
        Ok(())
    }
}

impl Body for Value {
    fn at(&self, pointer: &str) -> Check<&Value> {
        self.pointer(pointer).ok_or_else(|| {
            let body: String = self.to_string().chars().take(300).collect();
            format!("{pointer} is missing in {body}")
        })
    }
}

/// A count as the number that it is compared with.
pub fn count(length: usize) -> f64 {
    f64::from(u32::try_from(length).unwrap())
}
