//! `log`: lines of an agent in the host's log, under the target `plugin`.
//!
//! Lines are counted for the plugin, over all its invocations: a plugin that runs sixteen times at a
//! time writes no more than one that runs once. A long line counts as several. What is left out is
//! said, and said seldom enough that saying it is no flood either.
//!
//! Invariant: a plugin can neither fill the log nor write into it as somebody else: lines are cut,
//! counted by the second and stripped of control characters, and each carries the plugin's name and
//! the invocation.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::calls::Calls;
use crate::contract::qchost::agent::log::{Host, Level};
use crate::text;

/// The longest message, in bytes.
const MESSAGE: usize = 4096;
/// The longest name or value of a field, in bytes.
const FIELD: usize = 256;
/// The most fields of a line.
const FIELDS: usize = 16;
/// Bytes that count as one line.
const LINE: usize = 1024;
/// The most lines of a plugin in a second, and at once.
const RATE: u32 = 100;
/// The most lines of an invocation.
const LINES: u32 = 10_000;
/// The time in which one line may be written.
const INTERVAL: Duration = Duration::from_millis(1000 / RATE as u64);
/// How often it is said that lines were left out.
const NOTICE: Duration = Duration::from_secs(1);
/// How much of what a guest said last is kept for the error when it traps, in bytes.
const LAST_WORDS: usize = 300;

/// How fast a plugin writes.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<Flow>);

#[derive(Debug, Default)]
struct Flow {
    /// When what was written by now would be due, were it written evenly.
    due: Option<Instant>,
    left_out: u64,
    /// When it was last said that lines were left out.
    said: Option<Instant>,
}

impl Flow {
    /// Whether so many lines may be written now.
    fn admits(&mut self, lines: u32, now: Instant) -> bool {
        let due = self.due.map_or(now, |due| due.max(now));
        if due.duration_since(now) + INTERVAL * lines > INTERVAL * RATE {
            self.left_out += 1;
            return false;
        }
        self.due = Some(due + INTERVAL * lines);
        true
    }

    /// How many lines were left out, if it is time to say so.
    fn notice(&mut self, now: Instant) -> Option<u64> {
        let lately = |said: Instant| now.duration_since(said) < NOTICE;
        if self.left_out == 0 || self.said.is_some_and(lately) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

/// Where something was printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Stdout,
    Stderr,
}

/// The lines of one invocation.
#[derive(Debug)]
pub(crate) struct Lines {
    calls: Calls,
    /// Whether it ever wrote: if not, its end is of no interest to the pace, which other threads use.
    wrote: AtomicBool,
    written: AtomicU32,
    last_words: Mutex<String>,
}

impl Lines {
    pub(crate) fn new(calls: Calls) -> Self {
        Self {
            calls,
            wrote: AtomicBool::new(false),
            written: AtomicU32::new(0),
            last_words: Mutex::default(),
        }
    }

    /// A line that was printed rather than logged.
    pub(crate) fn printed(&self, source: Source, line: &str) {
        if source == Source::Stderr && !line.trim().is_empty() {
            let mut last_words = self
                .last_words
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            // A panic comes in several lines, of which the first say what happened.
            if last_words.len() < LAST_WORDS {
                let separator = if last_words.is_empty() { "" } else { "; " };
                let words = format!("{last_words}{separator}{}", line.trim());
                *last_words = text::line(&words, LAST_WORDS);
            }
        }
        match source {
            Source::Stdout => self.line(Level::Info, line, 0, || "stdout".to_owned()),
            Source::Stderr => self.line(Level::Warn, line, 0, || "stderr".to_owned()),
        }
    }

    /// What the guest printed on standard error: a panic's message, more often than not.
    pub(crate) fn last_words(&self) -> String {
        self.last_words
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Writes a line with fields of so many bytes, unless it is one too many.
    fn line(&self, level: Level, message: &str, extra: usize, fields: impl FnOnce() -> String) {
        let bytes = message.len().min(MESSAGE).saturating_add(extra);
        if !self.admit(1 + u32::try_from(bytes / LINE).unwrap_or(RATE)) {
            return;
        }
        let caller = self.calls.caller();
        let (plugin, invocation) = (&*caller.plugin, &*caller.invocation);
        let (message, fields) = (text::line(message, MESSAGE), fields());
        match level {
            Level::Trace => {
                tracing::trace!(target: "plugin", plugin, invocation, fields, "{message}");
            }
            Level::Debug => {
                tracing::debug!(target: "plugin", plugin, invocation, fields, "{message}");
            }
            Level::Info => {
                tracing::info!(target: "plugin", plugin, invocation, fields, "{message}");
            }
            Level::Warn => {
                tracing::warn!(target: "plugin", plugin, invocation, fields, "{message}");
            }
            Level::Error => {
                tracing::error!(target: "plugin", plugin, invocation, fields, "{message}");
            }
        }
    }

    /// Whether so many more lines may be written.
    fn admit(&self, lines: u32) -> bool {
        self.wrote.store(true, Ordering::Relaxed);
        let written = self.written.load(Ordering::Relaxed);
        if written >= LINES {
            return false;
        }
        let (admitted, notice) = {
            let now = Instant::now();
            let mut flow = self.flow();
            (flow.admits(lines, now), flow.notice(now))
        };
        self.report(notice);
        if admitted && self.written.fetch_add(lines, Ordering::Relaxed) + lines >= LINES {
            let caller = self.calls.caller();
            let (plugin, invocation) = (&*caller.plugin, &*caller.invocation);
            tracing::warn!(target: "plugin", plugin, invocation, "{LINES} lines of one invocation; the rest of it are left out");
        }
        admitted
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        let pace = &self.calls.surroundings().pace;
        pace.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, left_out: Option<u64>) {
        if let Some(left_out) = left_out {
            let plugin = &*self.calls.caller().plugin;
            tracing::warn!(target: "plugin", plugin, left_out, "more than {RATE} lines in a second; the rest are left out");
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !*self.wrote.get_mut() {
            return;
        }
        let notice = {
            let mut flow = self.flow();
            match flow.left_out {
                0 => None,
                _ => flow.notice(Instant::now()),
            }
        };
        self.report(notice);
    }
}

impl Host for Arc<Lines> {
    fn write(&mut self, level: Level, message: String, fields: Vec<(String, String)>) {
        let fields = fields.get(..FIELDS).unwrap_or(&fields);
        let bytes = |text: &String| text.len().min(FIELD);
        let extra = fields
            .iter()
            .map(|(name, value)| bytes(name) + bytes(value));
        self.line(level, &message, extra.sum(), || {
            let fields: Vec<_> = fields
                .iter()
                .map(|(name, value)| {
                    format!("{}={}", text::line(name, FIELD), text::line(value, FIELD))
                })
                .collect();
            fields.join(" ")
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_writes_a_hundred_lines_at_once_and_then_one_every_ten_milliseconds() {
        let (mut flow, begun) = (Flow::default(), Instant::now());
        let written = (0..1000).filter(|_| flow.admits(1, begun)).count();
        assert_eq!(written, 100);
        assert_eq!(flow.notice(begun), Some(900));
        let mut written = 0;
        for millisecond in 1..=5000 {
            let now = begun + Duration::from_millis(millisecond);
            written += (0..7).filter(|_| flow.admits(1, now)).count();
        }
        assert_eq!(written, 500);
    }

    #[test]
    fn a_pause_fills_it_up_again_and_no_further() {
        let (mut flow, begun) = (Flow::default(), Instant::now());
        while flow.admits(1, begun) {}
        let later = begun + Duration::from_secs(3600);
        let written = (0..1000).filter(|_| flow.admits(1, later)).count();
        assert_eq!(written, 100);
    }

    #[test]
    fn long_lines_count_as_several() {
        let (mut flow, begun) = (Flow::default(), Instant::now());
        let written = (0..1000).filter(|_| flow.admits(5, begun)).count();
        assert_eq!(written, 20);
    }

    #[test]
    fn an_invocation_writes_so_many_lines_and_no_more() {
        let calls = Calls::describing_of_test();
        let lines = Lines::new(calls.clone());
        lines.written.store(LINES - 2, Ordering::Relaxed);
        assert_eq!([(); 4].map(|()| lines.admit(1)), [true, true, false, false]);
        let next = Lines::new(calls);
        assert!(next.admit(1));
    }

    #[test]
    fn what_is_left_out_is_said_once_a_second() {
        let (mut flow, begun) = (Flow::default(), Instant::now());
        assert_eq!(flow.notice(begun), None);
        let mut notices = Vec::new();
        for millisecond in 0..3500 {
            let now = begun + Duration::from_millis(millisecond);
            flow.admits(RATE, now);
            notices.extend(flow.notice(now));
        }
        assert_eq!(notices.len(), 4);
        assert!(notices.iter().sum::<u64>() > 2900, "{notices:?}");
    }
}
