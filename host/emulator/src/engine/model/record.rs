//! The record of a simulation, from which reports and statistics are computed.
//!
//! Invariant: days are counted from the first simulated day, securities by their place in the plan,
//! and every list is in chronological order.

use jiff::civil::Date;

use super::portfolio::Portfolio;
use crate::engine::Day;

/// An order and its outcome.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Order {
    /// The security's index in the plan.
    pub(super) security: usize,
    /// Trading day (index) after whose close it was sent.
    pub(super) day: usize,
    /// Shares; negative is a sale.
    pub(super) quantity: f64,
    /// Close of the day on which it was sent.
    pub(super) submitted_at: f64,
    pub(super) outcome: OrderOutcome,
    /// Why it was sent, or why it is invalid.
    pub(super) reason: String,
}

/// The outcome of an order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum OrderOutcome {
    /// It waits for the next open.
    Sent,
    /// It was filled as a whole at the next day's open.
    Filled {
        /// The open.
        price: f64,
        /// In US dollars.
        fee: f64,
    },
    /// It was refused at once.
    Invalid,
}

/// A signal that changed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SignalChange {
    /// The security's index in the plan.
    pub(super) security: usize,
    /// Trading day (index).
    pub(super) day: usize,
    /// 1 up, -1 down, 0 flat: the sign of the position that the rule wants now.
    pub(super) direction: i8,
    /// The share of the portfolio that it wants, where it is one.
    pub(super) weight: Option<f64>,
    /// Trading day (index) of the next change, or the last day.
    pub(super) until: usize,
    /// The close of its day, and that of `until`.
    pub(super) reference: f64,
    /// See `reference`.
    pub(super) reference_final: f64,
}

/// The portfolio after the close of a day.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DailyClose {
    /// What a live deployment shows on the day; `logs` leaves out the lines of reading.
    pub(super) day: Day,
    /// Value of long positions less that of short ones, and their sizes added up.
    pub(super) net_exposure: f64,
    /// See `net_exposure`.
    pub(super) gross_exposure: f64,
    /// Value of the day's fills.
    pub(super) volume: f64,
    /// Close of the benchmark.
    pub(super) benchmark: f64,
}

/// One run.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// The trading days that were simulated; the indices of everything else count from here.
    pub(super) days: Vec<Date>,
    /// One for each day.
    pub(super) closes: Vec<DailyClose>,
    /// In the order in which they were sent.
    pub(super) orders: Vec<Order>,
    /// In the order in which they came.
    pub(super) changes: Vec<SignalChange>,
    /// As the fills left it.
    pub(super) portfolio: Portfolio,
    /// Index of the day on which each line was logged, and the line.
    pub(super) logs: Vec<(usize, String)>,
    /// The traded security of the least dollar volume a day, and that volume.
    pub(super) least_liquid: Option<(usize, f64)>,
}
