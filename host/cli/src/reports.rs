//! What a request reports before its answer.

use std::time::SystemTime;

use jiff::Timestamp;
use qchost_runtime::{LogLevel, LogLine, Progress};
use qchost_secrets::Redactor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// Reports buffered for a slow client. A line of the audit can have a megabyte.
const MAX_BUFFERED: usize = 16;

/// A report before the answer.
#[derive(Debug)]
pub enum Report {
    /// The progress.
    Progress(Progress),
    /// A halt is in force; the answer follows.
    Halted(String),
    /// A line of a long result.
    Line(String),
    /// A line that the plugin logged.
    Log(LogRow),
    /// The number of lines of the plugin that the client does not get.
    LogLeftOut(u64),
}

/// A line that a plugin logged, or the host about lines that are missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct LogRow {
    pub time: Timestamp,
    pub level: LogLevel,
    pub plugin: String,
    /// The invocation that logged it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<String>,
    pub message: String,
    /// `name=value name=value`
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fields: String,
    /// The number of lines that are missing, in the host's line about them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<u64>,
}

impl LogRow {
    /// A line of a plugin.
    pub fn new(plugin: &str, line: &LogLine) -> Self {
        Self {
            time: timestamp(line.time),
            level: line.level,
            plugin: plugin.to_owned(),
            invocation: Some(line.invocation.to_string()),
            message: line.message.clone(),
            fields: line.fields.clone(),
            left_out: line.left_out,
        }
    }

    /// The host's line about lines that came faster than they were read.
    pub fn missed(plugin: &str, lines: u64) -> Self {
        Self {
            time: timestamp(SystemTime::now()),
            level: LogLevel::Warn,
            plugin: plugin.to_owned(),
            invocation: None,
            message: format!("lines came faster than they were read: {lines}"),
            fields: String::new(),
            left_out: Some(lines),
        }
    }

    /// For people: level, message and fields.
    pub fn text(&self) -> String {
        let separator = if self.fields.is_empty() { "" } else { " " };
        let (level, message, fields) = (self.level.word(), &self.message, &self.fields);
        format!("{level:>5} {message}{separator}{fields}")
    }
}

/// A time of the system's clock; the beginning of time if it is out of range.
fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or_default()
}

impl Report {
    /// The host's current step.
    pub fn stage(message: String) -> Self {
        let fraction = 0.0;
        Self::Progress(Progress { fraction, message })
    }
}

/// Receives reports, and redacts the secrets that the host has read. Progress is not waited for if the buffer is full; lines
/// wait.
#[derive(Debug, Clone)]
pub struct Reports {
    sender: mpsc::Sender<Report>,
    redactor: Redactor,
}

impl Reports {
    pub fn new(redactor: Redactor) -> (Self, mpsc::Receiver<Report>) {
        let (sender, receiver) = mpsc::channel(MAX_BUFFERED);
        (Self { sender, redactor }, receiver)
    }

    fn clean(&self, text: &str) -> String {
        self.redactor.clean(text).into_owned()
    }

    fn step(&self, progress: &Progress) -> Report {
        Report::Progress(Progress {
            fraction: progress.fraction,
            message: self.clean(&progress.message),
        })
    }

    /// Reports progress; `false` if the buffer is full, or the client is gone. It misses nothing unless it was the last step:
    /// see [`Self::last_progress`].
    pub fn progress(&self, progress: &Progress) -> bool {
        self.sender.try_send(self.step(progress)).is_ok()
    }

    /// Reports the last step, and waits until the client has room for it.
    pub async fn last_progress(&self, progress: &Progress) {
        // It is not needed by a client that is gone.
        drop(self.sender.send(self.step(progress)).await);
    }

    /// Sends a line that a plugin logged; `false` when the client has stopped reading.
    pub async fn log(&self, mut row: LogRow) -> bool {
        row.message = self.clean(&row.message);
        row.fields = self.clean(&row.fields);
        self.sender.send(Report::Log(row)).await.is_ok()
    }

    /// Says how many lines of a plugin the client does not get.
    pub async fn log_left_out(&self, lines: u64) {
        // As above.
        drop(self.sender.send(Report::LogLeftOut(lines)).await);
    }

    /// Reports that a halt is in force, and what it waits for.
    pub fn halted(&self, message: &str) {
        let report = Report::Halted(self.clean(message));
        // For a slow client, the result says it too.
        drop(self.sender.try_send(report));
    }

    /// Waits until the client stops reading.
    pub async fn gone(&self) {
        self.sender.closed().await;
    }

    /// Sends a line; `false` when the client has stopped reading.
    pub async fn line(&self, line: String) -> bool {
        let line = self.clean(&line);
        self.sender.send(Report::Line(line)).await.is_ok()
    }

    /// Sends a line from a thread that may block; `false` when the client has stopped reading.
    pub fn line_blocking(&self, line: String) -> bool {
        let line = self.clean(&line);
        self.sender.blocking_send(Report::Line(line)).is_ok()
    }
}
