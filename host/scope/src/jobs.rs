//! Downloads of objects that a plugin started: the objects of a job id.
//!
//! Invariant: a job is valid only for the plugin that started it, for the keys that were decided
//! then, and for an hour.

use std::time::Duration;

use qchost_catalog::host_calls::READ_OBJECT_STORE_FILE_JOB_ID;
use tokio::time::Instant;

use crate::cache::PerAccount;
use crate::error::{ScopeError, shown};

const JOB_TTL: Duration = Duration::from_secs(3_600);
const MAX_JOBS: usize = 10_000;

/// Keys of one organisation's store.
#[derive(Debug, Clone)]
pub(crate) struct Objects {
    pub(crate) organization: String,
    pub(crate) keys: Vec<String>,
}

/// Downloads by account, plugin and job.
pub(crate) struct Jobs(PerAccount<(String, String), (Objects, Instant)>);

impl Jobs {
    pub(crate) fn new() -> Self {
        Self(PerAccount::new(MAX_JOBS))
    }

    pub(crate) fn remember(&self, account: &str, plugin: &str, job: &str, objects: Objects) {
        let key = (plugin.to_owned(), job.to_owned());
        self.0
            .with(account, |jobs| jobs.put(key, (objects, Instant::now())));
    }

    /// The objects of the job.
    pub(crate) fn objects(
        &self,
        account: &str,
        plugin: &str,
        job: &str,
        organization: &str,
    ) -> Result<Objects, ScopeError> {
        let key = (plugin.to_owned(), job.to_owned());
        let known = self.0.with(account, |jobs| jobs.get(&key).cloned());
        known
            .filter(|(objects, begun)| {
                begun.elapsed() <= JOB_TTL && objects.organization == organization
            })
            .map(|(objects, _)| objects)
            .ok_or_else(|| {
                ScopeError::Denied(format!(
                    "download {} was not begun by this plugin in the last hour; begin one with `{}`",
                    shown(job),
                    READ_OBJECT_STORE_FILE_JOB_ID.name
                ))
            })
    }
}
