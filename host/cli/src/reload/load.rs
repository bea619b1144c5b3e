//! One load of a manifest, concurrent with others.
//!
//! Invariant: the end of a load is always reported, however it ended; waiting for all of them relies on nothing else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use qchost_gate::{Gate, PendingApproval};
use qchost_policy::Manifest;
use qchost_runtime::{ComponentError, LoadError, Plugin, Runtime};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

use crate::fingerprint::{FileFingerprint, MIN_FILE_AGE};

/// Manifests compiled to policies at a time, so that many changes at once leave processors to the clients being served.
static COMPILING: Semaphore = Semaphore::const_new(2);

/// How a load ended.
#[derive(Debug)]
pub enum Outcome {
    /// It serves; with what of it awaits approval.
    Loaded(Arc<Plugin>, Option<PendingApproval>),
    /// It does not serve, and what served before keeps serving.
    Failed(LoadError),
    /// It does not serve, and the component has changed meanwhile.
    Changed,
    /// It does not serve, since the host shuts down; what its manifest does not allow is denied.
    Ending,
}

/// A load that ended.
#[derive(Debug, PartialEq, Eq)]
pub struct FinishedLoad {
    pub path: PathBuf,
    pub attempt: u64,
}

/// Reports the end of a load when dropped, also by a panic.
struct FinishReporter(mpsc::UnboundedSender<FinishedLoad>, Option<FinishedLoad>);

impl Drop for FinishReporter {
    fn drop(&mut self) {
        if let Some(finished) = self.1.take() {
            // If the reconciler is gone, the report is not needed.
            drop(self.0.send(finished));
        }
    }
}

/// Starts a load that reports its end to `sender`.
pub fn spawn(
    work: impl Future<Output = Outcome> + Send + 'static,
    sender: mpsc::UnboundedSender<FinishedLoad>,
    finished: FinishedLoad,
) -> AbortOnDropHandle<Outcome> {
    let reporter = FinishReporter(sender, Some(finished));
    AbortOnDropHandle::new(tokio::spawn(async move {
        let _reporter = reporter;
        work.await
    }))
}

/// Loads a manifest after acquiring one of `load_permits`; the semaphore is closed at shutdown. What the manifest does
/// not allow is denied before that. With `defer_young_files`, an unusable component that was modified just now is not
/// judged yet: it gets time to become complete.
pub async fn load(
    runtime: Runtime,
    gate: Gate,
    manifest: Manifest,
    load_permits: Arc<Semaphore>,
    defer_young_files: bool,
) -> Outcome {
    {
        // It is never closed.
        let _compiling = COMPILING.acquire().await;
        if let Err(error) = gate.policies.restrict(manifest.clone()).await {
            return Outcome::Failed(error.into());
        }
    }
    let Ok(permit) = load_permits.acquire().await else {
        return Outcome::Ending;
    };
    let component = manifest.component.clone();
    let before = fingerprint(&component).await;
    let error = match runtime.load(manifest).await {
        Ok(plugin) => {
            let pending = gate.proposals.pending_approval(plugin.name());
            return Outcome::Loaded(plugin, pending);
        }
        Err(LoadError::ShuttingDown) => return Outcome::Ending,
        Err(error) => error,
    };
    drop(permit);
    let incomplete = !matches!(error, LoadError::AwaitsOperator { .. })
        && before.is_none_or(|fingerprint| fingerprint.is_young());
    if defer_young_files && incomplete {
        tokio::time::sleep(MIN_FILE_AGE).await;
    }
    if fingerprint(&component).await == before {
        Outcome::Failed(error)
    } else {
        Outcome::Changed
    }
}

/// The fingerprint of a file, if it exists. Its file system may be slow.
async fn fingerprint(path: &Path) -> Option<FileFingerprint> {
    let path = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || FileFingerprint::of(&path).ok());
    reading.await.unwrap_or_default()
}

/// When a failed load may succeed without a change of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    Never,
    /// At any time, and a retry is cheap.
    Soon,
    /// When the plugin that has a name is unloaded or replaced, and a retry is cheap.
    NameFreed,
    /// Unlikely, and a retry takes as long as the load: a compiler that crashed, or hung.
    Late,
}

impl Retry {
    pub fn of(error: &LoadError) -> Self {
        match error {
            LoadError::Component(_, ComponentError::Compiler(_)) => Self::Late,
            LoadError::AwaitsOperator { .. }
            | LoadError::NotAdmitted(_)
            | LoadError::Component(_, ComponentError::Read(_))
            | LoadError::Folder { .. }
            | LoadError::Unloaded { .. } => Self::Soon,
            LoadError::NameTaken { .. } => Self::NameFreed,
            _ => Self::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_end_of_a_load_is_told_whether_it_was_done_panicked_or_was_cut_off() {
        let (sender, mut finished) = mpsc::unbounded_channel();
        let load = |attempt, work: fn() -> Outcome| {
            let path = PathBuf::from("lab.toml");
            let work = async move {
                tokio::task::yield_now().await;
                work()
            };
            spawn(work, sender.clone(), FinishedLoad { path, attempt })
        };
        let done = load(1, || Outcome::Changed);
        let panicked = load(2, || panic!("a fault of the host's"));
        let cut_off = load(3, || Outcome::Changed);
        cut_off.abort();
        let mut attempts = Vec::new();
        while attempts.len() < 3 {
            let next = tokio::time::timeout(Duration::from_secs(60), finished.recv());
            let FinishedLoad { path, attempt } = next.await.unwrap().unwrap();
            assert_eq!(path, Path::new("lab.toml"));
            attempts.push(attempt);
        }
        attempts.sort_unstable();
        assert_eq!(attempts, [1, 2, 3]);
        assert!(matches!(done.await, Ok(Outcome::Changed)));
        let why = panicked.await.unwrap_err().to_string();
        assert!(why.contains("a fault of the host's"), "{why}");
        assert!(cut_off.await.unwrap_err().is_cancelled());
    }
}
