//! `log`: lines of an agent in the host's log, under the target `plugin`.
//!
//! Invariant: a plugin can neither fill the log nor write into it as somebody else: lines are cut,
//! counted by the second and stripped of control characters, and each carries the plugin's name and
//! the invocation.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use qchost_gate::Caller;

use crate::contract::qchost::agent::log::{Host, Level};
use crate::text;

/// The longest message, in bytes.
const MESSAGE: usize = 4096;
/// The longest name or value of a field, in bytes.
const FIELD: usize = 256;
/// The most fields of a line.
const FIELDS: usize = 16;
/// The most lines of an invocation in a second.
const LINES: u32 = 100;
/// How much of what a guest said last is kept for the error when it traps, in bytes.
const LAST_WORDS: usize = 300;

/// Where something was printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Stdout,
    Stderr,
}

/// The lines of one invocation.
#[derive(Debug)]
pub(crate) struct Lines {
    caller: Caller,
    window: Mutex<Window>,
}

/// How many lines there were in the running second.
#[derive(Debug)]
struct Window {
    began: Instant,
    written: u32,
    left_out: u64,
    last_words: String,
}

impl Lines {
    pub(crate) fn new(caller: Caller) -> Self {
        Self {
            caller,
            window: Mutex::new(Window {
                began: Instant::now(),
                written: 0,
                left_out: 0,
                last_words: String::new(),
            }),
        }
    }

    /// A line that was printed rather than logged.
    pub(crate) fn printed(&self, source: Source, line: &str) {
        if source == Source::Stderr && !line.trim().is_empty() {
            let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
            // A panic comes in several lines, of which the first say what happened.
            if window.last_words.len() < LAST_WORDS {
                let words = std::mem::take(&mut window.last_words);
                let separator = if words.is_empty() { "" } else { "; " };
                window.last_words =
                    text::line(&format!("{words}{separator}{}", line.trim()), LAST_WORDS);
            }
        }
        match source {
            Source::Stdout => self.line(Level::Info, line, "stdout"),
            Source::Stderr => self.line(Level::Warn, line, "stderr"),
        }
    }

    /// What the guest printed on standard error: a panic's message, more often than not.
    pub(crate) fn last_words(&self) -> String {
        let window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.last_words.clone()
    }

    fn line(&self, level: Level, message: &str, fields: &str) {
        if !self.admit() {
            return;
        }
        let (plugin, invocation) = (&*self.caller.plugin, &*self.caller.invocation);
        let message = text::line(message, MESSAGE);
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

    /// Whether one more line may be written in this second.
    fn admit(&self) -> bool {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.began.elapsed() >= Duration::from_secs(1) {
            self.report(std::mem::take(&mut window.left_out));
            window.began = Instant::now();
            window.written = 0;
        }
        if window.written >= LINES {
            window.left_out += 1;
            return false;
        }
        window.written += 1;
        true
    }

    fn report(&self, left_out: u64) {
        if left_out > 0 {
            let (plugin, invocation) = (&*self.caller.plugin, &*self.caller.invocation);
            tracing::warn!(target: "plugin", plugin, invocation, left_out, "more than {LINES} lines in a second; the rest were left out");
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let window = self
            .window
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let left_out = std::mem::take(&mut window.left_out);
        self.report(left_out);
    }
}

impl Host for Arc<Lines> {
    fn write(&mut self, level: Level, message: String, fields: Vec<(String, String)>) {
        let fields: Vec<_> = fields
            .iter()
            .take(FIELDS)
            .map(|(name, value)| {
                format!("{}={}", text::line(name, FIELD), text::line(value, FIELD))
            })
            .collect();
        self.line(level, &message, &fields.join(" "));
    }
}
