//! One manifest, as the reconciler follows it: what was seen, what was tried, and what is to be said.
//!
//! Invariant: a reason is said and counted once, until there is another one or none.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Error;
use qchost_runtime::{LoadError, Plugin};
use tokio_util::task::AbortOnDropHandle;

use super::load::Outcome;
use super::scan::Seen;
use super::table::{Problem, Row};
use crate::output::words;

/// A manifest that is followed.
pub struct Tracked {
    pub seen: Seen,
    /// The plugin that serves because of it.
    pub holds: Option<String>,
    /// What was tried last.
    pub tried: Option<Seen>,
    /// Why that failed, and whether it may succeed without a change.
    pub failure: Option<(Problem, bool)>,
    /// Why it is not tried.
    pub obstacle: Option<String>,
    /// Whether a configuration that is being prepared may let it in.
    pub waits: bool,
    pub loading: Option<Loading>,
    /// The reason that was said last.
    told: Option<String>,
    pub row: Row,
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
        let problem = obstacle.or_else(|| Some(self.failure.as_ref()?.0.clone()));
        let row = &mut self.row;
        row.name.clone_from(&self.seen.file.name);
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
            if aloud {
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
