//! `log`: an agent's lines in the host's log, under the target `plugin`.
//!
//! Lines are counted for the plugin, over all its invocations, together with those that the host writes about
//! its refusals ([`LogLimiter`](qchost_traffic::LogLimiter)). A long line counts as several. A client that follows the
//! invocation gets all of its lines.
//!
//! Invariant: a plugin can neither flood the log nor impersonate others in it: lines are redacted, then truncated,
//! rate-limited and stripped of control characters, and each carries the plugin's name and the invocation. How many lines
//! of an invocation were left out is logged at its end.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::SystemTime;

use qchost_traffic::MAX_LOG_LINES;

use crate::calls::CallContext;
use crate::contract::qchost::agent::log::{Host, Level};
use crate::plugin_log::{InvocationLog, LogLevel, LogLine};
use crate::text;

/// Maximum bytes of a message.
const MAX_MESSAGE: usize = 4096;
/// Maximum bytes of a field's name or value.
const MAX_FIELD: usize = 256;
/// Maximum fields of a line.
const MAX_FIELDS: usize = 16;
/// Bytes that count as one line.
const LINE_BYTES: usize = 1024;
/// Maximum lines of an invocation in the host's log.
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
    /// Receives every line, if its client asked for that.
    client: Option<Arc<InvocationLog>>,
    /// Whether it ever logged: otherwise its end need not touch the rate limit, which other threads use.
    wrote: AtomicBool,
    written: AtomicU32,
    /// Lines that are not in the host's log.
    left_out: AtomicU64,
    last_output: Mutex<String>,
}

impl Lines {
    pub(crate) fn new(calls: CallContext, client: Option<Arc<InvocationLog>>) -> Self {
        Self {
            calls,
            client,
            wrote: AtomicBool::new(false),
            written: AtomicU32::new(0),
            left_out: AtomicU64::new(0),
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
                *last_output = self.bounded(&words, MAX_LAST_OUTPUT);
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

    /// Writes a line whose fields have `extra` bytes: to the host's log unless a limit is reached, and to the client.
    fn line(&self, level: Level, message: &str, extra: usize, fields: impl FnOnce() -> String) {
        let bytes = message.len().min(MAX_MESSAGE).saturating_add(extra);
        let is_logged = self.admit(1 + u32::try_from(bytes / LINE_BYTES).unwrap_or(MAX_LOG_LINES));
        if !is_logged && self.client.is_none() {
            return;
        }
        let line = Arc::new(LogLine {
            time: SystemTime::now(),
            level: level.into(),
            invocation: Arc::clone(self.calls.invocation()),
            message: self.bounded(message, MAX_MESSAGE),
            fields: fields(),
            left_out: None,
        });
        if is_logged {
            self.log(&line);
            self.calls.version_context().log.push(Arc::clone(&line));
        }
        if let Some(client) = &self.client {
            client.push(line);
        }
    }

    /// Text of the guest without the secrets of the host.
    fn bounded(&self, text: &str, limit: usize) -> String {
        text::clean_line(text, limit, &self.calls.version_context().redactor)
    }

    /// Writes a line to the host's log.
    fn log(&self, line: &LogLine) {
        let plugin = &*self.calls.version_context().plugin;
        let LogLine {
            invocation,
            message,
            fields,
            ..
        } = line;
        let (invocation, fields) = (&**invocation, fields.as_str());
        macro_rules! log {
            ($level:ident) => {
                tracing::$level!(target: "plugin", plugin, invocation, fields, "{message}")
            };
        }
        match line.level {
            LogLevel::Trace => log!(trace),
            LogLevel::Debug => log!(debug),
            LogLevel::Info => log!(info),
            LogLevel::Warn => log!(warn),
            LogLevel::Error => log!(error),
        }
    }

    /// Whether `lines` more lines may be written to the host's log.
    fn admit(&self, lines: u32) -> bool {
        self.wrote.store(true, Ordering::Relaxed);
        let admitted = self.written.load(Ordering::Relaxed) < MAX_LINES
            && self.calls.version_context().log_limiter.try_admit(lines);
        if admitted {
            self.written.fetch_add(lines, Ordering::Relaxed);
        } else {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !*self.wrote.get_mut() {
            return;
        }
        let left_out = *self.left_out.get_mut();
        let version_context = self.calls.version_context();
        let invocation = self.calls.invocation();
        version_context
            .log_limiter
            .invocation_ended(&version_context.plugin, invocation, left_out);
        if left_out > 0 {
            let line = LogLine::left_out(invocation, left_out);
            version_context.log.push(Arc::new(line));
        }
    }
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Trace => Self::Trace,
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Error => Self::Error,
        }
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
            let bounded = |text: &String| self.bounded(text, MAX_FIELD);
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
        let lines = Lines::new(calls.clone(), None);
        lines.written.store(MAX_LINES - 2, Ordering::Relaxed);
        assert_eq!([(); 4].map(|()| lines.admit(1)), [true, true, false, false]);
        assert_eq!(lines.left_out.load(Ordering::Relaxed), 2);
        let next = Lines::new(calls, None);
        assert!(next.admit(1));
    }

    #[tokio::test]
    async fn a_secret_longer_than_what_is_kept_of_a_line_is_not_in_it() {
        let secret = "s3cret-0123456789".repeat(20);
        let calls = CallContext::describing_for_test();
        let redactor = &calls.version_context().redactor;
        redactor.remember(secret.clone().into());
        let client = Arc::new(InvocationLog::default());
        let mut lines = Arc::new(Lines::new(calls.clone(), Some(Arc::clone(&client))));
        let message = format!("{}{secret}", "x".repeat(MAX_MESSAGE - 100));
        let fields = vec![("token".to_owned(), secret.clone())];
        lines.write(Level::Info, message, fields);
        lines.log_output(Source::Stderr, &secret);
        assert!(!lines.last_output().contains("s3cret"));
        drop(lines);
        client.close();
        let mut got = 0;
        while let Some(line) = client.next().await {
            assert!(!line.message.contains("s3cret"), "{}", line.message);
            assert!(!line.fields.contains("s3cret"), "{}", line.fields);
            got += 1;
        }
        assert_eq!(got, 2);
    }

    #[tokio::test]
    async fn a_client_gets_every_line_and_the_log_counts_what_it_leaves_out() {
        const WRITTEN: u64 = 2_543;
        let calls = CallContext::describing_for_test();
        let log = Arc::clone(&calls.version_context().log);
        let client = Arc::new(InvocationLog::default());
        let mut lines = Arc::new(Lines::new(calls, Some(Arc::clone(&client))));
        for at in 0..WRITTEN {
            lines.write(Level::Debug, format!("line {at}"), Vec::new());
        }
        drop(lines);
        client.close();
        let mut got = 0;
        while let Some(line) = client.next().await {
            assert_eq!(line.message, format!("line {got}"));
            got += 1;
        }
        assert_eq!((got, client.left_out()), (WRITTEN, 0));

        let (kept, missed) = log.reader(usize::MAX).take();
        let (notices, kept): (Vec<_>, Vec<_>) =
            kept.iter().partition(|line| line.left_out.is_some());
        let [notice] = notices.as_slice() else {
            panic!("{notices:?}");
        };
        let left_out = notice.left_out.unwrap();
        assert!(left_out > 1_000, "{left_out}");
        let kept = u64::try_from(kept.len()).unwrap();
        assert_eq!((kept + left_out, missed), (WRITTEN, 0));
    }
}
