//! A live deployment: what was asked for, how far it is, and the commands that it was sent.
//!
//! Invariant: of the settings of a brokerage or data provider, only its id, what says which account it is and whether
//! that is a paper one, and for the paper brokerage its cash and holdings are kept: never a secret.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::clock;
use crate::engine::{Job, Report};

/// The name of the paper brokerage in answers.
pub(crate) const PAPER_BROKERAGE: &str = "PaperBrokerage";
/// Settings that say whether an account is a paper one, and the values of those that are.
pub(crate) const MODES: [&str; 11] = [
    "ib-trading-mode",
    "tradier-environment",
    "oanda-environment",
    "binance-use-testnet",
    "bybit-use-testnet",
    "dydx-environment",
    "terminal-link-environment",
    "tt-rest-environment",
    "trade-station-environment",
    "alpaca-environment",
    "webull-environment",
];
const PAPER_MODES: [&str; 5] = ["paper", "Practice", "Beta", "demo", "uat"];
/// Settings that say which account it is.
pub(crate) const ACCOUNTS: [&str; 7] = [
    "ib-account",
    "ib-user-name",
    "ib-financial-advisors-group-filter",
    "tradier-account-id",
    "oanda-account-id",
    "trade-station-account-id",
    "webull-account-id",
];

/// How a deployment ended, by the status in the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
pub(crate) enum End {
    Stopped,
    Liquidated,
    RuntimeError,
}

/// The end of a deployment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stop {
    #[serde(with = "clock")]
    pub(crate) at: Instant,
    pub(crate) time: Timestamp,
    pub(crate) end: End,
    /// Why, if the algorithm failed.
    pub(crate) message: String,
}

/// A position that the paper brokerage is given at the start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Holding {
    pub(crate) symbol_id: String,
    pub(crate) quantity: f64,
    pub(crate) average_price: f64,
}

/// The brokerage of a deployment and, for the paper brokerage, what it starts with.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Brokerage {
    pub(crate) name: String,
    /// What a deployment says of it: account and mode, by the names of the settings.
    #[serde(default)]
    pub(crate) details: Vec<(String, String)>,
    /// Currencies and amounts.
    pub(crate) cash: Vec<(String, f64)>,
    pub(crate) holdings: Vec<Holding>,
}

impl Brokerage {
    /// Whether it trades without real money.
    pub(crate) fn is_paper(&self) -> bool {
        let is_paper = |(name, value): &(String, String)| {
            MODES.contains(&name.as_str()) && PAPER_MODES.contains(&value.as_str())
        };
        self.name == PAPER_BROKERAGE || self.details.iter().any(is_paper)
    }
}

/// A command in the log of a deployment.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Command {
    /// How many lines of the algorithm's own log come before it.
    pub(crate) after: usize,
    pub(crate) line: String,
}

/// An algorithm that runs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    /// What the engine made of it.
    pub(crate) report: Report,
    /// Since when the report's days are shown one after the other.
    #[serde(with = "clock")]
    pub(crate) since: Instant,
}

/// One deployment.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Deployment {
    pub(crate) id: String,
    pub(crate) project_id: u32,
    pub(crate) node: String,
    pub(crate) brokerage: Brokerage,
    pub(crate) launched: Timestamp,
    #[serde(with = "clock")]
    pub(crate) requested: Instant,
    pub(crate) job: Arc<Job>,
    pub(crate) running: Option<Run>,
    pub(crate) stopped: Option<Stop>,
    pub(crate) commands: Vec<Command>,
}

impl Deployment {
    /// The status; a deployment logs in for the time given and then initialises.
    pub(crate) fn status(&self, login: Duration) -> &'static str {
        match (&self.stopped, &self.running) {
            (Some(stop), _) => stop.end.into(),
            (None, Some(_)) => "Running",
            (None, None) if self.requested.elapsed() < login => "LoggingIn",
            (None, None) => "Initializing",
        }
    }

    /// Stops now.
    pub(crate) fn stop(&mut self, end: End, message: String) {
        self.stopped = Some(Stop {
            at: Instant::now(),
            time: Timestamp::now(),
            end,
            message,
        });
    }

    /// Whether the algorithm is running, so that it takes commands.
    pub(crate) fn is_running(&self) -> bool {
        self.stopped.is_none() && self.running.is_some()
    }
}
