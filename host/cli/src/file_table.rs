//! The state of each file: written by the reconciler, read by every verb.

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::path::PathBuf;

use qchost_gate::PendingApproval;

use crate::exit_status::ErrorKind;
use crate::manifests;

/// A problem with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The kind of error of a request that needs the plugin.
    pub kind: ErrorKind,
    pub reason: String,
    /// The approval that would resolve it.
    pub approval: Option<String>,
}

/// The state of a manifest.
#[derive(Debug, Clone, Default)]
pub struct ManifestState {
    pub path: PathBuf,
    /// The plugin it is for, as far as it can be read.
    pub name: Option<String>,
    /// Its component, as far as it can be read.
    pub component: Option<PathBuf>,
    /// Its aliases, as far as they can be read.
    pub aliases: Vec<String>,
    /// The plugin that serves because of it, or of its former content.
    pub serving: Option<String>,
    /// Whether its component is being checked and compiled.
    pub loading: bool,
    /// Why what serves is not what the file says.
    pub problem: Option<Problem>,
    /// When what serves was loaded: milliseconds since 1970.
    pub loaded: Option<i64>,
    /// Number of its contents that could not be used.
    pub failures: u64,
}

impl ManifestState {
    /// Whether it is being loaded, or was found just now and will be.
    pub fn is_new(&self) -> bool {
        self.loading || (self.serving.is_none() && self.problem.is_none())
    }

    /// Whether it is for a plugin, or may be meant for it.
    pub fn claims(&self, plugin: &str) -> bool {
        manifests::claims(&self.path, self.name.as_deref(), plugin)
    }

    /// Whether it has an alias.
    pub fn has_alias(&self, alias: &str) -> bool {
        self.aliases.iter().any(|name| name == alias)
    }
}

/// The state of a file that is not a manifest.
#[derive(Debug, Clone, Default)]
pub struct FileState {
    /// Why an older content of it is in effect.
    pub problem: Option<String>,
    /// The part of it that awaits approval.
    pub pending: Option<PendingApproval>,
    /// The settings that take effect after a restart.
    pub restart: Vec<String>,
    /// Number of its contents that could not be used.
    pub failures: u64,
}

impl FileState {
    /// The settings that take effect after a restart, in words.
    pub fn until_restart(&self) -> Option<String> {
        (!self.restart.is_empty()).then(|| {
            format!(
                "changes of {} take effect when the host starts again",
                self.restart.join(", ")
            )
        })
    }
}

/// The state of all files.
#[derive(Debug, Default)]
pub struct FileTable(Mutex<Files>);

/// The files.
#[derive(Debug, Default)]
pub struct Files {
    /// The manifests, in the order of their paths.
    pub manifests: BTreeMap<PathBuf, ManifestState>,
    /// The folder of manifests.
    pub folder: FileState,
    pub configuration: FileState,
    pub guardrails: FileState,
    /// The secret files of accounts.
    pub credentials: FileState,
}

impl FileTable {
    /// The current state.
    pub fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock()
    }

    /// The rows of the manifests, in the order of their paths.
    pub fn rows(&self) -> Vec<ManifestState> {
        self.files().manifests.values().cloned().collect()
    }
}
