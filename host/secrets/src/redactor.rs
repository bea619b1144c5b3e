//! Redacts secrets from everything that leaves the process.
//!
//! Invariants: redacted text contains no known value of four bytes or more, nor its JSON, percent
//! or base64 form. Values are held in memory that is cleared; their number and size are bounded,
//! and the least recently read are dropped first.
//!
//! A shorter value is not replaced: it is part of too many innocent words. The host itself never
//! prints such a value.

mod forms;
mod matcher;
mod writer;

use parking_lot::{Mutex, MutexGuard, RwLock};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};

use forms::{Form, forms};
use matcher::Matcher;
pub use writer::RedactingWriter;

/// Maximum number of known values: those in use, and older ones that were rotated and may still be
/// on their way out.
const REMEMBERED: usize = 512;

/// Maximum bytes of all known values.
const REMEMBERED_BYTES: usize = 1024 * 1024;

/// Minimum length in bytes of a value that is redacted.
pub(crate) const SHORTEST: usize = qchost_catalog::SHORTEST_SECRET;

/// Redacts the values of secrets. Clones know the same values.
#[derive(Clone, Default)]
pub struct Redactor(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// The forms of each value, itself first. The most recently read value is the last.
    values: Mutex<VecDeque<Vec<Form>>>,
    matcher: RwLock<Arc<Matcher>>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").finish_non_exhaustive()
    }
}

impl Redactor {
    /// Redacts this value from every text from now on.
    pub fn remember(&self, secret: SecretString) {
        if secret.expose_secret().len() < SHORTEST {
            return;
        }
        let mut values = self.values();
        let itself = secret.expose_secret();
        let known = values.iter().rposition(|forms| {
            forms
                .first()
                .is_some_and(|form| form.as_slice() == itself.as_bytes())
        });
        if let Some(value) = known.and_then(|known| values.remove(known)) {
            values.push_back(value);
            return;
        }
        values.push_back(forms(itself));
        self.renew(&mut values);
    }

    fn values(&self) -> MutexGuard<'_, VecDeque<Vec<Form>>> {
        self.0.values.lock()
    }

    /// Drops excess values, and builds the matcher for the rest.
    fn renew(&self, values: &mut VecDeque<Vec<Form>>) {
        let mut bytes: usize = values.iter().map(|forms| length(forms)).sum();
        while values.len() > 1 && (values.len() > REMEMBERED || bytes > REMEMBERED_BYTES) {
            bytes -= values.pop_front().as_deref().map_or(0, length);
        }
        // Still under the lock: of two matchers the one that knows more has to be stored last.
        let matcher = Arc::new(Matcher::new(values.iter().flatten().cloned().collect()));
        *self.0.matcher.write() = matcher;
    }

    /// Redacts what another redactor knows now as well: for the secrets of a former configuration.
    pub fn adopt(&self, other: &Self) {
        if Arc::ptr_eq(&self.0, &other.0) {
            return;
        }
        let theirs = other.values().clone();
        let mut values = self.values();
        for forms in theirs.into_iter().rev() {
            if !values.iter().any(|known| known.first() == forms.first()) {
                // Read longer ago than the values of this one.
                values.push_front(forms);
            }
        }
        self.renew(&mut values);
    }

    /// The redacted text; unchanged if it contains no secrets.
    #[must_use]
    pub fn clean<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.matcher().clean(text)
    }

    /// Redacts every string and every key of a value. Numbers are unchanged.
    pub fn clean_value(&self, value: &mut Value) {
        let matcher = self.matcher();
        if !matcher.is_empty() {
            clean_value(&matcher, value);
        }
    }

    /// A writer that redacts line by line.
    pub fn writer<W: io::Write>(&self, inner: W) -> RedactingWriter<W> {
        RedactingWriter::new(self.clone(), inner)
    }

    fn matcher(&self) -> Arc<Matcher> {
        Arc::clone(&self.0.matcher.read())
    }
}

/// The length of the value itself.
fn length(forms: &[Form]) -> usize {
    forms.first().map_or(0, |form| form.len())
}

fn clean_value(matcher: &Matcher, value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(clean) = matcher.clean(text) {
                *text = clean;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| clean_value(matcher, item)),
        Value::Object(fields) => {
            fields
                .values_mut()
                .for_each(|field| clean_value(matcher, field));
            if fields
                .keys()
                .any(|key| matches!(matcher.clean(key), Cow::Owned(_)))
            {
                let mut clean = Map::new();
                for (key, field) in std::mem::take(fields) {
                    // Two keys may become equal; neither value is lost.
                    let mut key = matcher.clean(&key).into_owned();
                    while clean.contains_key(&key) {
                        key.push('\'');
                    }
                    clean.insert(key, field);
                }
                *fields = clean;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
