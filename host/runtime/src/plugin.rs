//! A loaded plugin: its code, its manifest as it was then, and its turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use qchost_policy::Manifest;
use tokio::sync::Semaphore;

use crate::component::Code;
use crate::description::Description;
use crate::imports::Import;

/// A loaded plugin. An invocation that runs keeps the one that it began with, whatever is loaded
/// meanwhile.
pub struct Plugin {
    manifest: Arc<Manifest>,
    code: Arc<Code>,
    /// One for each invocation that may run at a time.
    slots: Semaphore,
    waiting: AtomicUsize,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin")
            .field("name", &self.name())
            .field("digest", &self.digest())
            .finish_non_exhaustive()
    }
}

impl Plugin {
    pub(crate) fn new(manifest: Arc<Manifest>, code: Arc<Code>) -> Self {
        Self {
            slots: Semaphore::new(manifest.limits.concurrency.min(Semaphore::MAX_PERMITS)),
            waiting: AtomicUsize::new(0),
            manifest,
            code,
        }
    }

    /// Its name, from the manifest.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.manifest.plugin
    }

    /// The hash of its component: `sha256:…`.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.code.digest
    }

    /// The size of its component, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.code.size
    }

    /// Its manifest, as it was when it was loaded.
    #[must_use]
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// What it says of itself.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.code.description
    }

    /// What it imports.
    #[must_use]
    pub fn imports(&self) -> &[Import] {
        &self.code.imports
    }

    /// What it exports.
    #[must_use]
    pub fn exports(&self) -> &[String] {
        &self.code.exports
    }

    pub(crate) fn code(&self) -> &Code {
        &self.code
    }

    pub(crate) fn slots(&self) -> &Semaphore {
        &self.slots
    }

    /// A place among those that wait, unless there are that many already.
    pub(crate) fn queue(&self, longest: usize) -> Result<Place<'_>, usize> {
        let place = Place(&self.waiting);
        let before = self.waiting.fetch_add(1, Ordering::AcqRel);
        // Whoever finds a free slot does not wait.
        if before >= longest.saturating_add(self.slots.available_permits()) {
            return Err(before);
        }
        Ok(place)
    }
}

/// A place among those that wait.
pub(crate) struct Place<'a>(&'a AtomicUsize);

impl Place<'_> {
    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
