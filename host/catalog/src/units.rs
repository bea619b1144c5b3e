//! The one table of units: in what QuantConnect sends each number that the contract carries.
//!
//! The contract has fractions everywhere. QuantConnect writes a share as a fraction in one answer
//! and as per cent in the next: a list of backtests has a drawdown of 4.4 where the statistics of
//! the same backtest have `4.400%` and 0.044. The adapter converts by this table, and no other
//! crate knows which is which. A record is sent in the same units by every endpoint that answers
//! with it. No endpoint is known to send milliseconds: instants are seconds since 1970, UTC.
//!
//! `build.rs` reads this file too, and fails the build when an entry names a field that `wit/` does
//! not have.

/// The unit in which QuantConnect sends a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// No number, or one without a unit, such as a version.
    Plain,
    /// A share as a fraction: 0.123. The contract has the same.
    Fraction,
    /// A share in per cent: 12.3. The contract has 0.123.
    Percent,
    /// One number over another, such as a Sharpe ratio. The contract has the same.
    Ratio,
    /// A figure as text, such as `12.3%` or `$5`: its sign is the unit.
    Figure,
    /// In the unit that the member `unit` of the same object names; `%` is per cent, and the
    /// contract has fractions.
    Labelled,
    /// An amount of money or a price, in the currency that the contract names.
    Money,
    /// QuantConnect Credit, of which 100 are one US dollar.
    Credit,
    /// Units of a security; shares of a stock.
    Quantity,
    /// How many.
    Count,
    /// Seconds; since 1970-01-01 UTC where it is an instant.
    Seconds,
    /// Minutes.
    Minutes,
    /// Days of the calendar.
    Days,
    /// Bytes.
    Bytes,
    /// Units of 1,073,741,824 bytes.
    Gibibytes,
    /// Thousands of millions of cycles a second.
    Gigahertz,
}

/// The units of numeric fields by record. A field that is not listed is [`Unit::Plain`].
pub const UNITS: &[(&str, Unit, &[&str])] = &[
    ("account-summary", Unit::Credit, &["credit-balance"]),
    ("credit-movement", Unit::Credit, &["amount", "balance"]),
    ("credit", Unit::Credit, &["balance"]),
    ("product-item", Unit::Count, &["quantity"]),
    ("product-item", Unit::Money, &["unit-price", "total"]),
    ("data-agreement", Unit::Seconds, &["signed-time"]),
    ("text-answer", Unit::Plain, &["version"]),
    ("list-answer", Unit::Plain, &["version"]),
    ("files-answer", Unit::Plain, &["version"]),
    ("search-answer", Unit::Plain, &["version", "message-id"]),
    ("search-result", Unit::Plain, &["score"]),
    (
        "portfolio-statistics",
        Unit::Fraction,
        &[
            "average-win-rate",
            "average-loss-rate",
            "win-rate",
            "loss-rate",
            "compounding-annual-return",
            "drawdown",
            "total-net-profit",
            "probabilistic-sharpe-ratio",
            "alpha",
            "annual-standard-deviation",
            "annual-variance",
            "tracking-error",
            "portfolio-turnover",
            "value-at-risk99",
            "value-at-risk95",
        ],
    ),
    (
        "portfolio-statistics",
        Unit::Ratio,
        &[
            "profit-loss-ratio",
            "expectancy",
            "sharpe-ratio",
            "sortino-ratio",
            "beta",
            "information-ratio",
            "treynor-ratio",
        ],
    ),
    (
        "portfolio-statistics",
        Unit::Money,
        &["start-equity", "end-equity"],
    ),
    ("portfolio-statistics", Unit::Days, &["drawdown-recovery"]),
    (
        "trade-statistics",
        Unit::Count,
        &[
            "total-number-of-trades",
            "number-of-winning-trades",
            "number-of-losing-trades",
            "max-consecutive-winning-trades",
            "max-consecutive-losing-trades",
        ],
    ),
    (
        "trade-statistics",
        Unit::Money,
        &[
            "total-profit-loss",
            "total-profit",
            "total-loss",
            "largest-profit",
            "largest-loss",
            "average-profit-loss",
            "average-profit",
            "average-loss",
            "average-mae",
            "average-mfe",
            "largest-mae",
            "largest-mfe",
            "maximum-closed-trade-drawdown",
            "maximum-intra-trade-drawdown",
            "profit-loss-standard-deviation",
            "profit-loss-downside-deviation",
            "maximum-end-trade-drawdown",
            "average-end-trade-drawdown",
            "total-fees",
        ],
    ),
    (
        "trade-statistics",
        Unit::Ratio,
        &[
            "profit-loss-ratio",
            "win-loss-ratio",
            "profit-factor",
            "sharpe-ratio",
            "sortino-ratio",
            "profit-to-max-drawdown-ratio",
        ],
    ),
    (
        "trade-statistics",
        Unit::Fraction,
        &["win-rate", "loss-rate"],
    ),
    (
        "closed-trade",
        Unit::Money,
        &[
            "entry-price",
            "exit-price",
            "profit-loss",
            "total-fees",
            "mae",
            "mfe",
            "end-trade-drawdown",
        ],
    ),
    ("closed-trade", Unit::Quantity, &["quantity"]),
    ("research-guide", Unit::Minutes, &["minutes"]),
    (
        "research-guide",
        Unit::Count,
        &["backtest-count", "parameters"],
    ),
    ("backtest", Unit::Fraction, &["progress"]),
    ("backtest", Unit::Count, &["tradeable-dates"]),
    (
        "backtest-summary",
        Unit::Fraction,
        &["progress", "alpha", "loss-rate", "win-rate"],
    ),
    (
        "backtest-summary",
        Unit::Percent,
        &["compounding-annual-return", "drawdown", "net-profit", "psr"],
    ),
    (
        "backtest-summary",
        Unit::Ratio,
        &["sharpe-ratio", "beta", "sortino-ratio", "treynor-ratio"],
    ),
    (
        "backtest-summary",
        Unit::Count,
        &["tradeable-dates", "parameters", "trades"],
    ),
    ("backtest-list", Unit::Count, &["count"]),
    ("closed-trade-page", Unit::Count, &["length"]),
    ("backtest-log-page", Unit::Count, &["length"]),
    ("finding", Unit::Count, &["count"]),
    ("live-summary", Unit::Money, &["equity"]),
    (
        "holding",
        Unit::Money,
        &[
            "average-price",
            "market-price",
            "market-value",
            "unrealized-profit",
        ],
    ),
    ("holding", Unit::Quantity, &["quantity"]),
    ("holding", Unit::Percent, &["unrealized-return"]),
    (
        "cash",
        Unit::Money,
        &["amount", "value-in-account-currency"],
    ),
    ("cash", Unit::Ratio, &["conversion-rate"]),
    ("node-prices", Unit::Money, &["monthly", "yearly"]),
    ("node", Unit::Gigahertz, &["speed"]),
    ("node", Unit::Gibibytes, &["ram"]),
    ("object-properties", Unit::Bytes, &["size"]),
    ("object-summary", Unit::Bytes, &["size"]),
    ("listing", Unit::Bytes, &["object-storage-used"]),
    // Values of the algorithm's own parameters.
    (
        "optimization-parameter",
        Unit::Plain,
        &["min", "max", "step", "min-step"],
    ),
    // What a statistic is compared with is a fraction, as in LEAN's `PortfolioStatistics`.
    ("constraint", Unit::Fraction, &["target-value"]),
    ("criterion", Unit::Fraction, &["target-value"]),
    ("estimate-request", Unit::Fraction, &["target-value"]),
    ("optimization-request", Unit::Fraction, &["target-value"]),
    ("optimization-request", Unit::Money, &["estimated-cost"]),
    ("optimization", Unit::Fraction, &["target-value"]),
    ("estimate", Unit::Seconds, &["time"]),
    ("estimate", Unit::Credit, &["balance"]),
    ("optimization-summary", Unit::Percent, &["psr"]),
    ("optimization-summary", Unit::Ratio, &["sharpe-ratio"]),
    ("optimization-summary", Unit::Count, &["trades"]),
    ("optimization-backtest", Unit::Fraction, &["progress"]),
    ("optimization-analysis", Unit::Ratio, &["overall-sharpe"]),
    (
        "optimization-analysis",
        Unit::Count,
        &["backtest-count-total", "backtest-count-used"],
    ),
    ("project", Unit::Money, &["paper-equity"]),
    ("statistic", Unit::Figure, &["value"]),
    ("point", Unit::Seconds, &["time"]),
    ("series", Unit::Labelled, &["values"]),
    (
        "order-submission-data",
        Unit::Money,
        &["bid-price", "ask-price", "last-price"],
    ),
    ("order-event", Unit::Seconds, &["time"]),
    (
        "order-event",
        Unit::Quantity,
        &["fill-quantity", "quantity"],
    ),
    (
        "order-event",
        Unit::Money,
        &[
            "fill-price",
            "order-fee-amount",
            "limit-price",
            "stop-price",
        ],
    ),
    ("order", Unit::Quantity, &["quantity"]),
    (
        "order",
        Unit::Money,
        &[
            "price",
            "value",
            "limit-price",
            "stop-price",
            "trigger-price",
        ],
    ),
    // An amount, or a fraction of the price if `trailing-percentage` says so.
    ("order", Unit::Plain, &["trailing-amount"]),
    ("order-group", Unit::Quantity, &["quantity"]),
    ("order-group", Unit::Count, &["count"]),
    ("order-group", Unit::Money, &["limit-price"]),
    ("order-page", Unit::Count, &["length"]),
    (
        "insight",
        Unit::Seconds,
        &["generated-time", "close-time", "period"],
    ),
    (
        "insight",
        Unit::Fraction,
        &[
            "magnitude",
            "confidence",
            "weight",
            "score-direction",
            "score-magnitude",
        ],
    ),
    (
        "insight",
        Unit::Money,
        &["reference", "reference-final", "estimated-value"],
    ),
    ("insight-page", Unit::Count, &["length"]),
];
