//! What takes secrets out of whatever leaves the process.
//!
//! Invariants: after cleaning, no text holds a remembered value of four bytes or more, nor its
//! JSON, percent or base64 form. Values are held in memory that is cleared; their number and size
//! are bounded, the least recently read going first.
//!
//! A shorter value is not replaced: it stands in too many innocent words. What is certain of such a
//! value is that the host itself never prints it.

mod forms;
mod matcher;
mod writer;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};

use forms::{Form, forms};
use matcher::Matcher;
pub use writer::RedactingWriter;

/// How many values are known at most: those in use, and older ones that were rotated away and may
/// still be on their way out.
const REMEMBERED: usize = 512;

/// How many bytes all of them have at most.
const REMEMBERED_BYTES: usize = 1024 * 1024;

/// The shortest value that is taken out of text, in bytes.
pub(crate) const SHORTEST: usize = qchost_catalog::SHORTEST_SECRET;

/// Takes the values of secrets out of text. Clones know the same values.
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
    /// Takes this value out of every text from now on.
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
        self.0.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what is too much, and looks for what is left.
    fn renew(&self, values: &mut VecDeque<Vec<Form>>) {
        let mut bytes: usize = values.iter().map(|forms| length(forms)).sum();
        while values.len() > 1 && (values.len() > REMEMBERED || bytes > REMEMBERED_BYTES) {
            bytes -= values.pop_front().as_deref().map_or(0, length);
        }
        // Still under the lock: of two matchers the one that knows more has to be the last.
        let matcher = Arc::new(Matcher::new(values.iter().flatten().cloned().collect()));
        *self
            .0
            .matcher
            .write()
            .unwrap_or_else(PoisonError::into_inner) = matcher;
    }

    /// Takes out of every text from now on what another one knows by now, too: for the secrets of a
    /// configuration that this one's takes the place of.
    pub fn adopt(&self, other: &Self) {
        if Arc::ptr_eq(&self.0, &other.0) {
            return;
        }
        let theirs = other.values().clone();
        let mut values = self.values();
        for forms in theirs.into_iter().rev() {
            if !values.iter().any(|known| known.first() == forms.first()) {
                // Read longer ago than what this one has read itself.
                values.push_front(forms);
            }
        }
        self.renew(&mut values);
    }

    /// The text without secrets; itself if there are none in it.
    #[must_use]
    pub fn clean<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.matcher().clean(text)
    }

    /// Takes the secrets out of every string and every key of a value. Numbers stay as they are.
    pub fn clean_value(&self, value: &mut Value) {
        let matcher = self.matcher();
        if !matcher.is_empty() {
            clean_value(&matcher, value);
        }
    }

    /// A writer that takes secrets out of what passes through it, line by line.
    pub fn writer<W: io::Write>(&self, inner: W) -> RedactingWriter<W> {
        RedactingWriter::new(self.clone(), inner)
    }

    fn matcher(&self) -> Arc<Matcher> {
        Arc::clone(
            &self
                .0
                .matcher
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

/// How long a value itself is.
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
                    // Two keys may become the same; neither value is lost.
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
