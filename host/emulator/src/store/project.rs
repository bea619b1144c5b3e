//! A project: its files, its settings and its collaborators.
//!
//! Invariant: two files of a project never have the same name, and a lock names the one code
//! source whose edits are let through.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::{Language, SourceFile};

/// One file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct File {
    pub(crate) id: u64,
    pub(crate) content: String,
    pub(crate) modified: Timestamp,
}

/// Another user with whom a project is shared.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Collaborator {
    pub(crate) id: String,
    pub(crate) live_control: bool,
    pub(crate) write: bool,
}

/// One project.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Project {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) language: Language,
    pub(crate) created: Timestamp,
    pub(crate) modified: Timestamp,
    /// By name, which is a path with slashes.
    pub(crate) files: BTreeMap<String, File>,
    /// Values for `get_parameter`, in the order in which they were given.
    pub(crate) parameters: Vec<(String, String)>,
    /// Identifiers of library projects.
    pub(crate) libraries: BTreeSet<u32>,
    /// Without the owner.
    pub(crate) collaborators: Vec<Collaborator>,
    /// The code source that holds the lock.
    pub(crate) lock: Option<String>,
    /// Nodes chosen for the project; empty means any node.
    pub(crate) nodes: BTreeSet<String>,
    /// A LEAN version, where the project is pinned to one.
    pub(crate) lean_version: Option<i64>,
    pub(crate) lean_environment: i64,
}

impl Project {
    /// A project without files.
    pub(crate) fn new(id: u32, name: String, language: Language) -> Self {
        let now = Timestamp::now();
        Self {
            id,
            name,
            description: String::new(),
            language,
            created: now,
            modified: now,
            files: BTreeMap::new(),
            parameters: Vec::new(),
            libraries: BTreeSet::new(),
            collaborators: Vec::new(),
            lock: None,
            nodes: BTreeSet::new(),
            lean_version: None,
            lean_environment: 1,
        }
    }

    /// Adds a file under the identifier `id`, or replaces the content of one, which keeps its own.
    pub(crate) fn put(&mut self, name: &str, content: &str, id: u64) {
        let now = Timestamp::now();
        self.modified = now;
        let file = File {
            id: self.files.get(name).map_or(id, |file| file.id),
            content: content.to_owned(),
            modified: now,
        };
        self.files.insert(name.to_owned(), file);
    }

    /// The files as the engine takes them.
    pub(crate) fn sources(&self) -> Vec<SourceFile> {
        let source = |(name, file): (&String, &File)| SourceFile {
            name: name.clone(),
            content: file.content.clone(),
        };
        self.files.iter().map(source).collect()
    }
}
