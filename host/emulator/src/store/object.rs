//! The organisation's object store.
//!
//! Keys are paths; a key's folders exist as long as there is an object in them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::clock;
use super::kept::Kept;

/// One object.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Object {
    pub(crate) key: String,
    pub(crate) bytes: Bytes,
    pub(crate) created: Timestamp,
    pub(crate) modified: Timestamp,
}

/// A set of objects to be downloaded, as they were when it was asked for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Download {
    pub(crate) job: String,
    /// What the address ends with; it cannot be guessed from the job id.
    pub(crate) token: String,
    #[serde(with = "clock")]
    pub(crate) requested: Instant,
    pub(crate) objects: Vec<(String, Bytes)>,
}

/// Objects by key, and the downloads that were asked for.
#[derive(Debug, Default)]
pub(crate) struct ObjectStore {
    pub(crate) objects: BTreeMap<String, Kept<Object>>,
    /// Oldest first.
    pub(crate) downloads: VecDeque<Kept<Download>>,
}

impl ObjectStore {
    /// Bytes of all objects together.
    pub(crate) fn used(&self) -> usize {
        self.objects.values().map(|object| object.bytes.len()).sum()
    }

    /// All keys at or below `path`.
    pub(crate) fn below<'s>(
        &'s self,
        path: &str,
    ) -> impl Iterator<Item = (&'s String, &'s Object)> {
        let folder = format!("{path}/");
        let whole = path.is_empty();
        let path = path.to_owned();
        self.objects
            .iter()
            .filter(move |(key, _)| whole || **key == path || key.starts_with(&folder))
            .map(|(key, object)| (key, Kept::value(object)))
    }
}
