//! The control socket: how the command line reaches a host that runs.
//!
//! A client connects, sends one short JSON line that says what it asks for, then the request itself in as many bytes as
//! the line says, and reads JSON lines until the last one, which is the answer. Who the client is, the kernel says; what
//! they may do is decided by the first line, and by the same engine that decides about plugins. Without a host that runs
//! the same is done in the client's own process, by the same rules.
//!
//! Invariants: of a user who is not a person of this host nothing is read, and of a request that is denied no more than its
//! first line; a client that goes away ends its invocation, and nothing else; what the host replies holds no secret that it
//! read.

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

/// The longest line of an answer, in bytes: an action's output.
const MAX_LINE: usize = 64 << 20;
/// The longest first line of a request, in bytes.
const MAX_HEAD: u64 = 4 << 10;
/// How often a client that waits for its answer hears of the host at least.
const BEAT_INTERVAL: Duration = Duration::from_secs(5);
/// How many reports may wait for a client that is slow to read them. A line of the audit can have a megabyte.
const REPORTS: usize = 16;

/// The first line of a request: what it is decided by.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    /// The client's configuration. Two of them can share a data folder, and what is meant for
    /// the accounts of one must not be done with those of the other.
    config: PathBuf,
    /// What is asked for.
    verb: RequestKind,
    /// For which plugin or account.
    about: Option<String>,
    /// How long the request is that follows, in bytes.
    bytes: u64,
}

/// A line of the answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Reply {
    /// Which host answers.
    Host {
        /// Its process.
        pid: u32,
        /// The configuration that it was started with, with every link followed.
        configuration: PathBuf,
        /// What it is at, if it does not just serve.
        stage: Option<String>,
        /// Whether it says every [`BEAT_INTERVAL`] that it lives, until it has answered.
        #[serde(default)]
        beats: bool,
    },
    /// It lives, and is at it.
    Beat,
    /// How far it is.
    Progress {
        /// From 0 to 1.
        fraction: f64,
        /// What is being done.
        message: String,
    },
    /// A halt is in force, and the answer is still to come.
    Halted(String),
    /// A line of a long result.
    Line(String),
    /// The result; of one that came in lines, its end.
    Done(Value),
    /// Why there is none.
    Failed(String),
}

/// What is known before the answer.
#[derive(Debug)]
pub enum Report {
    /// How far it is.
    Progress(Progress),
    /// A halt is in force, and the answer is still to come.
    Halted(String),
    /// A line of a long result.
    Line(String),
}

impl Report {
    /// What the host is at.
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

/// Where reports go, without the secrets that the host read. Progress that finds no room is left out; lines wait for room.
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

    /// Tells how far it is.
    pub fn progress(&self, progress: &Progress) {
        let report = Report::Progress(Progress {
            fraction: progress.fraction,
            message: self.clean(&progress.message),
        });
        // A client that is gone, or that reads slowly, misses nothing that matters.
        drop(self.sender.try_send(report));
    }

    /// Tells that a halt is in force, and what is waited for.
    pub fn halted(&self, message: &str) {
        let report = Report::Halted(self.clean(message));
        // Of a client that reads slowly the answer says it too.
        drop(self.sender.try_send(report));
    }

    /// Waits until the client reads no more.
    pub async fn gone(&self) {
        self.sender.closed().await;
    }

    /// Hands over a line; false when the client reads no more.
    pub async fn line(&self, line: String) -> bool {
        let line = self.clean(&line);
        self.sender.send(Report::Line(line)).await.is_ok()
    }

    /// Hands over a line from a thread that may wait; false when the client reads no more.
    pub fn line_blocking(&self, line: String) -> bool {
        let line = self.clean(&line);
        self.sender.blocking_send(Report::Line(line)).is_ok()
    }
}
