//! Locks on the sources of projects: calls that change a source exclude calls that rely on it.
//!
//! While the host reads a project's files, has them compiled or deployed, and reads them again, the project and its
//! libraries are pinned: no write to them leaves the host. Project ids are the cloud's own, so a pin holds for every
//! plugin, client and operator, whichever configured account they use.
//!
//! Invariant: no project is pinned while a write to it is under way. Conflicting requests are served in order of
//! arrival, so neither side can starve the other; and each takes all of its projects at once, so there is no deadlock.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::change_signal::ChangeSignal;

/// Maximum calls of one plugin that hold a project's source or wait for it.
const MAX_PER_PLUGIN: usize = 256;

/// The projects whose source a call changes or relies on; `None` stands for every project.
pub(crate) type Projects = Option<BTreeSet<u32>>;

/// The locks of all calls that change a source or rely on it.
#[derive(Debug, Clone, Default)]
pub(crate) struct SourceLocks(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    queue: Mutex<Queue>,
    changes: ChangeSignal,
}

#[derive(Debug, Default)]
struct Queue {
    /// In order of arrival.
    requests: Vec<Request>,
    next: u64,
}

#[derive(Debug)]
struct Request {
    id: u64,
    plugin: Arc<str>,
    access: SourceAccess,
    projects: Projects,
}

/// How a call uses a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SourceAccess {
    /// It relies on the source not to change.
    Pin,
    /// It changes the source.
    Change,
}

impl Request {
    /// Whether one of the two has to wait for the other: several can pin a project, and several can change it.
    fn conflicts(&self, other: &Self) -> bool {
        let overlap = match (&self.projects, &other.projects) {
            (Some(own), Some(others)) => !own.is_disjoint(others),
            _ => true,
        };
        self.access != other.access && overlap
    }
}

/// Too many calls of the plugin wait for a source.
#[derive(Debug)]
pub(crate) struct Crowded;

/// A lock on sources; released when dropped.
#[derive(Debug)]
pub(crate) struct SourceLock {
    locks: SourceLocks,
    id: u64,
}

impl Drop for SourceLock {
    fn drop(&mut self) {
        self.locks
            .0
            .queue
            .lock()
            .requests
            .retain(|one| one.id != self.id);
        self.locks.0.changes.notify();
    }
}

impl SourceLocks {
    /// Waits until the call may use these projects in this way. Cancel safe.
    pub(crate) async fn lock(
        &self,
        plugin: &Arc<str>,
        access: SourceAccess,
        projects: Projects,
    ) -> Result<SourceLock, Crowded> {
        let lock = self.join(plugin, access, projects)?;
        let is_first = || self.is_first(lock.id).then_some(());
        self.0.changes.until(is_first).await;
        Ok(lock)
    }

    fn join(
        &self,
        plugin: &Arc<str>,
        access: SourceAccess,
        projects: Projects,
    ) -> Result<SourceLock, Crowded> {
        let mut queue = self.0.queue.lock();
        let own = queue.requests.iter().filter(|one| one.plugin == *plugin);
        if own.count() >= MAX_PER_PLUGIN {
            return Err(Crowded);
        }
        let id = queue.next;
        queue.next = id.wrapping_add(1);
        queue.requests.push(Request {
            id,
            plugin: Arc::clone(plugin),
            access,
            projects,
        });
        Ok(SourceLock {
            locks: self.clone(),
            id,
        })
    }

    /// Whether no earlier request conflicts with it.
    fn is_first(&self, id: u64) -> bool {
        let queue = self.0.queue.lock();
        let mut earlier = queue.requests.iter().take_while(|one| one.id != id);
        let own = queue.requests.iter().find(|one| one.id == id);
        own.is_some_and(|own| !earlier.any(|one| one.conflicts(own)))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt as _;

    use super::*;
    use SourceAccess::{Change, Pin};

    fn of(projects: &[u32]) -> Projects {
        Some(projects.iter().copied().collect())
    }

    /// Whether the request would have to wait.
    fn waits(locks: &SourceLocks, access: SourceAccess, projects: Projects) -> bool {
        let plugin = "other".into();
        let lock = locks.lock(&plugin, access, projects);
        pin!(lock).now_or_never().is_none()
    }

    #[tokio::test]
    async fn what_is_pinned_is_not_changed_and_the_other_way_round() {
        let locks = SourceLocks::default();
        let plugin: Arc<str> = "lab".into();
        let pinned = locks.lock(&plugin, Pin, of(&[1, 2])).await.unwrap();
        assert!(!waits(&locks, Pin, of(&[1])), "two can rely on a source");
        assert!(!waits(&locks, Change, of(&[3])), "of another project");
        for projects in [of(&[2]), of(&[1, 9]), None] {
            assert!(waits(&locks, Change, projects.clone()), "{projects:?}");
        }
        drop(pinned);
        let changing = locks.lock(&plugin, Change, of(&[1])).await.unwrap();
        assert!(!waits(&locks, Change, of(&[1])), "two can change a source");
        assert!(waits(&locks, Pin, of(&[1])));
        drop(changing);
        assert!(!waits(&locks, Pin, of(&[1])));
    }

    #[tokio::test]
    async fn those_that_conflict_go_in_the_order_in_which_they_came() {
        let locks = SourceLocks::default();
        let plugin: Arc<str> = "lab".into();
        let first = locks.lock(&plugin, Pin, of(&[1])).await.unwrap();
        let mut change = Box::pin(locks.lock(&plugin, Change, of(&[1])));
        assert!((&mut change).now_or_never().is_none());
        // It came after the change, which would otherwise starve while pins follow each other.
        let mut second = Box::pin(locks.lock(&plugin, Pin, of(&[1, 5])));
        assert!((&mut second).now_or_never().is_none());
        drop(first);
        let changing = change.await.unwrap();
        assert!((&mut second).now_or_never().is_none());
        drop(changing);
        drop(second.await.unwrap());
    }

    #[tokio::test]
    async fn a_call_that_stops_waiting_keeps_no_other_waiting() {
        let locks = SourceLocks::default();
        let plugin: Arc<str> = "lab".into();
        let pinned = locks.lock(&plugin, Pin, of(&[1])).await.unwrap();
        assert!(waits(&locks, Change, of(&[1])));
        assert!(!waits(&locks, Pin, of(&[1])));
        drop(pinned);
        let mut guards = Vec::new();
        for _ in 0..MAX_PER_PLUGIN {
            guards.push(locks.lock(&plugin, Change, of(&[1])).await.unwrap());
        }
        assert!(locks.lock(&plugin, Change, of(&[1])).await.is_err());
        assert!(!waits(&locks, Change, of(&[1])), "another plugin has room");
    }
}
