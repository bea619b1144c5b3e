//! What a backtest made: its charts, orders, insights and log.
//!
//! While a backtest has no result, its charts, orders, insights and log are still loading; of
//! one that failed, the charts, orders and insights are empty.

use std::sync::Arc;

use serde_json::json;

use super::Backtest;
use crate::answer::{Answer, Refusal, Reply};
use crate::arguments::Arguments;
use crate::pages::{BACKTEST_ENTRIES, BACKTEST_LINES, ChartRequest, Window};
use crate::state::Cloud;

pub(crate) fn chart(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let state = cloud.state();
    let backtest = state.backtest(arguments)?;
    let request = ChartRequest::read(arguments)?;
    if let Some(loading) = loading(backtest) {
        return loading;
    }
    let charts = backtest.report().map_or(&[][..], |report| &report.charts);
    Reply::success(json!({"chart": request.of(charts, None)?}))
}

pub(crate) fn orders(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let state = cloud.state();
    let backtest = state.backtest(arguments)?;
    let window = window(arguments, BACKTEST_ENTRIES)?;
    if let Some(loading) = loading(backtest) {
        return loading;
    }
    let orders = backtest.report().map_or(&[][..], |report| &report.orders);
    Reply::success(json!({"orders": window.of(orders), "length": orders.len()}))
}

pub(crate) fn insights(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let state = cloud.state();
    let backtest = state.backtest(arguments)?;
    let window = window(arguments, BACKTEST_ENTRIES)?;
    if let Some(loading) = loading(backtest) {
        return loading;
    }
    let insights = backtest.report().map_or(&[][..], |report| &report.insights);
    Reply::success(json!({"insights": window.of(insights), "length": insights.len()}))
}

pub(crate) fn log(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let state = cloud.state();
    let backtest = state.backtest(arguments)?;
    let window = window(arguments, BACKTEST_LINES)?;
    if let Some(loading) = loading(backtest) {
        return loading;
    }
    let mut lines = backtest
        .report()
        .map_or_else(Vec::new, |report| report.logs.clone());
    lines.extend(
        backtest
            .error()
            .map(|error| format!("Runtime Error: {error}")),
    );
    Reply::success(json!({"logs": window.of(&lines), "length": lines.len()}))
}

fn window(arguments: &Arguments, widest: i64) -> Result<Window, Refusal> {
    Window::read(arguments, ("start", "end"), false, widest)
}

fn loading(backtest: &Backtest) -> Option<Answer> {
    (!backtest.finished()).then(|| Reply::loading(backtest.progress()))
}
