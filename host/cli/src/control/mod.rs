//! The control socket: how the command line reaches a running host.
//!
//! A client connects, sends one short JSON line that describes its request, then the request itself in as many bytes as the
//! line announces, and reads JSON lines until the last one, which is the result. The kernel identifies the client's user;
//! the first line decides whether the request is allowed, by the same engine that decides about plugins. Without a running
//! host the request is carried out in the client's own process, by the same rules.
//!
//! Invariants: nothing is read from a user without a role, and of a denied request only the first line is read; a client
//! that disconnects ends its invocation, and nothing else; replies contain no secret that the host has read.

mod authority;
mod client;
mod denials;
mod limits;
mod plane;
mod presence;
mod request;
mod reserve;
mod route;
mod server;
mod socket;
mod urgent;

use std::path::PathBuf;
use std::time::Duration;

use qchost_runtime::Progress;
use qchost_secrets::Redactor;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;

pub use client::{
    Approach, Unopened, approach, ask_running, ask_starting, has_host, holder, perform, refused,
    take_lock,
};
pub use plane::Plane;
pub use presence::Presence;
pub use request::{AuditRequest, ExportFormat, Query, Request, RequestKind, StandingRequest};
pub use route::Route;
pub use socket::listen;

/// Maximum bytes of a line of a reply: an action's output.
const MAX_LINE: usize = 64 << 20;
/// Maximum bytes of a request's first line.
const MAX_HEAD: u64 = 4 << 10;
/// Maximum interval between signs of life to a waiting client.
const BEAT_INTERVAL: Duration = Duration::from_secs(5);
/// Reports buffered for a slow client. A line of the audit can have a megabyte.
const REPORTS: usize = 16;

/// The first line of a request, by which it is decided.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    /// The client's configuration. Two configurations can share a data folder, and a request for the accounts of one must
    /// not be carried out with those of the other.
    config: PathBuf,
    /// The kind of request.
    verb: RequestKind,
    /// The plugin or account it concerns.
    about: Option<String>,
    /// The size of the request that follows, in bytes.
    bytes: u64,
}

/// A line of the reply.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Reply {
    /// The host that answers.
    Host {
        /// Its process id.
        pid: u32,
        /// The configuration it was started with, with all links resolved.
        configuration: PathBuf,
        /// What it is doing, unless it just serves.
        stage: Option<String>,
        /// Whether it sends a sign of life every [`BEAT_INTERVAL`] until the result.
        #[serde(default)]
        beats: bool,
    },
    /// A sign of life.
    Beat,
    /// The progress.
    Progress {
        /// From 0 to 1.
        fraction: f64,
        /// The current step.
        message: String,
    },
    /// A halt is in force; the result follows.
    Halted(String),
    /// A line of a long result.
    Line(String),
    /// The result; for a result in lines, its end.
    Done(Value),
    /// Why there is no result.
    Failed(String),
}

/// A report before the result.
#[derive(Debug)]
pub enum Report {
    /// The progress.
    Progress(Progress),
    /// A halt is in force; the result follows.
    Halted(String),
    /// A line of a long result.
    Line(String),
}

impl Report {
    /// The host's current step.
    fn stage(message: String) -> Self {
        let fraction = 0.0;
        Self::Progress(Progress { fraction, message })
    }
}

impl From<Report> for Reply {
    fn from(report: Report) -> Self {
        match report {
            Report::Progress(Progress { fraction, message }) => {
                Self::Progress { fraction, message }
            }
            Report::Halted(message) => Self::Halted(message),
            Report::Line(line) => Self::Line(line),
        }
    }
}

/// Receives reports, and redacts the secrets that the host has read. Progress is dropped if the buffer is full; lines wait.
#[derive(Debug, Clone)]
pub struct Reports {
    sender: mpsc::Sender<Report>,
    redactor: Redactor,
}

impl Reports {
    fn new(redactor: Redactor) -> (Self, mpsc::Receiver<Report>) {
        let (sender, receiver) = mpsc::channel(REPORTS);
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
