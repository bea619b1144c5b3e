//! One manifest as the reconciler follows it: what was seen, what was tried, and what is reported.
//!
//! Invariants: a problem is logged and counted once, until it changes or is resolved. A load that fails slowly is not
//! retried unchanged again and again, unless a client asks for a reload.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Error;
use qchost_catalog::Backoff;
use qchost_runtime::{LoadError, Plugin};
use tokio_util::task::AbortOnDropHandle;

use super::load::{Outcome, Retry};
use super::scan::ScannedManifest;
use crate::exit_status::ErrorKind;
use crate::file_table::{ManifestState, Problem};
use crate::output::words;

/// Before a [late retry](Retry::Late).
const BACKOFF: Backoff = Backoff::exact(Duration::from_secs(30), Duration::from_secs(3600));

/// A manifest being followed.
pub struct Tracked {
    pub scanned: ScannedManifest,
    /// The plugin that serves because of it.
    pub serving: Option<String>,
    /// What was tried last.
    pub tried: Option<ScannedManifest>,
    /// Why that failed.
    pub failure: Option<Failure>,
    /// The last content whose failure is [retried late](Retry::Late), and how often it did in a row.
    paused: Option<(ScannedManifest, u32)>,
    /// Why it is not tried.
    pub obstacle: Option<String>,
    /// Whether a configuration being prepared may accept it.
    pub waits: bool,
    pub loading: Option<Loading>,
    /// The problem that was logged last.
    logged: Option<String>,
    pub row: ManifestState,
}

/// Why a load failed.
pub struct Failure {
    problem: Problem,
    /// When it is retried without a change; never if `None`.
    retry_at: Option<Instant>,
    /// Whether another plugin has a name that it wants.
    awaits_name: bool,
}

/// A load in progress.
pub struct Loading {
    pub attempt: u64,
    pub begun: Instant,
    pub plugin: String,
    /// What served when it began.
    pub former: Option<Arc<Plugin>>,
    pub task: AbortOnDropHandle<Outcome>,
}

impl Loading {
    /// Cancels it. If it had ended just before, returns its outcome.
    pub async fn stop(self) -> Option<Outcome> {
        self.task.abort();
        self.task.await.ok()
    }
}

impl Tracked {
    pub fn new(scanned: ScannedManifest, path: &Path) -> Self {
        Self {
            scanned,
            serving: None,
            tried: None,
            failure: None,
            paused: None,
            obstacle: None,
            waits: false,
            loading: None,
            logged: None,
            row: ManifestState {
                path: path.to_owned(),
                ..ManifestState::default()
            },
        }
    }

    /// Whether its current form was tried.
    pub fn is_tried(&self) -> bool {
        self.tried
            .as_ref()
            .is_some_and(|tried| tried.is_same(&self.scanned))
    }

    /// Takes its load to be cancelled: the load may not have got to the rights that the manifest removes, so it starts
    /// over when it is needed again.
    pub fn interrupt(&mut self) -> Option<Loading> {
        let loading = self.loading.take()?;
        self.tried = None;
        Some(loading)
    }

    /// The last try failed.
    pub fn fail(&mut self, problem: Problem, retry: Retry, now: Instant) {
        let retry_at = match retry {
            Retry::Never => None,
            Retry::Soon | Retry::NameFreed => Some(now),
            Retry::Late => {
                let former = self.paused.take();
                let former = former.filter(|(scanned, _)| {
                    let tried = self.tried.as_ref();
                    tried.is_some_and(|tried| tried.is_same(scanned))
                });
                let failures = former.map_or(1, |(_, failures)| failures.saturating_add(1));
                self.paused = self.tried.clone().map(|tried| (tried, failures));
                now.checked_add(BACKOFF.delay(failures))
            }
        };
        self.failure = Some(Failure {
            problem,
            retry_at,
            awaits_name: retry == Retry::NameFreed,
        });
    }

    /// Allows a retry, if the cause of the failure may have passed by now; if a client `requested`, whenever it can pass.
    pub fn retry(&mut self, requested: bool, now: Instant) {
        let retry_at = self.failure.as_ref().and_then(|failure| failure.retry_at);
        if retry_at.is_some_and(|time| requested || time <= now) {
            self.tried = None;
        }
    }

    /// Allows a retry if it failed since another plugin had a name that it wants; returns whether it did.
    pub fn name_freed(&mut self) -> bool {
        let awaits = (self.failure.as_ref()).is_some_and(|failure| failure.awaits_name);
        if awaits {
            self.tried = None;
        }
        awaits
    }

    /// It no longer serves.
    pub fn release(&mut self) {
        self.serving = None;
        self.row.loaded = None;
    }

    /// Updates its row; a new problem is counted, and logged if `log`.
    pub fn update_row(&mut self, log: bool) {
        let obstacle = self.obstacle.clone().map(|reason| Problem {
            kind: ErrorKind::Failed,
            reason,
            approval: None,
        });
        let problem = obstacle.or_else(|| Some(self.failure.as_ref()?.problem.clone()));
        let row = &mut self.row;
        row.name.clone_from(&self.scanned.file.name);
        let manifest = self.scanned.file.manifest.as_ref().ok();
        row.component = manifest.map(|manifest| manifest.component.clone());
        let aliases = manifest.map(|manifest| manifest.aliases.as_slice());
        let aliases = aliases.unwrap_or_default().iter();
        row.aliases = aliases.map(|alias| alias.name.clone()).collect();
        row.serving.clone_from(&self.serving);
        row.loading = self.loading.is_some() || self.waits;
        if self.waits {
            return;
        }
        // During a retry, the former problem is what is known.
        if problem.is_some() || self.loading.is_none() {
            row.problem = problem;
        }
        let reason = row.problem.as_ref().map(|problem| problem.reason.clone());
        if let Some(reason) = &reason
            && self.logged.as_ref() != Some(reason)
        {
            row.failures += 1;
            let pending = row.problem.as_ref().is_some_and(|it| it.approval.is_some());
            if log && pending {
                tracing::warn!(target: "host", "{reason}");
            } else if log {
                let serves = match &row.serving {
                    Some(_) => "; what was loaded before keeps serving",
                    None => "",
                };
                tracing::error!(target: "host", "{reason}{serves}");
            }
        }
        self.logged = reason;
    }
}

/// A failure as it is shown.
pub fn problem(path: &Path, error: LoadError) -> Problem {
    let approval = match &error {
        LoadError::AwaitsOperator { approval, .. } => Some(approval.clone()),
        _ => None,
    };
    let kind = ErrorKind::from(&error);
    let names_file = matches!(error, LoadError::Config { .. });
    let error = Error::from(error);
    let error = match names_file {
        true => error,
        false => error.context(path.display().to_string()),
    };
    Problem {
        kind,
        reason: words(&error),
        approval,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::reload::scan::scan;

    /// A manifest in a folder.
    fn scanned(folder: &Path) -> ScannedManifest {
        let found = scan(folder, &BTreeMap::new(), false).scanned;
        found.into_values().next().unwrap()
    }

    /// Fails in its current form, and returns the pause in seconds before the retry.
    fn pause(tracked: &mut Tracked, retry: Retry) -> Option<u64> {
        let now = Instant::now();
        let failed = Problem {
            kind: ErrorKind::Failed,
            reason: "the compiler failed".to_owned(),
            approval: None,
        };
        tracked.tried = Some(tracked.scanned.clone());
        tracked.fail(failed, retry, now);
        (0..=3600).find(|seconds| {
            tracked.retry(false, now + Duration::from_secs(*seconds));
            !tracked.is_tried()
        })
    }

    #[test]
    fn what_the_compiler_fails_on_is_tried_less_and_less_often_until_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lab.toml");
        let text = "plugin = \"lab\"\ncomponent = \"lab.wasm\"\naccount = \"research\"\n";
        std::fs::write(&path, text).unwrap();
        std::fs::write(folder.path().join("lab.wasm"), "one").unwrap();
        let mut tracked = Tracked::new(scanned(folder.path()), &path);
        for expected in [30, 60, 120, 240, 480, 960, 1920, 3600, 3600] {
            assert_eq!(pause(&mut tracked, Retry::Late), Some(expected));
        }
        // A client that asks does not wait for the pause.
        tracked.tried = Some(tracked.scanned.clone());
        tracked.retry(true, Instant::now());
        assert!(!tracked.is_tried());
        // Another content has its own pause.
        std::fs::write(folder.path().join("lab.wasm"), "another").unwrap();
        tracked.scanned = scanned(folder.path());
        assert_eq!(pause(&mut tracked, Retry::Late), Some(30));
        // What is cheap to retry is retried each time, and what cannot pass never.
        assert_eq!(pause(&mut tracked, Retry::Soon), Some(0));
        // What wants a name is retried when one is freed, too.
        assert_eq!(pause(&mut tracked, Retry::NameFreed), Some(0));
        tracked.tried = Some(tracked.scanned.clone());
        assert!(tracked.name_freed() && !tracked.is_tried());
        assert_eq!(pause(&mut tracked, Retry::Never), None);
        assert!(!tracked.name_freed() && tracked.is_tried());
        tracked.retry(true, Instant::now());
        assert!(tracked.is_tried());
    }
}
