//! A backtest and how far it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::clock;
use crate::engine::{Job, Report, RuntimeError};

/// What the engine made of a job.
pub(crate) type Outcome = Result<Report, RuntimeError>;

/// How far a backtest is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// Waits until it is due, and then for a node.
    Queued {
        /// Whether the shortest time in the queue has passed.
        due: bool,
    },
    Running {
        node: String,
        #[serde(with = "clock")]
        since: Instant,
        /// Its running time, at least.
        lasts: Duration,
    },
    Finished(Box<Outcome>),
}

/// One backtest.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Backtest {
    pub(crate) id: String,
    pub(crate) project_id: u32,
    pub(crate) name: String,
    pub(crate) note: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) created: Timestamp,
    pub(crate) snapshot: u64,
    /// The optimization that it belongs to.
    pub(crate) optimization: Option<String>,
    /// Parameters in the form in which the client gave them.
    pub(crate) parameters: Map<String, Value>,
    /// How many parameters the sources read.
    pub(crate) detected_parameters: usize,
    pub(crate) job: Arc<Job>,
    pub(crate) phase: Phase,
}

impl Backtest {
    pub(crate) fn finished(&self) -> bool {
        self.outcome().is_some()
    }

    fn outcome(&self) -> Option<&Outcome> {
        match &self.phase {
            Phase::Finished(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// The result, if there is one and it is not an error.
    pub(crate) fn report(&self) -> Option<&Report> {
        self.outcome()?.as_ref().ok()
    }

    pub(crate) fn error(&self) -> Option<&RuntimeError> {
        self.outcome()?.as_ref().err()
    }

    /// The node on which it runs.
    pub(crate) fn running_on(&self) -> Option<&str> {
        match &self.phase {
            Phase::Running { node, .. } => Some(node),
            _ => None,
        }
    }

    /// From 0 to 1; 1 only with a result.
    pub(crate) fn progress(&self) -> f64 {
        match &self.phase {
            Phase::Queued { .. } => 0.0,
            Phase::Running { since, lasts, .. } => {
                let share = since.elapsed().as_secs_f64() / lasts.as_secs_f64().max(1e-3);
                ((share * 1000.0).round() / 1000.0).min(0.99)
            }
            Phase::Finished(_) => 1.0,
        }
    }

    /// The status as the published schema of the API enumerates it. For a running backtest
    /// that is the placeholder with its quotes: the only text that the official clients'
    /// models accept. The percentage is in `progress`.
    pub(crate) fn status(&self) -> &'static str {
        match &self.phase {
            Phase::Queued { .. } => "In Queue...",
            Phase::Running { .. } => "'Running: _%'",
            Phase::Finished(outcome) if outcome.is_ok() => "Completed.",
            Phase::Finished(_) => "Runtime Error",
        }
    }
}
