//! The reconciler's use of the watch: it is set on a thread that may block, and the host works without one.
//!
//! Invariant: a path that cannot be watched is logged once, until the problem changes.

use std::path::PathBuf;
use std::time::Duration;

use qchost_runtime::Watch;

/// How long it takes at most until a change is found without a watch.
pub const RESCAN_INTERVAL: Duration = Duration::from_secs(30);

/// A watch, if there is one.
#[derive(Debug, Default)]
pub struct Watching {
    watch: Option<Watch>,
    /// The problem with it that was logged.
    logged: Option<String>,
}

impl Watching {
    /// Starts without watching anything yet.
    pub fn start() -> Self {
        let mut watching = Self::default();
        match Watch::new() {
            Ok(watch) => watching.watch = Some(watch),
            Err(error) => watching.note_problem(Some(error.to_string())),
        }
        watching
    }

    /// Watches these places. Called before every look, since a change after the look could be missed otherwise.
    pub async fn set(&mut self, paths: &[PathBuf]) {
        let Some(mut watch) = self.watch.take() else {
            return;
        };
        let paths = paths.to_vec();
        let watching = tokio::task::spawn_blocking(move || {
            let problem = watch.set(paths).err();
            (watch, problem)
        });
        let problem = match watching.await {
            Ok((watch, problem)) => {
                self.watch = Some(watch);
                problem.map(|error| error.to_string())
            }
            Err(stopped) => Some(format!("the watch of the files is lost: {stopped}")),
        };
        self.note_problem(problem);
    }

    /// Waits for a change; forever if there is no watch.
    pub async fn changed(&mut self) {
        match &mut self.watch {
            Some(watch) => watch.changed().await,
            None => std::future::pending().await,
        }
    }

    fn note_problem(&mut self, problem: Option<String>) {
        if let Some(error) = &problem
            && self.logged != problem
        {
            tracing::warn!(target: "host", "{error}; what is not watched is looked at every {} s", RESCAN_INTERVAL.as_secs());
        }
        self.logged = problem;
    }
}
