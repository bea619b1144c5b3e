//! What a request reports before its answer.

use qchost_runtime::Progress;
use qchost_secrets::Redactor;
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
}

impl Report {
    /// The host's current step.
    pub fn stage(message: String) -> Self {
        let fraction = 0.0;
        Self::Progress(Progress { fraction, message })
    }
}

/// Receives reports, and redacts the secrets that the host has read. Progress is dropped if the buffer is full; lines wait.
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

    /// Reports progress.
    pub fn progress(&self, progress: &Progress) {
        let report = Report::Progress(Progress {
            fraction: progress.fraction,
            message: self.clean(&progress.message),
        });
        // A client that is gone or slow misses nothing important.
        drop(self.sender.try_send(report));
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
