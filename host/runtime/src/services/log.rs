//! `log`: an agent's lines in the host's log, under the target `plugin`.
//!
//! Lines are counted for the plugin, over all its invocations, together with those that the host writes about
//! its refusals ([`LogLimiter`](qchost_traffic::LogLimiter)). A long line counts as several.
//!
//! Invariant: a plugin can neither flood the log nor impersonate others in it: lines are truncated,
//! rate-limited and stripped of control characters, and each carries the plugin's name and the invocation.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use qchost_traffic::MAX_LOG_LINES;

use crate::calls::CallContext;
use crate::contract::qchost::agent::log::{Host, Level};
use crate::text;

/// Maximum bytes of a message.
const MAX_MESSAGE: usize = 4096;
/// Maximum bytes of a field's name or value.
const MAX_FIELD: usize = 256;
/// Maximum fields of a line.
const MAX_FIELDS: usize = 16;
/// Bytes that count as one line.
const LINE_BYTES: usize = 1024;
/// Maximum lines of an invocation.
const MAX_LINES: u32 = 10_000;
/// Bytes of a guest's last output that are kept for the error when it traps.
const MAX_LAST_OUTPUT: usize = 300;

/// The origin of printed text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Stdout,
    Stderr,
}

/// The lines of one invocation.
#[derive(Debug)]
pub(crate) struct Lines {
    calls: CallContext,
    /// Whether it ever logged: otherwise its end need not touch the rate limit, which other threads use.
    wrote: AtomicBool,
    written: AtomicU32,
    last_output: Mutex<String>,
}

impl Lines {
    pub(crate) fn new(calls: CallContext) -> Self {
        Self {
            calls,
            wrote: AtomicBool::new(false),
            written: AtomicU32::new(0),
            last_output: Mutex::default(),
        }
    }

    /// A line that was printed rather than logged.
    pub(crate) fn log_output(&self, source: Source, line: &str) {
        if source == Source::Stderr && !line.trim().is_empty() {
            let mut last_output = self.last_output.lock();
            // A panic takes several lines, and the first ones are the most informative.
            if last_output.len() < MAX_LAST_OUTPUT {
                let separator = if last_output.is_empty() { "" } else { "; " };
                let words = format!("{last_output}{separator}{}", line.trim());
                *last_output = text::line(&words, MAX_LAST_OUTPUT);
            }
        }
        match source {
            Source::Stdout => self.line(Level::Info, line, 0, || "stdout".to_owned()),
            Source::Stderr => self.line(Level::Warn, line, 0, || "stderr".to_owned()),
        }
    }

    /// The guest's output on standard error: usually a panic's message.
    pub(crate) fn last_output(&self) -> String {
        self.last_output.lock().clone()
    }

    /// Writes a line whose fields have `extra` bytes, unless a limit is reached.
    fn line(&self, level: Level, message: &str, extra: usize, fields: impl FnOnce() -> String) {
        let bytes = message.len().min(MAX_MESSAGE).saturating_add(extra);
        if !self.admit(1 + u32::try_from(bytes / LINE_BYTES).unwrap_or(MAX_LOG_LINES)) {
            return;
        }
        let caller = self.calls.principal();
        let (plugin, invocation) = (&*caller.plugin, &*caller.invocation);
        let (message, fields) = (text::line(message, MAX_MESSAGE), fields());
        macro_rules! log {
            ($level:ident) => {
                tracing::$level!(target: "plugin", plugin, invocation, fields, "{message}")
            };
        }
        match level {
            Level::Trace => log!(trace),
            Level::Debug => log!(debug),
            Level::Info => log!(info),
            Level::Warn => log!(warn),
            Level::Error => log!(error),
        }
    }

    /// Whether `lines` more lines may be written.
    fn admit(&self, lines: u32) -> bool {
        self.wrote.store(true, Ordering::Relaxed);
        let written = self.written.load(Ordering::Relaxed);
        if written >= MAX_LINES {
            return false;
        }
        let version_context = self.calls.version_context();
        let admitted = version_context
            .log_limiter
            .admits(&version_context.plugin, lines);
        if admitted && self.written.fetch_add(lines, Ordering::Relaxed) + lines >= MAX_LINES {
            let caller = self.calls.principal();
            let (plugin, invocation) = (&*caller.plugin, &*caller.invocation);
            tracing::warn!(target: "plugin", plugin, invocation, "{MAX_LINES} lines of one invocation; the rest of it are left out");
        }
        admitted
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !*self.wrote.get_mut() {
            return;
        }
        let version_context = self.calls.version_context();
        version_context
            .log_limiter
            .report_omitted(&version_context.plugin);
    }
}

impl Host for Arc<Lines> {
    fn write(&mut self, level: Level, message: String, fields: Vec<(String, String)>) {
        let fields = fields.get(..MAX_FIELDS).unwrap_or(&fields);
        let bytes = |text: &String| text.len().min(MAX_FIELD);
        let extra = fields
            .iter()
            .map(|(name, value)| bytes(name) + bytes(value));
        self.line(level, &message, extra.sum(), || {
            let bounded = |text: &String| text::line(text, MAX_FIELD);
            let fields = fields.iter();
            let fields =
                fields.map(|(name, value)| format!("{}={}", bounded(name), bounded(value)));
            fields.collect::<Vec<_>>().join(" ")
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invocation_writes_a_limited_number_of_lines() {
        let calls = CallContext::describing_for_test();
        let lines = Lines::new(calls.clone());
        lines.written.store(MAX_LINES - 2, Ordering::Relaxed);
        assert_eq!([(); 4].map(|()| lines.admit(1)), [true, true, false, false]);
        let next = Lines::new(calls);
        assert!(next.admit(1));
    }
}
