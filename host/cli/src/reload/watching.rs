//! The watch, as the reconciler uses it: it is set on a thread that may block, and done without where there is none.
//!
//! Invariant: what is not watched is said once, until it is something else.

use std::path::PathBuf;
use std::time::Duration;

use qchost_runtime::Watch;

/// How long it takes until a change is seen of which nobody told.
pub const INTERVAL: Duration = Duration::from_secs(30);

/// A watch, if there is one.
#[derive(Debug, Default)]
pub struct Watching {
    watch: Option<Watch>,
    /// What was said to be wrong with it.
    said: Option<String>,
}

impl Watching {
    /// Begins, with nothing that is watched yet.
    pub fn start() -> Self {
        let mut watching = Self::default();
        match Watch::new() {
            Ok(watch) => watching.watch = Some(watch),
            Err(error) => watching.say(Some(error.to_string())),
        }
        watching
    }

    /// Watches these places. Before every look, or what changes after it could be missed.
    pub async fn set(&mut self, places: &[PathBuf]) {
        let Some(mut watch) = self.watch.take() else {
            return;
        };
        let places = places.to_vec();
        let setting = tokio::task::spawn_blocking(move || {
            let problem = watch.set(places).err();
            (watch, problem)
        });
        let problem = match setting.await {
            Ok((watch, problem)) => {
                self.watch = Some(watch);
                problem.map(|error| error.to_string())
            }
            Err(stopped) => Some(format!("the watch of the files is lost: {stopped}")),
        };
        self.say(problem);
    }

    /// Waits for a change; for ever where there is no watch.
    pub async fn changed(&mut self) {
        match &mut self.watch {
            Some(watch) => watch.changed().await,
            None => std::future::pending().await,
        }
    }

    fn say(&mut self, problem: Option<String>) {
        if let Some(error) = &problem
            && self.said != problem
        {
            tracing::warn!(target: "host", "{error}; what is not watched is looked at every {} s", INTERVAL.as_secs());
        }
        self.said = problem;
    }
}
