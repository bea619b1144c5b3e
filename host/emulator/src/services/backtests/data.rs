//! The results of a backtest: its charts, orders, insights and log.
//!
//! While a backtest has no result, its charts, orders, insights and log are still loading; of
//! one that failed, the charts, orders and insights are empty.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::engine::Report;
use crate::services::answer::{Answer, Reply};
use crate::services::arguments::Arguments;
use crate::services::cloud::Cloud;
use crate::services::pages::{ChartRequest, MAX_BACKTEST_ENTRIES, MAX_BACKTEST_LINES, Window};
use crate::store::State;
use crate::store::backtest::Backtest;

pub(crate) fn chart(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let backtest = state.backtest(arguments)?;
    let request = ChartRequest::read(arguments)?;
    if let Some(loading) = loading(backtest) {
        return loading;
    }
    let charts = backtest.report().map_or(&[][..], |report| &report.charts);
    Reply::success(json!({"chart": request.of(charts, None)?}))
}

pub(crate) fn orders(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    entries(state, arguments, "orders", |report| &report.orders)
}

pub(crate) fn insights(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    entries(state, arguments, "insights", |report| &report.insights)
}

fn entries(
    state: &State,
    arguments: &Arguments,
    name: &str,
    of: fn(&Report) -> &[Value],
) -> Answer {
    let backtest = state.backtest(arguments)?;
    let window = Window::read(arguments, ("start", "end"), false, MAX_BACKTEST_ENTRIES)?;
    if let Some(loading) = loading(backtest) {
        return loading;
    }
    window.answer(name, backtest.report().map_or(&[][..], of))
}

pub(crate) fn log(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let backtest = state.backtest(arguments)?;
    let window = Window::read(arguments, ("start", "end"), false, MAX_BACKTEST_LINES)?;
    if let Some(loading) = loading(backtest) {
        return loading;
    }
    let report = backtest.report();
    let mut lines = report.map_or_else(Vec::new, |report| report.logs.clone());
    let error = backtest.error();
    lines.extend(error.map(|error| format!("Runtime Error: {error}")));
    window.answer("logs", &lines)
}

fn loading(backtest: &Backtest) -> Option<Answer> {
    (!backtest.finished()).then(|| Reply::loading(backtest.progress()))
}
