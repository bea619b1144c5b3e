//! Detects the end of a burst of events.
//!
//! Invariant: a burst ends at most 100 ms after its first event, so that a removed manifest does
//! not wait for a file that is written continuously.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Required pause after a change that is complete by itself.
const SETTLED: Duration = Duration::from_millis(10);
/// Maximum duration of a burst, within which a file written in place should be closed.
const LONGEST: Duration = Duration::from_millis(100);

/// What an event says about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It is being written.
    Writing,
    /// It was created, renamed, removed, or closed after writing.
    Done,
}

/// The current burst of events, if any.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    first: Option<Instant>,
    due: Option<Instant>,
    writing: HashSet<PathBuf>,
}

impl Quiet {
    /// Handles an event.
    pub(super) fn step(&mut self, step: Step, path: &Path, now: Instant) {
        match step {
            Step::Writing => drop(self.writing.insert(path.to_owned())),
            Step::Done => drop(self.writing.remove(path)),
        }
        let first = *self.first.get_or_insert(now);
        let wait = if self.writing.is_empty() {
            SETTLED
        } else {
            LONGEST
        };
        self.due = Some((now + wait).min(first + LONGEST));
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
        let mut quiet = Quiet::default();
        assert_eq!(quiet.due(), None);

        quiet.step(Step::Done, file, start);
        assert_eq!(quiet.due(), Some(after(10, start)));
        quiet.end();
        assert_eq!(quiet.due(), None);

        quiet.step(Step::Writing, file, start);
        quiet.step(Step::Writing, file, after(30, start));
        assert_eq!(quiet.due(), Some(after(100, start)));
        quiet.step(Step::Done, file, after(40, start));
        assert_eq!(quiet.due(), Some(after(50, start)));
    }

    #[test]
    fn no_writer_holds_back_the_others_for_longer_than_a_burst() {
        let start = Instant::now();
        let mut quiet = Quiet::default();
        for at in (0..95).step_by(5) {
            quiet.step(Step::Writing, Path::new("/log"), after(at, start));
            quiet.step(Step::Done, Path::new("/gone.toml"), after(at, start));
        }
        assert_eq!(quiet.due(), Some(after(100, start)));
    }
}
