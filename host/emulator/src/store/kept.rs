//! Marks what was changed since it was stored.
//!
//! Invariant: an entry that was reached mutably counts as changed until [`Entry::stored`] says otherwise, so
//! a service cannot change one and forget to say so.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

use serde::Serialize;

/// A kind of entry.
pub(crate) trait Kind: Serialize {
    /// The word for it in a file.
    const WORD: &'static str;
}

/// A value with its place in the file.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    value: T,
    /// `None` before it was stored for the first time.
    place: Cell<Option<i64>>,
    changed: Cell<bool>,
}

impl<T> Kept<T> {
    /// A value that was read from a place.
    pub(crate) fn read(value: T, place: i64) -> Self {
        Self {
            value,
            place: Cell::new(Some(place)),
            changed: Cell::new(false),
        }
    }

    pub(crate) fn value(&self) -> &T {
        &self.value
    }

    pub(crate) fn value_mut(&mut self) -> &mut T {
        self.changed.set(true);
        &mut self.value
    }
}

impl<T> From<T> for Kept<T> {
    /// A value that was not stored yet.
    fn from(value: T) -> Self {
        Self {
            value,
            place: Cell::new(None),
            changed: Cell::new(true),
        }
    }
}

impl<T> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value()
    }
}

impl<T> DerefMut for Kept<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value_mut()
    }
}

/// A [`Kept`] of any kind.
pub(crate) trait Entry {
    fn word(&self) -> &'static str;
    fn place(&self) -> Option<i64>;
    fn is_changed(&self) -> bool;
    /// Its value as CBOR, which carries every number exactly.
    fn encode(&self) -> Result<Vec<u8>, ciborium::ser::Error<std::io::Error>>;
    /// Notes that it is stored as it is now.
    fn stored(&self, place: i64);
}

impl<T: Kind> Entry for Kept<T> {
    fn word(&self) -> &'static str {
        T::WORD
    }

    fn place(&self) -> Option<i64> {
        self.place.get()
    }

    fn is_changed(&self) -> bool {
        self.changed.get()
    }

    fn encode(&self) -> Result<Vec<u8>, ciborium::ser::Error<std::io::Error>> {
        let mut bytes = Vec::new();
        ciborium::into_writer(&self.value, &mut bytes)?;
        Ok(bytes)
    }

    fn stored(&self, place: i64) {
        self.place.set(Some(place));
        self.changed.set(false);
    }
}

/// Entries of one kind among those of others.
pub(crate) fn entries<'s, T: Kind + 's>(
    all: impl Iterator<Item = &'s Kept<T>>,
) -> impl Iterator<Item = &'s dyn Entry> {
    all.map(|entry: &'s Kept<T>| -> &'s dyn Entry { entry })
}
