//! `backtests`: run until it ends, read in every way, renamed, deleted.

use qchost_sdk::backtests::{
    BacktestChartRequest, BacktestLogsRequest, BacktestOrderFilter, BacktestStatus,
};
use qchost_sdk::prelude::*;
use qchost_sdk::types::OrderType;

use crate::checks::{Checks, not_found, rejected, unfit};
use crate::setup;

pub(crate) fn run(checks: &mut Checks) -> Option<()> {
    let (project, compile) = checks.answer(
        "create-backtest",
        "has a build",
        setup::built("backtests"),
        |_| true,
    )?;
    let parameters = [
        ("fast".to_owned(), "3".to_owned()),
        ("slow".to_owned(), "15".to_owned()),
    ];
    let created = backtests::create_backtest(project, &compile, "one", Some(&parameters));
    let begun = checks.answer("create-backtest", "gives an id", created, |it| {
        !it.backtest_id.is_empty() && it.name.as_deref() == Some("one")
    })?;
    let id = begun.backtest_id;
    let unbuilt = backtests::create_backtest(project, "none", "two", None);
    checks.refusal(
        "create-backtest",
        "refuses a compile that there is not",
        unbuilt,
        |it| not_found(it) || rejected(it),
    );

    let ended = setup::until("the backtest did not end", || {
        let backtest = backtests::read_backtest(project, &id)?;
        Ok(Some(backtest).filter(|it| it.completed == Some(true)))
    });
    checks.answer("read-backtest", "ends with statistics", ended, |it| {
        let mut set = it.parameter_set.clone();
        set.sort();
        it.status == Some(BacktestStatus::Completed)
            && it.error.is_none()
            && set == parameters
            && it.statistic("Sharpe Ratio").is_some_and(f64::is_finite)
            && it
                .statistic("Drawdown")
                .is_some_and(|it| (0.0..=1.0).contains(&it))
            && it.charts.iter().any(|it| it.name == "Strategy Equity")
            && it.total_performance.is_some()
    })?;
    checks.refusal(
        "read-backtest",
        "does not know an id",
        backtests::read_backtest(project, "none"),
        not_found,
    );
    checks.answer("list-backtests", "contains it", backtests::list_backtests(project, Some(true)), |it| {
        it.count == Some(1) && matches!(it.backtests.as_slice(), [one] if one.backtest_id == id && one.sharpe_ratio.is_some())
    })?;

    pages(checks, project, &id)?;
    results(checks, project, &id)?;

    let tags = ["first".to_owned(), "kept".to_owned()];
    let tagged = backtests::update_backtest_tags(project, &id, &tags);
    checks.answer("update-backtest-tags", "succeeds", tagged, |()| true)?;
    checks.answer(
        "update-backtest-tags",
        "shows in the list",
        backtests::list_backtests(project, None),
        |it| matches!(it.backtests.as_slice(), [one] if one.tags == tags),
    )?;
    checks.refusal(
        "update-backtest-tags",
        "does not know an id",
        backtests::update_backtest_tags(project, "none", &tags),
        not_found,
    );

    let updated = backtests::update_backtest(project, &id, Some("renamed"), Some("a note"));
    checks.answer("update-backtest", "succeeds", updated, |()| true)?;
    checks.answer(
        "update-backtest",
        "shows in a read",
        backtests::read_backtest(project, &id),
        |it| it.name.as_deref() == Some("renamed") && it.note.as_deref() == Some("a note"),
    )?;
    let delete = || backtests::delete_backtest(project, &id);
    checks.answer("delete-backtest", "succeeds", delete(), |()| true)?;
    checks.refusal(
        "delete-backtest",
        "leaves nothing to delete",
        delete(),
        not_found,
    );
    Some(())
}

fn results(checks: &mut Checks, project: u32, id: &str) -> Option<()> {
    let trades =
        |start, end| wait::until_ready(|| backtests::read_backtest_trades(project, id, start, end));
    checks.answer(
        "read-backtest-trades",
        "has trades with their symbols and orders",
        trades(0, 99),
        |it| {
            it.length > 0
                && it.trades.iter().all(|it| {
                    it.id.is_some()
                        && !it.symbols.is_empty()
                        && it.order_ids.len() == 2
                        && it.is_win == it.profit_loss.map(|it| it > 0.0)
                })
        },
    )?;
    checks.refusal(
        "read-backtest-trades",
        "refuses an end before the start",
        trades(5, 2),
        unfit,
    );

    let logs = |end: u32, query: Option<&str>| {
        let request = BacktestLogsRequest {
            project_id: project,
            backtest_id: id.to_owned(),
            start: 0,
            end,
            query: query.map(str::to_owned),
        };
        wait::until_ready(|| backtests::read_backtest_logs(&request))
    };
    let all = checks.answer("read-backtest-logs", "gives lines", logs(200, None), |it| {
        it.length > 1 && !it.logs.is_empty()
    })?;
    checks.answer(
        "read-backtest-logs",
        "finds lines",
        logs(200, Some("INITIALIZED")),
        |it| {
            it.length > 0
                && it.length < all.length
                && it.logs.iter().all(|it| it.contains("initialized"))
        },
    )?;
    checks.refusal(
        "read-backtest-logs",
        "refuses a range that is too wide",
        logs(201, None),
        unfit,
    );

    let report = |id: &str| wait::until_ready(|| backtests::read_backtest_report(project, id));
    checks.answer("read-backtest-report", "is a page", report(id), |it| {
        it.contains("<html>") && it.contains("Drawdown")
    })?;
    checks.refusal(
        "read-backtest-report",
        "does not know an id",
        report("none"),
        not_found,
    );
    Some(())
}

fn pages(checks: &mut Checks, project: u32, id: &str) -> Option<()> {
    let request = |name: &str| BacktestChartRequest {
        project_id: project,
        backtest_id: id.to_owned(),
        name: name.to_owned(),
        count: 50,
        start: 0,
        end: 2_000_000_000,
    };
    let chart = |name: &str| {
        let request = request(name);
        wait::until_ready(|| backtests::read_backtest_chart(&request))
    };
    checks.answer(
        "read-backtest-chart",
        "has points in ascending time",
        chart("Strategy Equity"),
        |it| {
            it.name == "Strategy Equity"
                && it.series.iter().any(|it| {
                    it.values.len() > 1
                        && it.values.len() <= 50
                        && it.values.is_sorted_by_key(|it| it.time)
                        && it.values.iter().all(|it| !it.values.is_empty())
                })
        },
    )?;
    checks.refusal(
        "read-backtest-chart",
        "does not know a chart",
        chart("None"),
        not_found,
    );

    let orders =
        |start, end| wait::until_ready(|| backtests::read_backtest_orders(project, id, start, end));
    let all = checks.answer(
        "read-backtest-orders",
        "has orders that were filled",
        orders(0, 99),
        |it| {
            it.length > 0
                && !it.orders.is_empty()
                && it
                    .orders
                    .iter()
                    .all(|it| it.status.is_some() && it.quantity.is_some() && it.symbol.is_some())
        },
    )?;
    checks.answer(
        "read-backtest-orders",
        "gives a slice",
        orders(1, 2),
        |it| it.length == all.length && it.orders.len() <= 1,
    )?;
    checks.refusal(
        "read-backtest-orders",
        "refuses a slice that is too wide",
        orders(0, 5_000),
        unfit,
    );
    let filter = |order: Option<i32>, end: u32| {
        let request = BacktestOrderFilter {
            project_id: project,
            backtest_id: id.to_owned(),
            tag: None,
            symbol: Some("spy".into()),
            type_: Some(OrderType::MarketOnOpen),
            id: order,
            date: None,
            start: 0,
            end,
        };
        wait::until_ready(|| backtests::filter_backtest_orders(&request))
    };
    checks.answer(
        "filter-backtest-orders",
        "finds one by its number",
        filter(Some(2), 10),
        |it| matches!(it.orders.as_slice(), [one] if one.id == 2) && !it.more,
    )?;
    checks.answer(
        "filter-backtest-orders",
        "finds the first of many",
        filter(None, 1),
        |it| it.orders.len() == 1 && it.more,
    )?;
    checks.refusal(
        "filter-backtest-orders",
        "refuses a range that is too wide",
        filter(None, 101),
        unfit,
    );
    let insights = backtests::read_backtest_insights(project, id, 0, 99);
    checks.answer("read-backtest-insights", "is a page", insights, |it| {
        u32::try_from(it.insights.len()).is_ok_and(|shown| shown <= it.length)
    })?;
    Some(())
}
