//! One manifest, as the reconciler follows it: what was seen, what was tried, and what is to be said.
//!
//! Invariants: a reason is said and counted once, until there is another one or none. What takes long to fail is not
//! tried again and again as it is, unless somebody asks for it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Error;
use qchost_runtime::{LoadError, Plugin};
use tokio_util::task::AbortOnDropHandle;

use super::load::{Outcome, Passes};
use super::scan::Seen;
use super::table::{Problem, Row};
use crate::output::words;

/// How long what [passes late](Passes::Late) is let be when it failed for the first time. Each time it fails as it is,
/// that is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// And how long at the most.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// A manifest that is followed.
pub struct Tracked {
    pub seen: Seen,
    /// The plugin that serves because of it.
    pub holds: Option<String>,
    /// What was tried last.
    pub tried: Option<Seen>,
    /// Why that failed.
    pub failure: Option<Failure>,
    /// What failed last of that which passes late, and how long it was let be then.
    paused: Option<(Seen, Duration)>,
    /// Why it is not tried.
    pub obstacle: Option<String>,
    /// Whether a configuration that is being prepared may let it in.
    pub waits: bool,
    pub loading: Option<Loading>,
    /// The reason that was said last.
    told: Option<String>,
    pub row: Row,
}

/// Why a load failed.
pub struct Failure {
    problem: Problem,
    /// From when on it is tried again without a change; never if none.
    again: Option<Instant>,
}

/// A load that goes on.
pub struct Loading {
    pub attempt: u64,
    pub begun: Instant,
    pub plugin: String,
    /// What served when it began.
    pub former: Option<Arc<Plugin>>,
    pub task: AbortOnDropHandle<Outcome>,
}

impl Loading {
    /// Cuts it off. It may have ended just before; then this is how.
    pub async fn stop(self) -> Option<Outcome> {
        self.task.abort();
        self.task.await.ok()
    }
}

impl Tracked {
    pub fn new(seen: Seen, path: &Path) -> Self {
        Self {
            seen,
            holds: None,
            tried: None,
            failure: None,
            paused: None,
            obstacle: None,
            waits: false,
            loading: None,
            told: None,
            row: Row {
                path: path.to_owned(),
                ..Row::default()
            },
        }
    }

    /// Whether it was tried as it is.
    pub fn is_tried(&self) -> bool {
        self.tried
            .as_ref()
            .is_some_and(|tried| tried.is(&self.seen))
    }

    /// Takes its load, which is to be cut off: that may not have come to what the manifest takes away, so it begins anew
    /// when it is wanted again.
    pub fn interrupt(&mut self) -> Option<Loading> {
        let loading = self.loading.take()?;
        self.tried = None;
        Some(loading)
    }

    /// What was tried failed.
    pub fn fail(&mut self, problem: Problem, passes: Passes, now: Instant) {
        let again = match passes {
            Passes::Never => None,
            Passes::Soon => Some(now),
            Passes::Late => {
                let former = self.paused.take();
                let former = former.filter(|(seen, _)| {
                    let tried = self.tried.as_ref();
                    tried.is_some_and(|tried| tried.is(seen))
                });
                let pause = former.map_or(FIRST_PAUSE, |(_, pause)| {
                    pause.saturating_mul(2).min(LONGEST_PAUSE)
                });
                self.paused = self.tried.clone().map(|tried| (tried, pause));
                now.checked_add(pause)
            }
        };
        self.failure = Some(Failure { problem, again });
    }

    /// Has it tried again, if what it failed for may have passed by now; if somebody `asked`, whenever it may.
    pub fn retry(&mut self, asked: bool, now: Instant) {
        let again = self.failure.as_ref().and_then(|failure| failure.again);
        if again.is_some_and(|again| asked || again <= now) {
            self.tried = None;
        }
    }

    /// It serves no longer.
    pub fn release(&mut self) {
        self.holds = None;
        self.row.loaded = None;
    }

    /// Brings its row up to date; what is newly wrong is counted, and said if `aloud`.
    pub fn say(&mut self, aloud: bool) {
        let obstacle = self.obstacle.clone().map(|reason| Problem {
            reason,
            approval: None,
        });
        let problem = obstacle.or_else(|| Some(self.failure.as_ref()?.problem.clone()));
        let row = &mut self.row;
        row.name.clone_from(&self.seen.file.name);
        let manifest = self.seen.file.manifest.as_ref().ok();
        row.component = manifest.map(|manifest| manifest.component.clone());
        row.holds.clone_from(&self.holds);
        row.loading = self.loading.is_some() || self.waits;
        if self.waits {
            return;
        }
        // While it is tried again, what was wrong before is what is known.
        if problem.is_some() || self.loading.is_none() {
            row.problem = problem;
        }
        let reason = row.problem.as_ref().map(|problem| problem.reason.clone());
        if let Some(reason) = &reason
            && self.told.as_ref() != Some(reason)
        {
            row.failures += 1;
            let held = row.problem.as_ref().is_some_and(|it| it.approval.is_some());
            if aloud && held {
                tracing::warn!(target: "host", "{reason}");
            } else if aloud {
                let serves = match &row.holds {
                    Some(_) => "; what was loaded before serves on",
                    None => "",
                };
                tracing::error!(target: "host", "{reason}{serves}");
            }
        }
        self.told = reason;
    }
}

/// A failure, as it is shown.
pub fn problem(path: &Path, error: LoadError) -> Problem {
    let approval = match &error {
        LoadError::AwaitsOperator { approval, .. } => Some(approval.clone()),
        _ => None,
    };
    let error = Error::from(error).context(path.display().to_string());
    Problem {
        reason: words(&error),
        approval,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::reload::scan::scan;

    /// A manifest, as it is in a folder.
    fn seen(folder: &Path) -> Seen {
        let found = scan(folder, &BTreeMap::new(), false).seen;
        found.into_values().next().unwrap()
    }

    /// Fails as it is, and returns after how many seconds it is tried again.
    fn pause(tracked: &mut Tracked, passes: Passes) -> Option<u64> {
        let now = Instant::now();
        let failed = Problem {
            reason: "the compiler failed".to_owned(),
            approval: None,
        };
        tracked.tried = Some(tracked.seen.clone());
        tracked.fail(failed, passes, now);
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
        let mut tracked = Tracked::new(seen(folder.path()), &path);
        for expected in [30, 60, 120, 240, 480, 960, 1920, 3600, 3600] {
            assert_eq!(pause(&mut tracked, Passes::Late), Some(expected));
        }
        // Whoever asks does not wait.
        tracked.tried = Some(tracked.seen.clone());
        tracked.retry(true, Instant::now());
        assert!(!tracked.is_tried());
        // Another content has its own patience.
        std::fs::write(folder.path().join("lab.wasm"), "another").unwrap();
        tracked.seen = seen(folder.path());
        assert_eq!(pause(&mut tracked, Passes::Late), Some(30));
        // What costs nothing to find out is tried each time, and what cannot pass never.
        assert_eq!(pause(&mut tracked, Passes::Soon), Some(0));
        assert_eq!(pause(&mut tracked, Passes::Never), None);
        tracked.retry(true, Instant::now());
        assert!(tracked.is_tried());
    }
}
