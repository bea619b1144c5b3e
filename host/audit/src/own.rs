//! Entries that the audit itself creates.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

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
        let body = GapBody {
            notes: self.notes,
            refused: self.refused,
            reason: &self.why,
            since: self.since?.to_string(),
        };
        own(Kind::Gap, &body)
    }
}

/// Entries that were not recorded.
#[derive(Serialize)]
struct GapBody<'a> {
    notes: u64,
    refused: u64,
    reason: &'a str,
    since: String,
}

/// What an opening signed that the last run had left past its head.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct RecoveredBody {
    pub head: u64,
    pub recovered: u64,
    pub cut_bytes: u64,
    pub torn_head: bool,
}

/// The intents without an outcome at the start of a segment, by call.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RotatedBody {
    pub open: HashMap<String, u64>,
}

/// The sequence numbers that retention removed.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct RetentionBody {
    pub removed_from: u64,
    pub removed_to: u64,
}

/// An entry created by the audit; the names of its members must not be among the audit's own.
pub(crate) fn own(kind: Kind, body: &impl Serialize) -> Option<Draft> {
    let entry = Entry::new(kind, true, body);
    Draft::new(&entry, Timestamp::now()).ok()
}
