//! What the model read from a source: everything that a simulation depends on.
//!
//! Invariant: two sources that give the same plan give the same run. The simulation
//! sees nothing else of a source.

use std::collections::BTreeMap;

use jiff::civil::Date;

use super::constants::{DEFAULT_BENCHMARK, DEFAULT_CASH, DEFAULT_END, DEFAULT_START};

/// A security that the algorithm subscribed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Security {
    /// In capitals.
    pub(super) ticker: String,
    pub(super) kind: SecurityKind,
}

impl Security {
    /// QuantConnect's security identifier: ticker and, in base 36, market, type and (for equities)
    /// the first day of their data.
    pub(super) fn identifier(&self) -> String {
        let market = match self.kind {
            SecurityKind::Equity | SecurityKind::Index => 1,
            SecurityKind::Forex | SecurityKind::Cfd => 3,
            SecurityKind::CryptoFuture => 16,
            SecurityKind::Future => 23,
            SecurityKind::Crypto => 38,
        };
        // 35,797 days from 1899-12-30 are 1998-01-02.
        let date = u64::from(self.kind == SecurityKind::Equity) * 35_797;
        let kind = self.kind as u64;
        let code = base36(date * 100_000_000_000_000 + market * 100 + kind);
        format!("{} {code}", self.ticker)
    }
}

fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        let digit = u32::try_from(number % 36).unwrap_or(0);
        digits.extend(char::from_digit(digit, 36).map(|digit| digit.to_ascii_uppercase()));
        number /= 36;
        if number == 0 {
            return digits.into_iter().rev().collect();
        }
    }
}

/// The kinds of security that the model has prices for, each named as in its `add_…` call and with
/// LEAN's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
#[repr(u8)]
pub(super) enum SecurityKind {
    Equity = 1,
    Forex = 4,
    Future = 5,
    Cfd = 6,
    Crypto = 7,
    Index = 9,
    #[strum(serialize = "crypto_future", serialize = "cryptofuture")]
    CryptoFuture = 11,
}

/// The kinds of moving average that the model computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AverageKind {
    /// The mean of the last closes.
    Simple,
    /// Weights that halve with age: `2 / (period + 1)` for the newest close.
    Exponential,
}

/// A moving average that the source creates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Average {
    pub(super) kind: AverageKind,
    /// In trading days.
    pub(super) period: u32,
    /// The index of its security; `None` is every security.
    pub(super) security: Option<usize>,
}

/// How large a position is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Size {
    /// A share of the portfolio's value; negative is short.
    Weight(f64),
    /// Whole shares; negative is short.
    Shares(f64),
}

impl Size {
    pub(super) fn amount(self) -> f64 {
        match self {
            Self::Weight(amount) | Self::Shares(amount) => amount,
        }
    }
}

/// A call in the source that opens a position.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// The index of its security; `None` is every security.
    pub(super) security: Option<usize>,
    pub(super) size: Size,
}

/// The history that the averages include when the backtest starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum WarmUp {
    /// As many trading days.
    Bars(u32),
    /// The trading days in as many calendar days.
    Days(u32),
    /// As much as every average needs.
    Full,
}

/// What a simulation depends on; the default is that of an empty `initialize`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    /// First day, inclusive.
    pub(super) start: Date,
    /// Last day, inclusive.
    pub(super) end: Date,
    /// US dollars.
    pub(super) cash: f64,
    /// In the order of subscription.
    pub(super) securities: Vec<Security>,
    /// A ticker.
    pub(super) benchmark: String,
    /// In source order.
    pub(super) averages: Vec<Average>,
    /// In source order.
    pub(super) entries: Vec<Entry>,
    pub(super) warm_up: WarmUp,
    /// Parameters that the source reads, with the values used.
    pub(super) parameters: BTreeMap<String, String>,
    /// What the algorithm logged in `initialize`, and what the model could not read.
    pub(super) logs: Vec<String>,
}

impl Plan {
    pub(super) fn ticker(&self, security: usize) -> &str {
        let security = self.securities.get(security);
        security.map_or("?", |security| &security.ticker)
    }
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            start: DEFAULT_START,
            end: DEFAULT_END,
            cash: DEFAULT_CASH,
            securities: Vec::new(),
            benchmark: DEFAULT_BENCHMARK.to_owned(),
            averages: Vec::new(),
            entries: Vec::new(),
            warm_up: WarmUp::Bars(0),
            parameters: BTreeMap::new(),
            logs: Vec::new(),
        }
    }
}
