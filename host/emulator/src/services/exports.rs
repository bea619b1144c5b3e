//! `/backtests/export/…`, and the files of all exports: tables as CSV, insights as JSON, logs as text.
//!
//! The columns of trades are the cloud's. Those of orders are a guess from the file that its web page
//! offers. The project may be left out where the cloud's documentation does not name it. An export of
//! a backtest that has no result is still loading, which the cloud does not say either.

use std::sync::Arc;

use serde_json::Value;

use super::answer::{Answer, Refusal, Reply};
use super::arguments::Arguments;
use super::backtests::{lines, loading};
use super::cloud::Cloud;
use crate::engine::Report;
use crate::store::State;
use crate::store::backtest::Backtest;

const CSV: &str = "text/csv";
const JSON: &str = "application/json";
const ORDER_COLUMNS: [&str; 8] = [
    "Time", "Symbol", "Price", "Quantity", "Type", "Status", "Value", "Tag",
];
const TRADE_COLUMNS: [&str; 14] = [
    "Entry Time",
    "Symbols",
    "Exit Time",
    "Direction",
    "Entry Price",
    "Exit Price",
    "Quantity",
    "P&L",
    "Fees",
    "MAE",
    "MFE",
    "Drawdown",
    "IsWin",
    "Order Ids",
];

pub(crate) fn orders(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    of_result(state, arguments, |report| orders_file(&report.orders))
}

pub(crate) fn trades(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    of_result(state, arguments, |report| {
        trades_file(report.closed_trades())
    })
}

pub(crate) fn insights(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    of_result(state, arguments, |report| insights_file(&report.insights))
}

pub(crate) fn logs(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let backtest = state.backtest(arguments)?;
    loading(backtest).unwrap_or_else(|| logs_file("text/plain", &lines(backtest)))
}

/// The file of a result; of a backtest that failed there is none.
fn of_result(state: &State, arguments: &Arguments, file: fn(&Report) -> Answer) -> Answer {
    let backtest = match arguments.get("projectId") {
        Some(_) => state.backtest(arguments)?,
        None => named(state, arguments.text("backtestId")?)?,
    };
    match backtest.report() {
        Some(report) => file(report),
        None => loading(backtest).unwrap_or_else(|| {
            let failed = format!(
                "The backtest {} failed: there is nothing to export",
                backtest.id
            );
            Err(Refusal::because(failed))
        }),
    }
}

fn named<'s>(state: &'s State, id: &str) -> Result<&'s Backtest, Refusal> {
    let found = state.backtest_named(id);
    found.ok_or_else(|| Refusal::not_found("Backtest", id))
}

/// Orders as a table.
pub(super) fn orders_file<'o>(orders: impl IntoIterator<Item = &'o Value>) -> Answer {
    let row = |order: &Value| {
        [
            text(order, "/time"),
            text(order, "/symbol/value"),
            text(order, "/price"),
            text(order, "/quantity"),
            text(order, "/type"),
            text(order, "/status"),
            text(order, "/value"),
            text(order, "/tag"),
        ]
    };
    table(&ORDER_COLUMNS, orders.into_iter().map(row))
}

/// Closed trades as a table.
pub(super) fn trades_file<'t>(trades: impl IntoIterator<Item = &'t Value>) -> Answer {
    let row = |trade: &Value| {
        let list = |name: &str, field: &str| -> String {
            let items = trade.get(name).and_then(Value::as_array);
            let items: Vec<String> = items
                .into_iter()
                .flatten()
                .map(|item| text(item, field))
                .collect();
            items.join(", ")
        };
        let is = |field: &str, value: &str| text(trade, field) == value;
        let direction = if is("/direction", "0") { "Buy" } else { "Sell" };
        let won = if is("/isWin", "true") { "1" } else { "0" };
        [
            text(trade, "/entryTime"),
            list("symbols", "/value"),
            text(trade, "/exitTime"),
            direction.to_owned(),
            text(trade, "/entryPrice"),
            text(trade, "/exitPrice"),
            text(trade, "/quantity"),
            text(trade, "/profitLoss"),
            text(trade, "/totalFees"),
            text(trade, "/mae"),
            text(trade, "/mfe"),
            text(trade, "/endTradeDrawdown"),
            won.to_owned(),
            // A tab keeps a spreadsheet from taking several numbers for one.
            format!("\t{}", list("orderIds", "")),
        ]
    };
    table(&TRADE_COLUMNS, trades.into_iter().map(row))
}

/// Insights as a list.
pub(super) fn insights_file(insights: &[Value]) -> Answer {
    let text = Value::from(insights.to_vec()).to_string();
    Ok(Reply::File(JSON, text))
}

/// The lines of a log as text.
pub(super) fn logs_file(media_type: &'static str, lines: &[String]) -> Answer {
    let text = lines.iter().map(|line| format!("{line}\n")).collect();
    Ok(Reply::File(media_type, text))
}

/// A part of an entry as the text of a cell.
fn text(entry: &Value, pointer: &str) -> String {
    match entry.pointer(pointer) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn table<const N: usize>(columns: &[&str; N], rows: impl Iterator<Item = [String; N]>) -> Answer {
    let mut csv = line(columns.iter().copied());
    for row in rows {
        csv.push_str(&line(row.iter().map(String::as_str)));
    }
    Ok(Reply::File(CSV, csv))
}

/// A line of a table.
fn line<'c>(cells: impl Iterator<Item = &'c str>) -> String {
    let cells: Vec<String> = cells.map(cell).collect();
    format!("{}\r\n", cells.join(","))
}

/// A cell, quoted where RFC 4180 wants it.
fn cell(text: &str) -> String {
    if text.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The cells of a line, by RFC 4180.
    fn cells(line: &str) -> Vec<String> {
        let (mut all, mut cell, mut quoted) = (Vec::new(), String::new(), false);
        let mut letters = line.strip_suffix("\r\n").unwrap().chars().peekable();
        while let Some(letter) = letters.next() {
            match letter {
                '"' if quoted && letters.next_if_eq(&'"').is_some() => cell.push('"'),
                '"' => quoted = !quoted,
                ',' if !quoted => all.push(std::mem::take(&mut cell)),
                other => cell.push(other),
            }
        }
        all.push(cell);
        all
    }

    proptest! {
        #[test]
        fn a_reader_gets_the_cells_back(row in prop::collection::vec("[a-z,\"\r\n\t ]{0,8}", 1..6)) {
            prop_assert_eq!(cells(&line(row.iter().map(String::as_str))), row);
        }
    }
}
