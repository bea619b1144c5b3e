//! Limits per user of the control socket: connections, requests in progress, and bytes.
//!
//! Invariants: no user can lock out others. Users who may not halt make requests one at a time and at intervals, since each
//! takes time of the thread that halts. An idle connection is closed to make room for the next one of the same user, so
//! half-open connections exhaust nothing. Requests that stop the host or ask for its status have a separate limit that no
//! other request uses up.

use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

use crate::requests::Class;

/// Maximum requests of a user that read or decide.
const MAX_OTHER: usize = 32;
/// Maximum requests of a user that read the audit: each may occupy a thread for as long as it reads.
const MAX_READS: usize = 8;
/// Minimum interval between requests of a user who may not halt.
const REQUEST_INTERVAL: Duration = Duration::from_millis(10);
/// Idle connections of a user that are kept when no file descriptor is left: fewer than are in the reserve.
const MAX_IDLE_KEPT: usize = 4;
/// Maximum bytes of a user's requests being received or in progress.
const MAX_USER_BYTES: u64 = 64 << 20;
/// Maximum bytes of all users' requests. Requests that stop the host are small and not counted, so there is always room for
/// them.
const MAX_BYTES: u64 = 256 << 20;

/// The limits of a host. Clones share the counts.
#[derive(Debug, Clone)]
pub(super) struct Limits(Arc<Inner>);

/// A count per class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct PerClass {
    control: usize,
    invocation: usize,
    read: usize,
    other: usize,
}

impl PerClass {
    fn of(&mut self, class: Class) -> &mut usize {
        match class {
            Class::Control => &mut self.control,
            Class::Invocation => &mut self.invocation,
            Class::Read => &mut self.read,
            Class::Other => &mut self.other,
        }
    }
}

#[derive(Debug)]
struct Inner {
    max_requests: PerClass,
    max_idle: usize,
    usage: Mutex<Usage>,
}

#[derive(Debug, Default)]
struct Usage {
    users: HashMap<u32, User>,
    bytes: u64,
    connections: u64,
}

/// The counts of a user.
#[derive(Debug, Default)]
struct User {
    /// Idle connections, oldest first.
    idle: VecDeque<(u64, CancellationToken)>,
    /// Held by the one connection that makes a request, for a user who may not halt.
    request_lock: Arc<tokio::sync::Mutex<()>>,
    requests: PerClass,
    bytes: u64,
}

impl User {
    fn is_idle(&self) -> bool {
        self.idle.is_empty() && self.requests == PerClass::default()
    }
}

/// A connection without a request yet.
#[derive(Debug)]
pub(super) struct IdleConnection {
    limits: Limits,
    uid: u32,
    number: u64,
    /// Cancelled when it has to make room for another connection.
    pub(super) evicted: CancellationToken,
    request_lock: Arc<tokio::sync::Mutex<()>>,
}

/// A request in progress.
#[derive(Debug)]
pub(super) struct RequestGuard {
    limits: Limits,
    uid: u32,
    class: Class,
    bytes: u64,
}

impl Limits {
    /// Limits derived from how many files this process may open.
    pub(super) fn new() -> Self {
        let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(files, _)| files);
        let files = usize::try_from(files).unwrap_or(usize::MAX);
        Self::with_files(files)
    }

    fn with_files(files: usize) -> Self {
        Self(Arc::new(Inner {
            max_requests: PerClass {
                // A halt is not refused because of other halts.
                control: (files / 16).clamp(64, 1024),
                invocation: (files / 8).clamp(32, 4096),
                read: MAX_READS,
                other: MAX_OTHER,
            },
            max_idle: (files / 16).clamp(16, 256),
            usage: Mutex::default(),
        }))
    }

    fn max_requests(&self, class: Class) -> usize {
        let mut max = self.0.max_requests;
        *max.of(class)
    }

    /// Adds a connection. The oldest idle one of the same user is closed for it if necessary.
    pub(super) fn connected(&self, uid: u32) -> IdleConnection {
        let mut usage = self.0.usage.lock();
        usage.connections = usage.connections.wrapping_add(1);
        let number = usage.connections;
        let evicted = CancellationToken::new();
        let user = usage.users.entry(uid).or_default();
        if user.idle.len() >= self.0.max_idle
            && let Some((_, oldest)) = user.idle.pop_front()
        {
            oldest.cancel();
        }
        user.idle.push_back((number, evicted.clone()));
        IdleConnection {
            limits: self.clone(),
            uid,
            number,
            evicted,
            request_lock: Arc::clone(&user.request_lock),
        }
    }

    /// Closes the oldest idle connection of the user who has most of them; `false` if that user has only a few, which may be
    /// about to make requests. For a process without a free file descriptor.
    pub(super) fn evict(&self) -> bool {
        let mut usage = self.0.usage.lock();
        let user = usage.users.values_mut().max_by_key(|user| user.idle.len());
        let user = user.filter(|user| user.idle.len() > MAX_IDLE_KEPT);
        match user.and_then(|user| user.idle.pop_front()) {
            Some((_, oldest)) => {
                oldest.cancel();
                true
            }
            None => false,
        }
    }
}

impl IdleConnection {
    /// Waits until it may make its request, if its user may not halt; `None` if it had to make room meanwhile. While the
    /// guard is held, no other connection of the user makes a request.
    pub(super) async fn wait(&self) -> Option<OwnedMutexGuard<()>> {
        let waited = async {
            let guard = Arc::clone(&self.request_lock).lock_owned().await;
            tokio::time::sleep(REQUEST_INTERVAL).await;
            guard
        };
        tokio::select! {
            guard = waited => Some(guard),
            () = self.evicted.cancelled() => None,
        }
    }

    /// Admits a request of this class and of `bytes` bytes.
    ///
    /// # Errors
    /// Why it is refused, in words.
    pub(super) fn admit(&self, class: Class, bytes: u64) -> Result<RequestGuard, String> {
        let uid = self.uid;
        let max = self.limits.max_requests(class);
        let mut usage = self.limits.0.usage.lock();
        let Usage {
            users, bytes: all, ..
        } = &mut *usage;
        let user = users.entry(uid).or_default();
        let in_progress = user.requests.of(class);
        if *in_progress >= max {
            return Err(format!(
                "uid {uid} has {max} requests of this kind at work, and may have no more; wait until one ends, or end its command"
            ));
        }
        // A request that stops the host is never refused for lack of room.
        let counted = if class == Class::Control { 0 } else { bytes };
        if user.bytes.saturating_add(counted) > MAX_USER_BYTES {
            return Err(format!(
                "the requests of uid {uid} that are at work have {} bytes together with this one, and at most {MAX_USER_BYTES} may be \
                 at work; wait until one ends",
                user.bytes.saturating_add(counted)
            ));
        }
        if all.saturating_add(counted) > MAX_BYTES {
            return Err(
                "the host has no room for a request of this size now; try again in a moment"
                    .to_owned(),
            );
        }
        *in_progress += 1;
        user.bytes += counted;
        *all += counted;
        user.idle.retain(|(number, _)| *number != self.number);
        Ok(RequestGuard {
            limits: self.limits.clone(),
            uid,
            class,
            bytes: counted,
        })
    }
}

impl Drop for IdleConnection {
    fn drop(&mut self) {
        let mut usage = self.limits.0.usage.lock();
        if let Some(user) = usage.users.get_mut(&self.uid) {
            user.idle.retain(|(number, _)| *number != self.number);
            if user.is_idle() {
                usage.users.remove(&self.uid);
            }
        }
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let mut usage = self.limits.0.usage.lock();
        usage.bytes = usage.bytes.saturating_sub(self.bytes);
        if let Some(user) = usage.users.get_mut(&self.uid) {
            user.bytes = user.bytes.saturating_sub(self.bytes);
            let in_progress = user.requests.of(self.class);
            *in_progress = in_progress.saturating_sub(1);
            if user.is_idle() {
                usage.users.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_does_not_ask_makes_room_for_the_next_of_the_same_user_and_for_no_other() {
        let limits = Limits::with_files(256);
        let first = limits.connected(1);
        let others: Vec<_> = (0..15).map(|_| limits.connected(1)).collect();
        let other = limits.connected(2);
        assert!(!first.evicted.is_cancelled());
        let next = limits.connected(1);
        assert!(first.evicted.is_cancelled() && !other.evicted.is_cancelled());
        // A connection that made a request is no longer idle.
        let request = others[0].admit(Class::Other, 10).unwrap();
        let one_more = limits.connected(1);
        assert!(others.iter().all(|it| !it.evicted.is_cancelled()));
        // Without descriptors the user with the most idle connections makes room.
        assert!(limits.evict());
        assert!(others[1].evicted.is_cancelled() && !other.evicted.is_cancelled());
        drop((first, others, other, next, one_more, request));
        assert!(!limits.evict());
        assert!(limits.0.usage.lock().users.is_empty());
    }

    #[test]
    fn each_user_has_a_limit_of_requests_and_bytes_in_progress_and_a_halt_is_none_of_them() {
        let limits = Limits::with_files(256);
        let idle = limits.connected(1);
        let mut requests = Vec::new();
        for class in [Class::Invocation, Class::Read, Class::Other] {
            let max = limits.max_requests(class);
            requests.extend((0..max).map(|_| idle.admit(class, 0).unwrap()));
            let why = idle.admit(class, 0).unwrap_err();
            assert!(why.contains(&format!("uid 1 has {max} requests")), "{why}");
        }
        drop(idle.admit(Class::Control, 0).unwrap());
        drop(limits.connected(2).admit(Class::Read, 0).unwrap());
        drop(requests);
        let large = idle.admit(Class::Invocation, MAX_USER_BYTES).unwrap();
        assert!(idle.admit(Class::Invocation, 1).is_err());
        drop(idle.admit(Class::Control, 1 << 10).unwrap());
        // The host as a whole has a limit too, and the rest is left to requests that stop it.
        let users: Vec<_> = (2..=4)
            .map(|uid| {
                let idle = limits.connected(uid);
                idle.admit(Class::Invocation, MAX_USER_BYTES).unwrap()
            })
            .collect();
        let last = limits.connected(5);
        assert!(last.admit(Class::Other, 1).is_err());
        drop(last.admit(Class::Control, 1 << 10).unwrap());
        drop((large, users, last, idle));
        assert_eq!(limits.0.usage.lock().bytes, 0);
        assert!(limits.0.usage.lock().users.is_empty());
    }
}
