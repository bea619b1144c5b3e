//! The control socket: how the command line reaches a host that runs.
//!
//! A client connects, sends one JSON line, and reads JSON lines until the last one, which is the
//! answer. Who the client is, the kernel says; what they may do is decided before it is done, and by
//! the same engine that decides about plugins. Without a host that runs the same is done in the
//! client's own process, by the same rules.
//!
//! Invariants: a request of somebody who is not a person of this host is not even read; a client that
//! goes away ends its invocation, and nothing else; what the host replies holds no secret that it read.

mod client;
mod request;
mod server;
mod socket;

use std::path::PathBuf;

use qchost_runtime::Progress;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;

pub use client::{ask_running, ask_starting, perform, take_lock};
pub use request::{AuditRequest, ExportFormat, Query, Request, StandingRequest};
pub use server::serve;
pub use socket::listen;

/// The longest line: an action's input or output.
const MAX_LINE: usize = 64 << 20;
/// How many reports may wait for a client that is slow to read them.
const REPORTS: usize = 256;

/// What a client sends.
#[derive(Debug, Serialize, Deserialize)]
struct Letter {
    /// The client's configuration. Two of them can share a data folder, and what is meant for
    /// the accounts of one must not be done with those of the other.
    config: PathBuf,
    request: Request,
}

/// A line of the answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Reply {
    /// How far it is.
    Progress {
        /// From 0 to 1.
        fraction: f64,
        /// What is being done.
        message: String,
    },
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
    /// A line of a long result.
    Line(String),
}

/// Where reports go. Progress that finds no room is left out; lines wait for room.
#[derive(Debug, Clone)]
pub struct Reports(mpsc::Sender<Report>);

impl Reports {
    fn new() -> (Self, mpsc::Receiver<Report>) {
        let (sender, receiver) = mpsc::channel(REPORTS);
        (Self(sender), receiver)
    }

    /// Tells how far it is.
    pub fn progress(&self, progress: &Progress) {
        // A client that is gone, or that reads slowly, misses nothing that matters.
        drop(self.0.try_send(Report::Progress(progress.clone())));
    }

    /// Hands over a line; false when nobody reads them any more.
    pub async fn line(&self, line: String) -> bool {
        self.0.send(Report::Line(line)).await.is_ok()
    }

    /// Hands over a line from a thread that may wait; false when nobody reads them any more.
    pub fn line_blocking(&self, line: String) -> bool {
        self.0.blocking_send(Report::Line(line)).is_ok()
    }
}
