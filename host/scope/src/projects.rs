//! The names of projects, according to the account.
//!
//! Invariant: a name is used for at most 60 seconds from the moment it was requested, and not at
//! all after this host changed the project. Concurrent callers that need the same name share one
//! read.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

use qchost_catalog::Failure;
use qchost_catalog::host_calls::READ_PROJECT;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::cache::PerAccount;
use crate::error::ScopeError;
use crate::reads::{Carried, Reader, project_in, read, unavailable, unresolved};

const NAME_TTL: Duration = Duration::from_secs(60);
const MAX_PROJECTS: usize = 10_000;

/// The names by account and project id.
pub(crate) struct Projects(PerAccount<u32, Arc<Entry>>);

#[derive(Default)]
struct Entry {
    known: Mutex<CachedName>,
    /// Held while the name is being read.
    flight: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct CachedName {
    /// The name, and when it was requested.
    name: Option<(String, Instant)>,
    /// Why there was none, and when that was learned, for callers that waited meanwhile.
    failure: Option<(ScopeError, Instant)>,
}

impl Entry {
    fn name(&self) -> Option<String> {
        let known = self.known.lock();
        let fresh = |(_, begun): &&(String, Instant)| begun.elapsed() <= NAME_TTL;
        known
            .name
            .as_ref()
            .filter(fresh)
            .map(|(name, _)| name.clone())
    }

    fn failure_since(&self, begun: Instant) -> Option<ScopeError> {
        let known = self.known.lock();
        let failure = known.failure.as_ref();
        failure
            .filter(|(_, learned)| *learned >= begun)
            .map(|(failure, _)| failure.clone())
    }

    fn learn(&self, name: &str, begun: Instant) {
        let mut known = self.known.lock();
        if known.name.as_ref().is_none_or(|(_, other)| *other <= begun) {
            known.name = Some((name.to_owned(), begun));
        }
    }

    fn fail(&self, failure: &ScopeError) {
        // A rate limit of one caller does not concern the others, which read by themselves.
        if matches!(failure, ScopeError::Failed(Failure::RateLimited { .. })) {
            return;
        }
        let mut known = self.known.lock();
        known.failure = Some((failure.clone(), Instant::now()));
    }
}

impl Projects {
    pub(crate) fn new() -> Self {
        Self(PerAccount::new(MAX_PROJECTS))
    }

    fn entry(&self, account: &str, project: u32) -> Arc<Entry> {
        self.0.with(account, |entries| {
            Arc::clone(entries.get_or_insert(project, Arc::default))
        })
    }

    /// The name if it is known and still fresh.
    pub(crate) fn cached(&self, account: &str, project: u32) -> Option<String> {
        let entry = self
            .0
            .with(account, |entries| entries.get(&project).map(Arc::clone));
        entry?.name()
    }

    /// The name, read from the account if it is not known.
    pub(crate) async fn name(
        &self,
        reader: &dyn Reader,
        account: &str,
        project: u32,
    ) -> Result<String, ScopeError> {
        let entry = self.entry(account, project);
        if let Some(name) = entry.name() {
            return Ok(name);
        }
        let begun = Instant::now();
        let _flight = entry.flight.lock().await;
        if let Some(name) = entry.name() {
            return Ok(name);
        }
        if let Some(failure) = entry.failure_since(begun) {
            return Err(failure);
        }
        let begun = Instant::now();
        let name = read_name(reader, project).await;
        match &name {
            Ok(name) => entry.learn(name, begun),
            Err(failure) => entry.fail(failure),
        }
        name
    }

    /// The current name: for an irreversible call, neither a name of up to a minute nor another
    /// caller's read is recent enough.
    pub(crate) async fn name_now(
        &self,
        reader: &dyn Reader,
        account: &str,
        project: u32,
    ) -> Result<String, ScopeError> {
        let begun = Instant::now();
        let name = read_name(reader, project).await?;
        self.learn(account, project, &name, begun);
        Ok(name)
    }

    /// Stores a name from an answer to a call that began at `begun`.
    pub(crate) fn learn(&self, account: &str, project: u32, name: &str, begun: Instant) {
        self.entry(account, project).learn(name, begun);
    }

    /// The project changed or was deleted. Reads in progress write to the entry that is dropped
    /// here.
    pub(crate) fn forget(&self, account: &str, project: u32) {
        self.0.with(account, |entries| entries.pop(&project));
    }
}

async fn read_name(reader: &dyn Reader, project: u32) -> Result<String, ScopeError> {
    let what = format!("project {project}");
    let arguments = Map::from_iter([("projectId".to_owned(), Value::from(project))]);
    let answer = read(reader, READ_PROJECT, arguments, &what).await?;
    let projects = answer.get("projects").and_then(Value::as_array);
    match projects.map(Vec::as_slice) {
        Some([only]) if project_in(only) == Carried::Project(project) => only
            .get("name")
            .and_then(Value::as_str)
            .map(str::to_owned)
            .ok_or_else(|| unavailable(&what, "the answer has no name of it")),
        Some([]) => Err(unresolved(&what)),
        _ => Err(unavailable(&what, "the answer is not about it")),
    }
}
