//! `exports`: the results of a backtest and of a deployment as files.

use qchost_sdk::exports::Exported;
use qchost_sdk::prelude::*;

use crate::checks::{Checks, not_found, unfit};
use crate::setup;

pub(crate) fn run(checks: &mut Checks, profile: &str) -> Option<()> {
    let built = setup::built("exports");
    let (project, compile) =
        checks.answer("export-backtest-orders", "has a build", built, |_| true)?;
    backtest(checks, project, &compile)?;
    deployment(checks, project, &compile, profile)
}

/// The number of lines of a file of this type.
fn lines(file: &Exported, media_type: &str) -> Option<usize> {
    let text = std::str::from_utf8(&file.content).ok()?;
    (file.media_type == media_type).then(|| text.lines().count())
}

fn backtest(checks: &mut Checks, project: u32, compile: &str) -> Option<()> {
    let created = backtests::create_backtest(project, compile, "exported", None);
    let begun = checks.answer("export-backtest-orders", "has a backtest", created, |_| {
        true
    })?;
    let id = begun.backtest_id;

    type Export = fn(u32, &str) -> Result<Exported, Error>;
    let all: [(&str, &str, Export); 4] = [
        (
            "export-backtest-orders",
            "text/csv",
            exports::export_backtest_orders,
        ),
        (
            "export-backtest-trades",
            "text/csv",
            exports::export_backtest_trades,
        ),
        (
            "export-backtest-insights",
            "application/json",
            exports::export_backtest_insights,
        ),
        (
            "export-backtest-logs",
            "text/plain",
            exports::export_backtest_logs,
        ),
    ];
    for (function, media_type, export) in all {
        let file = wait::until_ready(|| export(project, &id));
        checks.answer(function, "is a file", file, |it| {
            lines(it, media_type).is_some_and(|lines| lines > 0)
        })?;
        let unknown = wait::until_ready(|| export(project, "none"));
        checks.refusal(function, "does not know an id", unknown, not_found);
    }
    Some(())
}

fn deployment(checks: &mut Checks, project: u32, compile: &str, profile: &str) -> Option<()> {
    let deployed = setup::deployment(project, compile, profile)
        .and_then(|request| live::create_live_algorithm(&request))
        .and_then(|_| setup::running(project, None));
    let algorithm = checks.answer("export-live-logs", "has a deployment", deployed, |it| {
        it.deploy_id.is_some()
    })?;
    let deploy_id = algorithm.deploy_id?;

    // An order needs a change of prices first.
    let orders = setup::until("no order came", || {
        let file = exports::export_live_orders(project, None, None)?;
        Ok(Some(file).filter(|it| lines(it, "text/csv") > Some(1)))
    });
    checks.answer("export-live-orders", "has orders", orders, |_| true)?;
    checks.refusal(
        "export-live-orders",
        "refuses an end before the start",
        exports::export_live_orders(project, Some(2), Some(1)),
        unfit,
    );
    let trades = exports::export_live_trades(project, Some(4_000_000_000));
    checks.answer(
        "export-live-trades",
        "is empty in the future",
        trades,
        |it| lines(it, "text/csv") == Some(1),
    )?;
    checks.refusal(
        "export-live-trades",
        "does not know a project",
        exports::export_live_trades(1, None),
        not_found,
    );
    let insights = exports::export_live_insights(project, &deploy_id);
    checks.answer("export-live-insights", "is a list", insights, |it| {
        it.media_type == "application/json" && it.content.first() == Some(&b'[')
    })?;
    checks.refusal(
        "export-live-insights",
        "does not know an id",
        exports::export_live_insights(project, "none"),
        not_found,
    );
    let logs = exports::export_live_logs(project, &deploy_id);
    checks.answer("export-live-logs", "has lines", logs, |it| {
        lines(it, "application/octet-stream") > Some(0)
    })?;
    checks.refusal(
        "export-live-logs",
        "does not know an id",
        exports::export_live_logs(project, "none"),
        not_found,
    );
    let stopped = live::stop_live_algorithm(project);
    checks.answer(
        "export-live-logs",
        "is of one that is stopped",
        stopped,
        |()| true,
    )?;
    Some(())
}
