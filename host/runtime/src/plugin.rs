//! A loaded plugin: its code, and its manifest at load time.
//!
//! Invariant: an invocation runs with the code and the manifest of one of these from beginning to
//! end. The code is freed with its last reference.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use qchost_policy::Manifest;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::component::Code;
use crate::description::Description;
use crate::imports::Import;
use crate::quarantine::Record;
use crate::running::{Running, RunningCount};
use crate::tenants::Tenant;
use crate::version_context::VersionContext;

/// A loaded plugin. A running invocation keeps the one it began with, whatever is loaded meanwhile;
/// any other holder keeps its code in memory.
pub struct Plugin {
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) version_context: Arc<VersionContext>,
    pub(crate) code: Arc<Code>,
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) lifetime: Arc<CodeLifetime>,
    pub(crate) record: Record,
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
    /// Its name, from the manifest.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.tenant.name
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

    /// Its manifest at load time.
    #[must_use]
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// Whether the folders that its manifest grants are still where they were when it was loaded.
    #[must_use]
    pub fn has_folders_in_place(&self) -> bool {
        let folders = &self.version_context.folders.folders;
        folders.iter().all(qchost_folders::Folder::is_in_place)
    }

    /// The component's own name, if it differs from the manifest's.
    #[must_use]
    pub fn other_name(&self) -> Option<&str> {
        let own = self.description().name.as_str();
        (own != self.name()).then_some(own)
    }

    /// Its description.
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
}

/// Lifetime of one code. Manifests of the same code share it, so that invocations are not cancelled
/// if only the manifest changed.
#[derive(Debug)]
pub(crate) struct CodeLifetime {
    cancellation: CancellationToken,
    retired: AtomicBool,
    running: RunningCount,
    /// The runtime on which the end of the drain time is awaited.
    runtime: Handle,
}

impl CodeLifetime {
    /// A life that ends with the host at the latest. Must be called within a tokio runtime.
    pub(crate) fn new(host: &CancellationToken) -> Self {
        Self {
            cancellation: host.child_token(),
            retired: AtomicBool::new(false),
            running: RunningCount::default(),
            runtime: Handle::current(),
        }
    }

    /// Whether other code serves by now, or none.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Number of running invocations.
    pub(crate) fn running(&self) -> usize {
        self.running.sum()
    }

    /// Counts an invocation while the guard lives.
    pub(crate) fn run(&self) -> Running<'_> {
        self.running.begin()
    }

    /// Waits until the running invocations are to be cancelled.
    pub(crate) async fn cancelled(&self) {
        self.cancellation.cancelled().await;
    }

    /// Cancels running invocations after `drain`.
    pub(crate) fn retire(self: &Arc<Self>, plugin: Arc<str>, drain: Duration) {
        self.retired.store(true, Ordering::Release);
        let lifetime = Arc::clone(self);
        self.runtime.spawn(async move {
            tokio::select! {
                () = lifetime.cancelled() => {}
                () = tokio::time::sleep(drain) => {
                    let left = lifetime.running();
                    if left > 0 {
                        tracing::warn!(plugin = &*plugin, left, seconds = drain.as_secs_f64(), "invocations of a former version took too long and are cut off");
                    }
                    lifetime.cancellation.cancel();
                }
            }
        });
    }
}
