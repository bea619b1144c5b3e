//! Detects the end of a burst of events.
//!
//! Invariant: a burst ends at most 100 ms after its first event, so that a removed manifest does
//! not wait for a file that is written continuously.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Required pause after a change that is complete by itself.
const QUIET_INTERVAL: Duration = Duration::from_millis(10);
/// Maximum duration of a burst, within which a file written in place should be closed.
const MAX_BURST: Duration = Duration::from_millis(100);

/// What an event says about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It is being written.
    Writing,
    /// It was created, renamed, removed, or closed after writing.
    Complete,
}

/// The current burst of events, if any.
#[derive(Debug, Default)]
pub(super) struct Burst {
    first: Option<Instant>,
    due: Option<Instant>,
    writing: HashSet<PathBuf>,
}

impl Burst {
    /// Handles an event.
    pub(super) fn add(&mut self, change: Change, path: &Path, now: Instant) {
        match change {
            Change::Writing => drop(self.writing.insert(path.to_owned())),
            Change::Complete => drop(self.writing.remove(path)),
        }
        let first = *self.first.get_or_insert(now);
        let wait = if self.writing.is_empty() {
            QUIET_INTERVAL
        } else {
            MAX_BURST
        };
        self.due = Some((now + wait).min(first + MAX_BURST));
    }

    /// When the burst ends, unless there are further events.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Ends the burst.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(milliseconds: u64, start: Instant) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_rename_is_waited_for_shortly_and_a_write_until_it_is_closed() {
        let start = Instant::now();
        let file = Path::new("/plugins/a.wasm");
        let mut burst = Burst::default();
        assert_eq!(burst.due(), None);

        burst.add(Change::Complete, file, start);
        assert_eq!(burst.due(), Some(after(10, start)));
        burst.end();
        assert_eq!(burst.due(), None);

        burst.add(Change::Writing, file, start);
        burst.add(Change::Writing, file, after(30, start));
        assert_eq!(burst.due(), Some(after(100, start)));
        burst.add(Change::Complete, file, after(40, start));
        assert_eq!(burst.due(), Some(after(50, start)));
    }

    #[test]
    fn no_writer_holds_back_the_others_for_longer_than_a_burst() {
        let start = Instant::now();
        let mut burst = Burst::default();
        for at in (0..95).step_by(5) {
            burst.add(Change::Writing, Path::new("/log"), after(at, start));
            burst.add(Change::Complete, Path::new("/gone.toml"), after(at, start));
        }
        assert_eq!(burst.due(), Some(after(100, start)));
    }
}
