//! What plugins log, for the people who read it beside the host's own log: the recent lines of each plugin, and the lines of
//! one invocation while it runs.
//!
//! Invariant: a plugin that logs waits for no reader, what is kept of it is bounded, and each line that a reader does not get
//! is counted for that reader.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

/// Maximum bytes of recent lines that are kept of one plugin.
const MAX_RECENT: usize = 256 << 10;
/// Maximum bytes of lines of one invocation that its client has not read yet.
const MAX_UNREAD: usize = 2 << 20;
/// Bytes that a line takes besides its texts.
const LINE_BYTES: usize = 128;

/// The level of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// What is of interest to the plugin's author only.
    Trace,
    /// What helps to find an error.
    Debug,
    /// What an operator may want to know.
    Info,
    /// What an operator should know.
    Warn,
    /// What went wrong.
    Error,
}

impl LogLevel {
    /// Its name, as logs have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }
}

/// A line that a plugin logged: bounded, and without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it was logged.
    pub time: SystemTime,
    /// Its level.
    pub level: LogLevel,
    /// The invocation that logged it.
    pub invocation: Arc<str>,
    /// What it says.
    pub message: String,
    /// Its fields: `name=value name=value`.
    pub fields: String,
    /// Set in the host's own line at the end of an invocation: how many lines of it were left out.
    pub left_out: Option<u64>,
}

impl LogLine {
    /// The host's line about lines of an invocation that were left out.
    pub(crate) fn left_out(invocation: &Arc<str>, lines: u64) -> Self {
        Self {
            time: SystemTime::now(),
            level: LogLevel::Warn,
            invocation: Arc::clone(invocation),
            message: format!("lines of this invocation were left out: {lines}"),
            fields: String::new(),
            left_out: Some(lines),
        }
    }

    fn bytes(&self) -> usize {
        LINE_BYTES + self.message.len() + self.fields.len()
    }
}

/// The recent lines of a plugin, over all its invocations and versions.
#[derive(Debug)]
pub(crate) struct PluginLog {
    recent: Mutex<Recent>,
    /// Announces a line, and the end.
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Recent {
    lines: VecDeque<Arc<LogLine>>,
    bytes: usize,
    /// Number of lines ever.
    written: u64,
    closed: bool,
}

impl Recent {
    /// Number of lines that came before those that are kept.
    fn first(&self) -> u64 {
        let kept = u64::try_from(self.lines.len()).unwrap_or(u64::MAX);
        self.written.saturating_sub(kept)
    }
}

impl Default for PluginLog {
    fn default() -> Self {
        Self {
            recent: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }
}

impl PluginLog {
    pub(crate) fn push(&self, line: Arc<LogLine>) {
        {
            let mut recent = self.recent.lock();
            recent.bytes += line.bytes();
            recent.written += 1;
            recent.lines.push_back(line);
            while recent.bytes > MAX_RECENT
                && let Some(oldest) = recent.lines.pop_front()
            {
                recent.bytes -= oldest.bytes();
            }
        }
        self.changed.send_replace(());
    }

    /// Tells readers that no more lines come.
    pub(crate) fn close(&self) {
        self.recent.lock().closed = true;
        self.changed.send_replace(());
    }

    /// A reader that begins with the last lines, at most `lines` of them.
    pub(crate) fn reader(self: &Arc<Self>, lines: usize) -> LogReader {
        // Before the position is read, so that no line comes unnoticed in between.
        let changed = self.changed.subscribe();
        let next = {
            let recent = self.recent.lock();
            let wanted = u64::try_from(lines).unwrap_or(u64::MAX);
            recent.written.saturating_sub(wanted).max(recent.first())
        };
        LogReader {
            log: Arc::clone(self),
            changed,
            next,
        }
    }
}

/// Reads the lines of a plugin in order.
#[derive(Debug)]
pub struct LogReader {
    log: Arc<PluginLog>,
    changed: watch::Receiver<()>,
    /// Number of lines before the next one.
    next: u64,
}

impl LogReader {
    /// The lines that came since the last time, and how many came besides and are not kept any more.
    pub fn take(&mut self) -> (Vec<Arc<LogLine>>, u64) {
        let recent = self.log.recent.lock();
        let first = recent.first();
        let skipped = usize::try_from(self.next.saturating_sub(first)).unwrap_or(usize::MAX);
        let missed = first.saturating_sub(self.next);
        self.next = recent.written;
        (recent.lines.iter().skip(skipped).cloned().collect(), missed)
    }

    /// Waits for another line; `false` once no more come, except for those that can be taken now.
    pub async fn more(&mut self) -> bool {
        let is_open = |log: &PluginLog| !log.recent.lock().closed;
        is_open(&self.log) && self.changed.changed().await.is_ok() && is_open(&self.log)
    }
}

/// The lines of one invocation, on their way to its client.
#[derive(Debug, Default)]
pub struct InvocationLog {
    unread: Mutex<Unread>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Unread {
    lines: VecDeque<Arc<LogLine>>,
    bytes: usize,
    /// Number of lines that found no room.
    left_out: u64,
    closed: bool,
}

impl InvocationLog {
    pub(crate) fn push(&self, line: Arc<LogLine>) {
        {
            let mut unread = self.unread.lock();
            let bytes = unread.bytes + line.bytes();
            if bytes > MAX_UNREAD {
                unread.left_out += 1;
                return;
            }
            unread.bytes = bytes;
            unread.lines.push_back(line);
        }
        self.arrived.notify_one();
    }

    /// Ends it: the invocation has ended, and has no more lines.
    pub fn close(&self) {
        self.unread.lock().closed = true;
        self.arrived.notify_one();
    }

    /// The next line; `None` after the last one. For one reader.
    pub async fn next(&self) -> Option<Arc<LogLine>> {
        loop {
            {
                let mut unread = self.unread.lock();
                if let Some(line) = unread.lines.pop_front() {
                    unread.bytes -= line.bytes();
                    return Some(line);
                }
                if unread.closed {
                    return None;
                }
            }
            self.arrived.notified().await;
        }
    }

    /// Number of lines that the client does not get, since it did not read them in time.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.unread.lock().left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(message: &str) -> Arc<LogLine> {
        Arc::new(LogLine {
            time: SystemTime::UNIX_EPOCH,
            level: LogLevel::Info,
            invocation: "1-0".into(),
            message: message.to_owned(),
            fields: String::new(),
            left_out: None,
        })
    }

    fn messages(taken: &(Vec<Arc<LogLine>>, u64)) -> Vec<&str> {
        taken.0.iter().map(|line| line.message.as_str()).collect()
    }

    #[tokio::test]
    async fn a_reader_gets_the_last_lines_and_then_each_one_that_comes() {
        let log = Arc::new(PluginLog::default());
        for message in ["one", "two", "three"] {
            log.push(line(message));
        }
        let mut reader = log.reader(2);
        assert_eq!(messages(&reader.take()), ["two", "three"]);
        log.push(line("four"));
        assert!(reader.more().await);
        assert_eq!(messages(&reader.take()), ["four"]);
        assert!(messages(&reader.take()).is_empty());
        log.push(line("five"));
        log.close();
        // What came before the end can still be taken.
        assert!(!reader.more().await);
        assert_eq!(messages(&reader.take()), ["five"]);
        assert!(messages(&log.reader(0).take()).is_empty());
        assert_eq!(messages(&log.reader(9).take()).len(), 5);
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_a_reader_misses_is_counted() {
        let log = Arc::new(PluginLog::default());
        let mut reader = log.reader(0);
        let (written, long) = (1000, "x".repeat(4096));
        for _ in 0..written {
            log.push(line(&long));
        }
        let (lines, missed) = reader.take();
        let taken = u64::try_from(lines.len()).unwrap();
        assert!(taken > 0 && missed > 0, "{taken} and {missed}");
        assert_eq!(taken + missed, written);
        let kept: usize = lines.iter().map(|line| line.bytes()).sum();
        assert!(kept <= MAX_RECENT, "{kept}");
        // A reader that begins now misses nothing.
        assert_eq!(log.reader(usize::MAX).take().1, 0);
    }

    #[tokio::test]
    async fn a_client_gets_the_lines_in_order_and_the_number_of_those_that_found_no_room() {
        let log = InvocationLog::default();
        let long = "x".repeat(1 << 20);
        for message in ["first", &long, &long, &long, "last"] {
            log.push(line(message));
        }
        log.close();
        let mut lengths = Vec::new();
        while let Some(line) = log.next().await {
            lengths.push(line.message.len());
        }
        assert_eq!(lengths, ["first".len(), 1 << 20, "last".len()]);
        assert_eq!(log.left_out(), 2);
    }
}
