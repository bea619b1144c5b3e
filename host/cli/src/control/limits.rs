//! What each user of the control socket may hold of the host at a time: connections, requests at work, and bytes.
//!
//! Invariants: what one user holds or asks keeps no other user out. Those who may not halt ask one by one and at intervals,
//! since what they ask takes time of the thread that halts. A connection that has not asked for anything is closed to make
//! room for the next one of the same user, so half-open connections exhaust nothing. What stops the host, or says how it
//! is, has places of its own that no other request takes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

/// Requests of a user that look or decide.
const MAX_OTHER: usize = 32;
/// Requests of a user that read the audit: each may hold a thread for as long as it is read.
const MAX_READS: usize = 8;
/// How far apart the requests are of a user who may not halt.
const PACE: Duration = Duration::from_millis(10);
/// Connections of a user that have not asked yet and stay when no file descriptor is left: fewer than are in the reserve.
const KEPT_SILENT: usize = 4;
/// Bytes of requests that are being received or are at work, by a user.
const MAX_USER_BYTES: u64 = 64 << 20;
/// And by all users. What stops the host is small and not counted, so there is always room for it.
const MAX_BYTES: u64 = 256 << 20;

/// What requests are counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Halts, resumes, and says how the host is.
    Control,
    /// Invokes and calls.
    Invocation,
    /// Reads the audit.
    Read,
    /// Everything else.
    Other,
}

/// The limits of a host. Clones share the counts.
#[derive(Debug, Clone)]
pub(super) struct Limits(Arc<Inner>);

/// A number for each class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct ByClass {
    control: usize,
    invocation: usize,
    read: usize,
    other: usize,
}

impl ByClass {
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
    most: ByClass,
    most_silent: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    users: HashMap<u32, User>,
    bytes: u64,
    connections: u64,
}

/// What a user holds.
#[derive(Debug, Default)]
struct User {
    /// Connections that have not asked yet, oldest first.
    silent: VecDeque<(u64, CancellationToken)>,
    /// Held by the one connection that asks, of a user who may not halt.
    asking: Arc<tokio::sync::Mutex<()>>,
    requests: ByClass,
    bytes: u64,
}

impl User {
    fn is_idle(&self) -> bool {
        self.silent.is_empty() && self.requests == ByClass::default()
    }
}

/// A connection that has not asked yet.
#[derive(Debug)]
pub(super) struct Silent {
    limits: Limits,
    uid: u32,
    number: u64,
    /// Told when its place goes to another connection.
    pub(super) evicted: CancellationToken,
    asking: Arc<tokio::sync::Mutex<()>>,
}

/// A request that is at work.
#[derive(Debug)]
pub(super) struct AtWork {
    limits: Limits,
    uid: u32,
    class: Class,
    bytes: u64,
}

impl Limits {
    /// Limits for this process: by how many files it may open.
    pub(super) fn new() -> Self {
        let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(files, _)| files);
        let files = usize::try_from(files).unwrap_or(usize::MAX);
        Self::with_files(files)
    }

    fn with_files(files: usize) -> Self {
        Self(Arc::new(Inner {
            most: ByClass {
                // A halt is not refused for the sake of other halts.
                control: (files / 16).clamp(64, 1024),
                invocation: (files / 8).clamp(32, 4096),
                read: MAX_READS,
                other: MAX_OTHER,
            },
            most_silent: (files / 16).clamp(16, 256),
            held: Mutex::default(),
        }))
    }

    fn most(&self, class: Class) -> usize {
        let mut most = self.0.most;
        *most.of(class)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection in. The oldest one of the same user that has not asked yet makes room for it.
    pub(super) fn connected(&self, uid: u32) -> Silent {
        let mut held = self.held();
        held.connections = held.connections.wrapping_add(1);
        let number = held.connections;
        let evicted = CancellationToken::new();
        let user = held.users.entry(uid).or_default();
        if user.silent.len() >= self.0.most_silent
            && let Some((_, oldest)) = user.silent.pop_front()
        {
            oldest.cancel();
        }
        user.silent.push_back((number, evicted.clone()));
        Silent {
            limits: self.clone(),
            uid,
            number,
            evicted,
            asking: Arc::clone(&user.asking),
        }
    }

    /// Closes the oldest connection of the user who has most of those that have not asked; false if that user has but a few,
    /// which may be about to ask. For a process without a file descriptor left.
    pub(super) fn evict(&self) -> bool {
        let mut held = self.held();
        let most = held.users.values_mut().max_by_key(|user| user.silent.len());
        let most = most.filter(|user| user.silent.len() > KEPT_SILENT);
        match most.and_then(|user| user.silent.pop_front()) {
            Some((_, oldest)) => {
                oldest.cancel();
                true
            }
            None => false,
        }
    }
}

impl Silent {
    /// Waits until it may ask, where its user may not halt; nothing if it had to make room meanwhile. No other connection of
    /// the user asks while the guard is held.
    pub(super) async fn wait(&self) -> Option<OwnedMutexGuard<()>> {
        let waited = async {
            let guard = Arc::clone(&self.asking).lock_owned().await;
            tokio::time::sleep(PACE).await;
            guard
        };
        tokio::select! {
            guard = waited => Some(guard),
            () = self.evicted.cancelled() => None,
        }
    }

    /// It asks for something of this class, with so many bytes.
    ///
    /// # Errors
    /// Why it has to wait, in words.
    pub(super) fn asks(&self, class: Class, bytes: u64) -> Result<AtWork, String> {
        let uid = self.uid;
        let most = self.limits.most(class);
        let mut held = self.limits.held();
        let Held {
            users, bytes: all, ..
        } = &mut *held;
        let user = users.entry(uid).or_default();
        let at_work = user.requests.of(class);
        if *at_work >= most {
            return Err(format!(
                "uid {uid} has {most} requests of this kind at work, and may have no more; wait until one ends, or end its command"
            ));
        }
        // What stops the host is never refused for want of room.
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
        *at_work += 1;
        user.bytes += counted;
        *all += counted;
        user.silent.retain(|(number, _)| *number != self.number);
        Ok(AtWork {
            limits: self.limits.clone(),
            uid,
            class,
            bytes: counted,
        })
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let mut held = self.limits.held();
        if let Some(user) = held.users.get_mut(&self.uid) {
            user.silent.retain(|(number, _)| *number != self.number);
            if user.is_idle() {
                held.users.remove(&self.uid);
            }
        }
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let mut held = self.limits.held();
        held.bytes = held.bytes.saturating_sub(self.bytes);
        if let Some(user) = held.users.get_mut(&self.uid) {
            user.bytes = user.bytes.saturating_sub(self.bytes);
            let at_work = user.requests.of(self.class);
            *at_work = at_work.saturating_sub(1);
            if user.is_idle() {
                held.users.remove(&self.uid);
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
        // One that asked is not in the way any more.
        let asked = others[0].asks(Class::Other, 10).unwrap();
        let one_more = limits.connected(1);
        assert!(others.iter().all(|it| !it.evicted.is_cancelled()));
        // Without descriptors the user who has most of them makes room.
        assert!(limits.evict());
        assert!(others[1].evicted.is_cancelled() && !other.evicted.is_cancelled());
        drop((first, others, other, next, one_more, asked));
        assert!(!limits.evict());
        assert!(limits.held().users.is_empty());
    }

    #[test]
    fn each_user_has_so_many_requests_and_bytes_at_work_and_a_halt_is_none_of_them() {
        let limits = Limits::with_files(256);
        let silent = limits.connected(1);
        let mut at_work = Vec::new();
        for class in [Class::Invocation, Class::Read, Class::Other] {
            let most = limits.most(class);
            at_work.extend((0..most).map(|_| silent.asks(class, 0).unwrap()));
            let why = silent.asks(class, 0).unwrap_err();
            assert!(why.contains(&format!("uid 1 has {most} requests")), "{why}");
        }
        drop(silent.asks(Class::Control, 0).unwrap());
        drop(limits.connected(2).asks(Class::Read, 0).unwrap());
        drop(at_work);
        let large = silent.asks(Class::Invocation, MAX_USER_BYTES).unwrap();
        assert!(silent.asks(Class::Invocation, 1).is_err());
        drop(silent.asks(Class::Control, 1 << 10).unwrap());
        // The host as a whole has a limit too, whose rest is left to what stops it.
        let users: Vec<_> = (2..=4)
            .map(|uid| {
                let silent = limits.connected(uid);
                silent.asks(Class::Invocation, MAX_USER_BYTES).unwrap()
            })
            .collect();
        let last = limits.connected(5);
        assert!(last.asks(Class::Other, 1).is_err());
        drop(last.asks(Class::Control, 1 << 10).unwrap());
        drop((large, users, last, silent));
        assert_eq!(limits.held().bytes, 0);
        assert!(limits.held().users.is_empty());
    }
}
