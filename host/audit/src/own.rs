//! Entries that the audit itself creates.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::record::{Draft, Entry, Kind};

/// Entries that were not recorded, until a record can report them.
#[derive(Debug, Default)]
pub(crate) struct Gap {
    notes: u64,
    refused: u64,
    pub since: Option<Timestamp>,
    why: String,
}

impl Gap {
    /// Counts lost entries; the first reason is kept for all.
    pub fn add(&mut self, notes: u64, refused: u64, why: &str) {
        if notes + refused == 0 {
            return;
        }
        self.notes += notes;
        self.refused += refused;
        if self.since.is_none() {
            self.since = Some(Timestamp::now());
            self.why = why.to_owned();
        }
    }

    /// The record that reports them, if there are any.
    pub fn draft(&self) -> Option<Draft> {
        let since = self.since?;
        let body = [
            ("notes", Value::from(self.notes)),
            ("refused", Value::from(self.refused)),
            ("reason", Value::from(self.why.as_str())),
            ("since", Value::from(since.to_string())),
        ];
        own(Kind::Gap, body)
    }
}

/// An entry created by the audit; its names must not be among the audit's own.
pub(crate) fn own<const N: usize>(kind: Kind, body: [(&str, Value); N]) -> Option<Draft> {
    let body = body
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    own_body(kind, body)
}

/// The same with arbitrary members.
pub(crate) fn own_body(kind: Kind, body: Map<String, Value>) -> Option<Draft> {
    let entry = Entry {
        kind,
        essential: true,
        body,
    };
    Draft::new(&entry, Timestamp::now()).ok()
}
