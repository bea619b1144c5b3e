//! The one table of irregular names: where QuantConnect's JSON does not follow the rule.
//!
//! The rule: a field `project-id` is `projectId`; a case `in-queue` is `InQueue`. Everything
//! else is listed here, and nowhere else. `build.rs` reads this file too, and fails the build when an
//! entry names a type, field or case that `wit/` does not have.

use crate::units::Unit;

/// Stands for the key under which a record was found, where QuantConnect sends a list of
/// records as one object.
pub const KEY: &str = "@key";

/// Fields by record, with their JSON name.
pub const FIELDS: &[(&str, &str, &str)] = &[
    ("trade-statistics", "average-mae", "averageMAE"),
    ("trade-statistics", "average-mfe", "averageMFE"),
    ("trade-statistics", "largest-mae", "largestMAE"),
    ("trade-statistics", "largest-mfe", "largestMFE"),
    ("chart-summary", "name", KEY),
    ("series", "name", KEY),
    ("holding", "symbol-id", KEY),
    ("holding", "average-price", "a"),
    ("holding", "quantity", "q"),
    ("holding", "market-price", "p"),
    ("holding", "market-value", "v"),
    ("holding", "unrealized-profit", "u"),
    ("holding", "unrealized-return", "up"),
    ("cash", "currency", KEY),
    ("cell", "cell-type", "cell_type"),
    ("log-search", "deployment-only", "deploymentLogs"),
];

/// Cases by variant, with every JSON value that means them; the first one is sent. Numbers stand as
/// text. A star at the end stands for any rest.
pub const CASES: &[(&str, &str, &[&str])] = &[
    ("language", "python", &["Py", "Python"]),
    ("language", "c-sharp", &["C#"]),
    ("permission", "read", &["read"]),
    ("permission", "write", &["write"]),
    ("series-type", "line", &["0"]),
    ("series-type", "scatter", &["1"]),
    ("series-type", "candle", &["2"]),
    ("series-type", "bar", &["3"]),
    ("series-type", "flag", &["4"]),
    ("series-type", "stacked-area", &["5"]),
    ("series-type", "pie", &["6"]),
    ("series-type", "treemap", &["7"]),
    ("series-type", "heatmap", &["9"]),
    // The official schema allows 19 where its own text says 10.
    ("series-type", "scatter3d", &["10", "19"]),
    ("chart-type", "overlayed", &["0"]),
    ("chart-type", "stacked", &["1"]),
    ("order-type", "market", &["0"]),
    ("order-type", "limit", &["1"]),
    ("order-type", "stop-market", &["2"]),
    ("order-type", "stop-limit", &["3"]),
    ("order-type", "market-on-open", &["4"]),
    ("order-type", "market-on-close", &["5"]),
    ("order-type", "option-exercise", &["6"]),
    ("order-type", "limit-if-touched", &["7"]),
    ("order-type", "combo-market", &["8"]),
    ("order-type", "combo-limit", &["9"]),
    ("order-type", "combo-leg-limit", &["10"]),
    ("order-type", "trailing-stop", &["11"]),
    // An order carries the number, its events the word.
    ("order-status", "new", &["0", "new"]),
    ("order-status", "submitted", &["1", "submitted"]),
    (
        "order-status",
        "partially-filled",
        &["2", "partiallyFilled"],
    ),
    ("order-status", "filled", &["3", "filled"]),
    ("order-status", "canceled", &["5", "canceled"]),
    ("order-status", "no-status", &["6", "none"]),
    ("order-status", "invalid", &["7", "invalid"]),
    ("order-status", "cancel-pending", &["8", "cancelPending"]),
    (
        "order-status",
        "update-submitted",
        &["9", "updateSubmitted"],
    ),
    ("order-direction", "buy", &["0", "buy"]),
    ("order-direction", "sell", &["1", "sell"]),
    ("order-direction", "hold", &["2", "hold"]),
    ("security-type", "base", &["0"]),
    ("security-type", "equity", &["1"]),
    ("security-type", "option-contract", &["2"]),
    ("security-type", "commodity", &["3"]),
    ("security-type", "forex", &["4"]),
    ("security-type", "future", &["5"]),
    ("security-type", "cfd", &["6"]),
    ("security-type", "crypto", &["7"]),
    ("security-type", "future-option", &["8"]),
    ("security-type", "index", &["9"]),
    ("security-type", "index-option", &["10"]),
    ("security-type", "crypto-future", &["11"]),
    ("insight-type", "price", &["price"]),
    ("insight-type", "volatility", &["volatility"]),
    ("insight-direction", "down", &["down"]),
    ("insight-direction", "flat", &["flat"]),
    ("insight-direction", "up", &["up"]),
    ("trade-direction", "long", &["0"]),
    ("trade-direction", "short", &["1"]),
    ("backtest-status", "completed", &["Completed.", "Completed"]),
    ("backtest-status", "in-queue", &["In Queue...", "In Queue"]),
    // The cloud says how far it is; the official schema carries that form in quotes. Older answers
    // say that it is in progress.
    (
        "backtest-status",
        "running",
        &["Running*", "'Running*", "In Progress*"],
    ),
    ("backtest-status", "runtime-error", &["Runtime Error"]),
    (
        "target-statistic",
        "sharpe-ratio",
        &["TotalPerformance.PortfolioStatistics.SharpeRatio"],
    ),
    (
        "target-statistic",
        "compounding-annual-return",
        &["TotalPerformance.PortfolioStatistics.CompoundingAnnualReturn"],
    ),
    (
        "target-statistic",
        "probabilistic-sharpe-ratio",
        &["TotalPerformance.PortfolioStatistics.ProbabilisticSharpeRatio"],
    ),
    (
        "target-statistic",
        "drawdown",
        &["TotalPerformance.PortfolioStatistics.Drawdown"],
    ),
    ("extremum", "minimum", &["min"]),
    ("extremum", "maximum", &["max"]),
    (
        "strategy",
        "grid-search",
        &["QuantConnect.Optimizer.Strategies.GridSearchOptimizationStrategy"],
    ),
    ("node-type", "o2x8", &["O2-8"]),
    ("node-type", "o4x12", &["O4-12"]),
    ("node-type", "o8x16", &["O8-16"]),
    ("optimization-status", "new", &["new"]),
    ("optimization-status", "aborted", &["aborted"]),
    ("optimization-status", "running", &["running"]),
    ("optimization-status", "completed", &["completed"]),
    ("authorized-brokerage", "alpaca", &["alpaca"]),
    ("authorized-brokerage", "trade-station", &["tradestation"]),
    ("authorized-brokerage", "charles-schwab", &["charlesschwab"]),
    ("authorized-brokerage", "tastytrade", &["tastytrade"]),
    // A search is asked for by word and answered by number.
    ("source-type", "stubs", &["Stubs", "0"]),
    ("source-type", "forum", &["Forum", "1"]),
    ("source-type", "docs", &["Docs", "2"]),
    ("source-type", "examples", &["Examples", "3"]),
];

/// Other JSON names of a list, by record and field: what QuantConnect called it before. An object
/// under such a name is the only row of the list. The name by rule takes precedence.
pub const FORMER: &[(&str, &str, &[&str])] = &[
    // LEAN writes a list since January 2026.
    ("closed-trade", "symbols", &["symbol"]),
];

/// A statistic's name and unit.
pub type Statistic = (&'static str, Unit);

/// Lists of statistics that come as bare numbers, with the names and units by position. Since
/// December 2025 they also come as an object, whose keys are positions or names of an algorithm's
/// own statistics.
pub const POSITIONS: &[(&str, &str, &[Statistic])] = &[(
    "optimization-backtest",
    "statistics",
    &[
        ("Alpha", Unit::Fraction),
        ("Annual Standard Deviation", Unit::Fraction),
        ("Annual Variance", Unit::Fraction),
        ("Average Loss", Unit::Percent),
        ("Average Win", Unit::Percent),
        ("Beta", Unit::Ratio),
        ("Compounding Annual Return", Unit::Percent),
        ("Drawdown", Unit::Percent),
        ("Estimated Strategy Capacity", Unit::Money),
        ("Expectancy", Unit::Ratio),
        ("Information Ratio", Unit::Ratio),
        ("Loss Rate", Unit::Percent),
        ("Net Profit", Unit::Percent),
        ("Probabilistic Sharpe Ratio", Unit::Percent),
        ("Profit-Loss Ratio", Unit::Ratio),
        ("Sharpe Ratio", Unit::Ratio),
        ("Total Fees", Unit::Money),
        ("Total Orders", Unit::Count),
        ("Tracking Error", Unit::Fraction),
        ("Treynor Ratio", Unit::Ratio),
        ("Win Rate", Unit::Percent),
        ("Sortino Ratio", Unit::Ratio),
        ("Start Equity", Unit::Money),
        ("End Equity", Unit::Money),
        ("Drawdown Recovery", Unit::Days),
    ],
)];
