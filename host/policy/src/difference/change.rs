//! What a difference consists of, and what is kept of counters when a manifest changes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::manifest::Grant;

/// The effect of a change on authority, as far as the line alone shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// Something was added.
    Added,
    /// Something allows more, or is limited less.
    Widened,
    /// Something was removed, or allows less.
    TakenAway,
    /// None of these.
    Changed,
}

impl ChangeKind {
    /// Of a change between more and less.
    #[must_use]
    pub fn wider_if(is_wider: bool) -> Self {
        match is_wider {
            true => Self::Widened,
            false => Self::TakenAway,
        }
    }

    /// Its name in messages and records.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Widened => "widened",
            Self::TakenAway => "taken away",
            Self::Changed => "changed",
        }
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Change {
    /// Its effect.
    pub kind: ChangeKind,
    /// Which grant or key changed and how: one line, control characters escaped.
    pub line: String,
}

/// A former grant whose counter may still hold calls of today that a current grant allows as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// The grant.
    pub grant: Grant,
    /// The last day on which it counted: days since 1970, UTC.
    pub day: i64,
    /// The grants that have continued its count since.
    pub handed: Vec<String>,
}

/// What is kept of a plugin's grants for the rest of a day, so that each counter that continues others gets all of
/// their counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// Grants that were removed or made smaller.
    pub retired: Vec<Retired>,
    /// Grants that are new or changed since this day, and so have not counted all of it.
    pub since: BTreeMap<String, i64>,
}

/// A grant whose counter continues those of other grants, since it allows calls that those have counted and no longer
/// count. Names are those of counters: `http:` before that of a grant for another host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Successor {
    /// The grant.
    pub name: String,
    /// Whether their counts are added to its own; otherwise it gets the larger of both.
    pub adds: bool,
    /// The counters that it continues; `None` if it may be any of the plugin's.
    pub of: Option<Vec<String>>,
    /// Counters that are contained in others of these: its count is at least that of each.
    pub at_least: Vec<String>,
}
