//! What a call reserves before it is sent, and why it may not.

use serde::Serialize;

use crate::error::{LedgerError, from_sqlite};

/// What a call reserves before it may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewReservation {
    /// Identifies the call, here and in the audit.
    pub call: String,
    /// The account.
    pub account: String,
    /// The plugin that calls.
    pub plugin: String,
    /// Unix time in milliseconds.
    pub now: i64,
    /// Its charges to each matching grant.
    pub charges: Vec<Charge>,
    /// The permit it uses, if it needs one.
    pub permit: Option<PermitUse>,
}

/// The permit that a call uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermitUse {
    /// Its id.
    pub permit: String,
    /// The call's cost, in 1/10000 dollar.
    pub cost: u64,
}

/// A call's charge to a grant's budgets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The grant's name.
    pub grant: String,
    /// Maximum calls per day (UTC).
    pub per_day: Option<u32>,
    /// The call's cost, in 1/10000 dollar.
    pub cost: u64,
    /// Maximum total cost per day, in 1/10000 dollar.
    pub cost_per_day: Option<u64>,
}

/// Why a call may not begin. Nothing was charged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BeginError {
    /// A grant's budget is used up.
    #[error(
        "grant `{grant}`: `{budget}` allows {limit} in a day and {used} of it is used; it is full again in {} min",
        .resets_in_ms.saturating_add(59_999) / 60_000
    )]
    Exhausted {
        /// The grant's name.
        grant: String,
        /// `per-day`, `cost-per-day` or `attempts-per-day`.
        budget: &'static str,
        /// The limit: a number, or dollars.
        limit: String,
        /// The amount used.
        used: String,
        /// Time until the end of the effective day, in milliseconds.
        resets_in_ms: i64,
    },
    /// The permit is no longer valid.
    #[error("permit {permit} {why}; ask for another approval")]
    PermitGone {
        /// The permit's id.
        permit: String,
        /// The reason, as the end of a sentence.
        why: String,
    },
    /// The ledger could not be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

from_sqlite!(BeginError);

/// How a reservation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// The call was sent: its charges stay.
    Commit,
    /// Nothing was done: count, cost, attempt and permit are returned.
    Release,
    /// The server refused it: count, cost and the permit's use are returned, the attempts stay.
    Refused,
}

/// A reservation that was neither committed nor released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct OpenReservation {
    /// Its id; never reused.
    pub id: i64,
    /// The call it was made for.
    pub call: String,
    /// The account.
    pub account: String,
    /// The plugin that called.
    pub plugin: String,
    /// When it was made. Unix time in milliseconds.
    pub begun_ms: i64,
    /// The permit it uses.
    pub permit: Option<String>,
}

/// The use of a grant on its effective day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Usage {
    /// The grant's name.
    pub grant: String,
    /// The day, `2026-01-31`.
    pub day: String,
    /// Number of calls.
    pub count: u32,
    /// Cost, in 1/10000 dollar.
    pub cost: u64,
}
