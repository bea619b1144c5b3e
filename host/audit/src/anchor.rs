//! Anchors: signed heads stored where an attacker with write access to the audit's folder may not
//! reach.
//!
//! An anchor never delays the audit: a separate thread writes the latest head from time to time,
//! and a failing anchor is logged once until it works again.

use parking_lot::{Condvar, Mutex};
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Where heads are written besides the head's own file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Anchor {
    /// A file to which a line is appended, best on another machine's disk.
    File(PathBuf),
    /// The system's log, by `/dev/log`.
    Syslog,
}

const SYSLOG: &str = "/dev/log";
/// Facility `authpriv`, severity `notice` (RFC 3164 §4.1.1).
const PRIORITY: u8 = 10 * 8 + 5;
/// Minimum interval between heads.
const ANCHOR_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct PendingHead {
    head: Option<String>,
    closed: bool,
}

/// The thread that writes heads to an anchor. Dropping it writes the latest head and waits for it.
#[derive(Debug)]
pub(crate) struct Anchoring {
    pending: Arc<(Mutex<PendingHead>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Anchoring {
    pub fn start(anchor: Anchor) -> io::Result<Self> {
        let pending = Arc::<(Mutex<PendingHead>, Condvar)>::default();
        let of_thread = Arc::clone(&pending);
        let thread = std::thread::Builder::new()
            .name("qchost-anchor".to_owned())
            .spawn(move || run(&anchor, &of_thread))?;
        Ok(Self {
            pending,
            thread: Some(thread),
        })
    }

    /// Schedules a head to be written soon, unless a newer one arrives.
    pub fn offer(&self, head: &str) {
        let (pending, changed) = &*self.pending;
        pending.lock().head = Some(head.to_owned());
        changed.notify_one();
    }
}

impl Drop for Anchoring {
    fn drop(&mut self) {
        let (pending, changed) = &*self.pending;
        pending.lock().closed = true;
        changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(anchor: &Anchor, pending: &(Mutex<PendingHead>, Condvar)) {
    let (pending, changed) = pending;
    let mut working = true;
    let mut next = Instant::now();
    let mut state = pending.lock();
    loop {
        let wait = match (&state.head, state.closed) {
            (None, true) => return,
            (None, false) => ANCHOR_INTERVAL,
            (Some(_), true) => Duration::ZERO,
            (Some(_), false) => next.saturating_duration_since(Instant::now()),
        };
        if state.head.is_none() || !wait.is_zero() {
            changed.wait_for(&mut state, wait);
            continue;
        }
        let Some(head) = state.head.take() else {
            continue;
        };
        drop(state);
        next = Instant::now() + ANCHOR_INTERVAL;
        match anchor.write(&head) {
            Ok(()) => working = true,
            Err(error) if working => {
                working = false;
                tracing::error!(%error, ?anchor, "could not anchor the audit's head");
            }
            Err(_) => {}
        }
        state = pending.lock();
    }
}

impl Anchor {
    fn write(&self, head: &str) -> io::Result<()> {
        match self {
            Self::File(path) => {
                let mut file = OpenOptions::new()
                    .append(true)
                    .create(true)
                    .mode(0o600)
                    .open(path)?;
                file.write_all(format!("{head}\n").as_bytes())?;
                file.sync_data()
            }
            Self::Syslog => log(Path::new(SYSLOG), head),
        }
    }
}

/// Sends one datagram to the system's log, which adds the time.
fn log(socket: &Path, head: &str) -> io::Result<()> {
    let sender = UnixDatagram::unbound()?;
    sender.set_write_timeout(Some(Duration::from_secs(1)))?;
    let message = format!(
        "<{PRIORITY}>qchost[{}]: audit head {head}",
        std::process::id()
    );
    sender.send_to(message.as_bytes(), socket)?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_log_gets_a_message_with_priority_and_tag() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let socket = UnixDatagram::bind(&path).unwrap();
        log(&path, "qchost-head-1:3").unwrap();
        let mut bytes = [0; 200];
        let read = socket.recv(&mut bytes).unwrap();
        let message = String::from_utf8_lossy(bytes.get(..read).unwrap()).into_owned();
        assert!(message.starts_with("<85>qchost["), "{message}");
        assert!(
            message.ends_with("]: audit head qchost-head-1:3"),
            "{message}"
        );
        drop(socket);
        assert!(log(&path, "x").is_err());
    }

    #[test]
    fn a_file_gets_the_newest_head_when_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("anchor");
        let anchoring = Anchoring::start(Anchor::File(path.clone())).unwrap();
        for head in ["first", "second", "third"] {
            anchoring.offer(head);
        }
        drop(anchoring);
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().last(), Some("third"));
    }
}
