//! Redacts secrets from everything that leaves the process.
//!
//! Invariants: redacted text contains no known value, nor its JSON, percent or base64 form, except one
//! of fewer than eight bytes within a word. Values are held in memory that is cleared; their number and
//! size are bounded, and the least recently read are dropped first. A [`RedactingWriter`] passes nothing
//! on before its line is complete, or long, so that it finds a secret however it is split over writes.
//!
//! Not every value is known. One of fewer than four bytes, or a number of fewer than eight digits, is part of too many
//! innocent texts; the host itself writes such a value nowhere but into the call that it is for. A redactor of one
//! call knows the numbers that the call sent ([`Redactor::remember_sent`]), so that their echoes in its errors are
//! redacted too. The emulator's token is no secret.

mod forms;
mod matcher;

use parking_lot::{Mutex, RwLock};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

pub use forms::MIN_SECRET;
use forms::{Form, forms};
use matcher::Matcher;

/// Maximum number of known values: those in use, and older ones that were rotated and may still be
/// on their way out.
const MAX_VALUES: usize = 512;

/// Maximum bytes of all known values.
const MAX_VALUE_BYTES: usize = 1024 * 1024;

/// Maximum bytes of an incomplete line that are buffered.
const MAX_LINE: usize = 64 * 1024;

/// Minimum length of a value that has only digits, such as a year of birth or a pin.
const MIN_DIGITS: usize = 8;

/// The emulator's token. It is in the documentation, and so no secret.
pub const EMULATOR_TOKEN: &str = "emulator";

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
        if !is_short_number(secret.expose_secret()) {
            self.remember_sent(secret);
        }
    }

    /// Redacts this value too if it is a number of fewer than eight digits. For a redactor whose texts are the answers
    /// to one call: the value was just sent, so that the number is its echo rather than a coincidence.
    pub fn remember_sent(&self, secret: SecretString) {
        if !is_redactable(secret.expose_secret()) {
            return;
        }
        let mut values = self.0.values.lock();
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

    /// Drops excess values, and builds the matcher for the rest.
    fn renew(&self, values: &mut VecDeque<Vec<Form>>) {
        let mut bytes: usize = values.iter().map(|forms| length(forms)).sum();
        while values.len() > 1 && (values.len() > MAX_VALUES || bytes > MAX_VALUE_BYTES) {
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
        let theirs = other.0.values.lock().clone();
        let mut values = self.0.values.lock();
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
    pub fn writer<W: Write>(&self, inner: W) -> RedactingWriter<W> {
        RedactingWriter::new(self.clone(), inner)
    }

    fn matcher(&self) -> Arc<Matcher> {
        Arc::clone(&self.0.matcher.read())
    }
}

/// Whether a value is replaced at least in the answers to the call that sent it.
fn is_redactable(value: &str) -> bool {
    value.len() >= MIN_SECRET && value != EMULATOR_TOKEN
}

/// Whether a value is a number that may occur in a text by coincidence.
fn is_short_number(value: &str) -> bool {
    value.len() < MIN_DIGITS && value.bytes().all(|byte| byte.is_ascii_digit())
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

/// Passes on what is written to it, line by line and redacted. An incomplete line is passed on when
/// it is dropped; [`Write::flush`] does not pass on incomplete lines.
pub struct RedactingWriter<W: Write> {
    redactor: Redactor,
    inner: W,
    buffered: Zeroizing<Vec<u8>>,
}

impl<W: Write> fmt::Debug for RedactingWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedactingWriter").finish_non_exhaustive()
    }
}

impl<W: Write> RedactingWriter<W> {
    fn new(redactor: Redactor, inner: W) -> Self {
        Self {
            redactor,
            inner,
            buffered: Zeroizing::default(),
        }
    }

    /// Passes on what can be redacted already.
    fn pass(&mut self) -> io::Result<()> {
        let matcher = self.redactor.matcher();
        let lines = match self.buffered.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if self.buffered.len() > MAX_LINE => self.buffered.len(),
            None => return Ok(()),
        };
        let whole = self.buffered.get(..lines).unwrap_or_default();
        let cut = matcher.cut(whole);
        let clean = matcher.clean_bytes(self.buffered.get(..cut).unwrap_or_default());
        // Even on failure: data whose write failed must not be written twice.
        self.buffered.drain(..cut);
        self.inner.write_all(&clean)
    }
}

impl<W: Write> Write for RedactingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // In chunks, so that a huge write is not buffered as a whole.
        let piece = bytes.get(..MAX_LINE).unwrap_or(bytes);
        self.buffered.extend_from_slice(piece);
        self.pass()?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W: Write> Drop for RedactingWriter<W> {
    fn drop(&mut self) {
        let clean = self.redactor.matcher().clean_bytes(&self.buffered);
        // There is no way to report an error.
        let _ = self
            .inner
            .write_all(&clean)
            .and_then(|()| self.inner.flush());
    }
}
