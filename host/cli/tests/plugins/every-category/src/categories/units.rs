//! Units: one backtest, one optimisation and one deployment are asked for in every way, and each figure is one number:
//! shares, money, instants and counts.

use qchost_sdk::backtests::{Backtest, BacktestChartRequest, BacktestSummary};
use qchost_sdk::live::LiveChartRequest;
use qchost_sdk::optimizations::{
    EstimateRequest, Extremum, NodeType, Optimization, OptimizationBacktest, OptimizationParameter,
    OptimizationRequest, OptimizationStatus, OptimizationSummary, Strategy, TargetStatistic,
};
use qchost_sdk::prelude::*;
use qchost_sdk::types::{Chart, CompileId, ProjectId};

use crate::checks::Checks;
use crate::setup;

/// Half a digit of the last that a percentage has in a text: `4.400%`.
const OF_TEXT: f64 = 0.000_006;
/// The same for those that have no digits after the point: `55%`.
const OF_WHOLE: f64 = 0.005_001;
/// The same for a drawdown, of which LEAN rounds the fraction to three digits.
const OF_DRAWDOWN: f64 = 0.000_501;
/// Half a cent.
const OF_CENT: f64 = 0.005_001;
const DAY: f64 = 86_400.0;

/// Both are there and as good as equal.
fn same(one: Option<f64>, other: Option<f64>, within: f64) -> bool {
    matches!((one, other), (Some(one), Some(other)) if (one - other).abs() <= within)
}

fn count(list: usize) -> Option<u32> {
    u32::try_from(list).ok()
}

/// Seconds since 1970 of an instant such as `2021-01-31T14:30:00Z`.
fn seconds(text: Option<&String>) -> Option<f64> {
    let text = text?.strip_suffix('Z')?;
    let (date, time) = text.split_once(['T', ' '])?;
    let mut parts = date.split('-').chain(time.split(':'));
    let mut next = || parts.next()?.parse::<i64>().ok();
    let (year, month, day) = (next()?, next()?, next()?);
    let (hours, minutes, seconds) = (next()?, next()?, next()?);
    // Years from March, so that a leap day is the last of one.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days = 365 * year + leap_days + (153 * month + 2) / 5 + day - 719_469;
    let whole = ((days * 24 + hours) * 60 + minutes) * 60 + seconds;
    i32::try_from(whole).ok().map(f64::from)
}

pub(crate) fn run(checks: &mut Checks, profile: &str) -> Option<()> {
    let built = setup::built("units");
    let (project, compile) = checks.answer("", "has a build", built, |_| true)?;
    let created = backtests::create_backtest(project, &compile, "one", None);
    let id = checks
        .answer("", "has a backtest", created, |_| true)?
        .backtest_id;
    let ended = setup::until("the backtest did not end", || {
        let backtest = backtests::read_backtest(project, &id)?;
        Ok(Some(backtest).filter(|it| it.completed == Some(true)))
    });
    let whole = checks.answer("", "has a result", ended, |it| {
        // A figure that is 0 is the same in every unit.
        it.statistic("Drawdown").is_some_and(|it| it > 0.0)
            && it.statistic("Net Profit").is_some_and(|it| it != 0.0)
    })?;
    shares(checks, project, &whole)?;
    money_and_counts(checks, project, &whole)?;
    instants(checks, project, &whole)?;
    optimization(checks, project, &compile, &whole)?;
    deployment(checks, project, &compile, profile)
}

/// The backtest as the list shows it.
fn listed(project: ProjectId, id: &str) -> Result<Option<BacktestSummary>, Error> {
    let list = backtests::list_backtests(project, Some(true))?;
    Ok(list.backtests.into_iter().find(|it| it.backtest_id == id))
}

fn chart(project: ProjectId, id: &str, name: &str) -> Result<Chart, Error> {
    let request = BacktestChartRequest {
        project_id: project,
        backtest_id: id.to_owned(),
        name: name.to_owned(),
        count: 4_000,
        start: 0,
        end: 2_000_000_000,
    };
    wait::until_ready(|| backtests::read_backtest_chart(&request))
}

/// The values of a series, one for each point: the last of a candle is its close.
fn values(chart: &Chart, series: &str) -> Vec<f64> {
    let series = chart.series.iter().find(|it| it.name == series);
    let points = series.iter().flat_map(|it| &it.values);
    points
        .filter_map(|it| it.values.last().copied().flatten())
        .collect()
}

/// The number in the row of a statistic of a report.
fn reported(report: &str, name: &str) -> Option<f64> {
    let (_, rest) = report.split_once(&format!("<th>{name}</th><td>"))?;
    let (text, _) = rest.split_once('<')?;
    let percent = text.strip_suffix('%')?;
    percent.parse::<f64>().ok().map(|it| it / 100.0)
}

fn shares(checks: &mut Checks, project: ProjectId, whole: &Backtest) -> Option<()> {
    let id = &whole.backtest_id;
    let performance = whole.total_performance.as_ref();
    let portfolio = performance.and_then(|it| it.portfolio_statistics.as_ref())?;
    let of = |name: &str| whole.statistic(name);
    let list = checks.answer("", "is listed", listed(project, id), Option::is_some)??;
    for (name, in_list, in_portfolio, within) in [
        ("Drawdown", list.drawdown, portfolio.drawdown, OF_DRAWDOWN),
        (
            "Net Profit",
            list.net_profit,
            portfolio.total_net_profit,
            OF_TEXT,
        ),
        (
            "Compounding Annual Return",
            list.compounding_annual_return,
            portfolio.compounding_annual_return,
            OF_TEXT,
        ),
        (
            "Probabilistic Sharpe Ratio",
            list.psr,
            portfolio.probabilistic_sharpe_ratio,
            OF_TEXT,
        ),
        ("Win Rate", list.win_rate, portfolio.win_rate, OF_WHOLE),
        ("Loss Rate", list.loss_rate, portfolio.loss_rate, OF_WHOLE),
        (
            "Sharpe Ratio",
            list.sharpe_ratio,
            portfolio.sharpe_ratio,
            0.000_6,
        ),
        ("Alpha", list.alpha, portfolio.alpha, 0.000_6),
    ] {
        checks.answer(
            "",
            &format!("has one {name}"),
            Ok::<_, Error>((of(name), in_list, in_portfolio)),
            |(text, list, portfolio)| same(*text, *list, within) && same(*text, *portfolio, within),
        )?;
    }
    let trades = performance.and_then(|it| it.trade_statistics.as_ref())?;
    checks.answer(
        "",
        "has shares of trades as fractions",
        Ok::<_, Error>((trades.win_rate, trades.loss_rate)),
        |(wins, losses)| same(wins.zip(*losses).map(|(a, b)| a + b), Some(1.0), OF_TEXT),
    )?;

    let drawdown = chart(project, id, "Drawdown").map(|it| {
        let deepest = values(&it, "Equity Drawdown")
            .into_iter()
            .fold(0.0, f64::min);
        (Some(-deepest), of("Drawdown"))
    });
    checks.answer(
        "",
        "has its drawdown in a chart",
        drawdown,
        |(chart, text)| same(*chart, *text, OF_DRAWDOWN),
    )?;
    let returns = chart(project, id, "Strategy Equity").map(|it| {
        let growth = values(&it, "Return").into_iter();
        let growth = growth.fold(1.0, |all: f64, day| all * (1.0 + day));
        (Some(growth - 1.0), of("Net Profit"))
    });
    checks.answer(
        "",
        "has its returns in a chart",
        returns,
        |(chart, text)| same(*chart, *text, 0.000_1),
    )?;
    let report = wait::until_ready(|| backtests::read_backtest_report(project, id));
    let figures = report.map(|it| {
        let names = ["Drawdown", "Net Profit", "Compounding Annual Return"];
        names.map(|name| (reported(&it, name), of(name)))
    });
    checks.answer("", "has its figures in the report", figures, |it| {
        it.iter()
            .all(|(report, text)| same(*report, *text, OF_TEXT))
    })?;
    Some(())
}

fn money_and_counts(checks: &mut Checks, project: ProjectId, whole: &Backtest) -> Option<()> {
    let id = &whole.backtest_id;
    let performance = whole.total_performance.as_ref()?;
    let portfolio = performance.portfolio_statistics.as_ref()?;
    let statistics = performance.trade_statistics.as_ref()?;
    let equity = chart(project, id, "Strategy Equity");
    let equity = equity.map(|it| values(&it, "Equity").last().copied());
    checks.answer("", "has one equity", equity, |chart| {
        same(*chart, portfolio.end_equity, OF_CENT)
            && same(whole.statistic("End Equity"), portfolio.end_equity, OF_CENT)
            && same(
                whole.runtime_statistic("Equity"),
                portfolio.end_equity,
                OF_CENT,
            )
    })?;
    let trades = wait::until_ready(|| backtests::read_backtest_trades(project, id, 0, 100));
    let trades = checks.answer("", "has its trades in a page", trades, |it| {
        count(it.trades.len()) == Some(it.length) && it.trades == performance.closed_trades
    })?;
    let sum = |of: fn(&qchost_sdk::types::ClosedTrade) -> Option<f64>| {
        trades.trades.iter().map(of).sum::<Option<f64>>()
    };
    checks.answer(
        "",
        "has one profit and one fee",
        Ok::<_, Error>((sum(|it| it.profit_loss), sum(|it| it.total_fees))),
        |(profit, fees)| {
            // Each trade is rounded to the cent.
            let cents = OF_CENT * f64::from(trades.length + 1);
            same(*profit, statistics.total_profit_loss, cents)
                && same(*fees, statistics.total_fees, cents)
        },
    )?;
    let counted = listed(project, id).map(|it| it.and_then(|it| it.trades));
    checks.answer("", "has one number of trades", counted, |list| {
        *list == Some(trades.length) && statistics.total_number_of_trades == *list
    })?;
    let orders = wait::until_ready(|| backtests::read_backtest_orders(project, id, 0, 1));
    checks.answer("", "has one number of orders", orders, |it| {
        same(
            whole.statistic("Total Orders"),
            Some(f64::from(it.length)),
            0.0,
        )
    })?;
    Some(())
}

fn instants(checks: &mut Checks, project: ProjectId, whole: &Backtest) -> Option<()> {
    let id = &whole.backtest_id;
    let start = seconds(whole.backtest_start.as_ref());
    let end = seconds(whole.backtest_end.as_ref());
    let now = clock::now();
    checks.answer(
        "",
        "was created now, in UTC",
        Ok::<_, Error>((seconds(whole.created.as_ref()), now)),
        |(created, now)| same(*created, Some(*now), 600.0),
    )?;
    let times = chart(project, id, "Strategy Equity").map(|it| {
        let points = it.series.into_iter().flat_map(|it| it.values);
        let times: Vec<f64> = points.map(|it| it.time).collect();
        let first = times.iter().copied().reduce(f64::min);
        (first, times.into_iter().reduce(f64::max))
    });
    checks.answer("", "has its first and last day in a chart", times, |it| {
        same(it.0, start, 0.0) && same(it.1, end, 0.0)
    })?;
    let orders = wait::until_ready(|| backtests::read_backtest_orders(project, id, 0, 100));
    checks.answer("", "has one time of a fill", orders, |it| {
        let mut filled = it.orders.iter().filter(|it| it.last_fill_time.is_some());
        let all = it.orders.iter();
        all.filter(|it| it.last_fill_time.is_some()).all(|order| {
            let event = order.events.last().and_then(|it| it.time);
            same(event, seconds(order.last_fill_time.as_ref()), 0.0)
        }) && filled.next().is_some()
    })?;
    let within = |time: Option<f64>| {
        let (Some(time), Some(start), Some(end)) = (time, start, end) else {
            return false;
        };
        (start..=end + DAY).contains(&time)
    };
    let insights = wait::until_ready(|| backtests::read_backtest_insights(project, id, 0, 99));
    checks.answer("", "has its insights in the period", insights, |it| {
        !it.insights.is_empty()
            && it.insights.iter().all(|it| {
                let period = it.close_time.zip(it.generated_time).map(|(a, b)| a - b);
                within(it.generated_time) && same(period, it.period, 0.0)
            })
    })?;
    Some(())
}

fn optimization(
    checks: &mut Checks,
    project: ProjectId,
    compile: &CompileId,
    whole: &Backtest,
) -> Option<()> {
    // One combination: that of the backtest, whose parameters have their defaults.
    let axis = OptimizationParameter {
        name: "fast".into(),
        min: 2.0,
        max: 2.0,
        step: 1.0,
        min_step: None,
    };
    let estimate = optimizations::estimate_optimization_time(&EstimateRequest {
        project_id: project,
        name: "units".into(),
        target: TargetStatistic::SharpeRatio,
        target_to: Extremum::Maximum,
        target_value: None,
        strategy: Strategy::GridSearch,
        compile_id: Some(compile.clone()),
        parameters: vec![axis.clone()],
        constraints: None,
    });
    let balance = account::read_account().map(|it| it.credit_balance);
    let balances = estimate.and_then(|it| Ok((it.balance, balance?)));
    checks.answer("", "has one balance", balances, |(estimate, account)| {
        // The estimate has whole credits.
        same(*estimate, *account, 1.0)
    })?;
    let created = optimizations::create_optimization(&OptimizationRequest {
        project_id: project,
        name: "units".into(),
        target: TargetStatistic::SharpeRatio,
        target_to: Extremum::Maximum,
        target_value: None,
        strategy: Strategy::GridSearch,
        compile_id: compile.clone(),
        parameters: vec![axis],
        constraints: None,
        estimated_cost: 1.0,
        node_type: NodeType::O2x8,
        parallel_nodes: 1,
    });
    let id = checks.answer("", "has an optimisation", created, |_| true)?;
    let id = id.optimization_id;
    let ended = setup::until("the optimisation did not end", || {
        let it = optimizations::read_optimization(&id)?;
        Ok(Some(it).filter(|it| it.status == Some(OptimizationStatus::Completed)))
    });
    let row = ended.map(|it: Optimization| it.backtests.into_iter().next());
    let row: OptimizationBacktest = checks.answer("", "has a row", row, Option::is_some)??;
    for name in [
        "Drawdown",
        "Net Profit",
        "Compounding Annual Return",
        "Probabilistic Sharpe Ratio",
        "Win Rate",
        "Loss Rate",
        "Average Win",
        "Average Loss",
        "Sharpe Ratio",
        "Alpha",
        "Total Fees",
        "Total Orders",
    ] {
        checks.answer(
            "",
            &format!("has the {name} of the backtest in a row"),
            Ok::<_, Error>((row.statistic(name), whole.statistic(name))),
            |(row, whole)| same(*row, *whole, 0.0),
        )?;
    }
    checks.answer(
        "",
        "has the days of the backtest in a row",
        Ok::<_, Error>((row.start_date, row.end_date)),
        |(start, end)| *start == whole.backtest_start && *end == whole.backtest_end,
    )?;
    let list = optimizations::list_optimizations(project);
    let best = list.map(|it| it.into_iter().find(|it| it.optimization_id == id));
    let best: OptimizationSummary = checks.answer("", "is in a list", best, Option::is_some)??;
    checks.answer(
        "",
        "has the figures of its best backtest in a list",
        Ok::<_, Error>((best.psr, best.sharpe_ratio)),
        |(psr, sharpe)| {
            same(*psr, whole.statistic("Probabilistic Sharpe Ratio"), OF_TEXT)
                && same(*sharpe, whole.statistic("Sharpe Ratio"), 0.000_6)
        },
    )?;
    Some(())
}

fn deployment(
    checks: &mut Checks,
    project: ProjectId,
    compile: &CompileId,
    profile: &str,
) -> Option<()> {
    let deployed = setup::deployment(project, compile, profile)
        .and_then(|request| live::create_live_algorithm(&request))
        .and_then(|_| setup::running(project, None));
    checks.answer("", "has a deployment", deployed, |_| true)?;
    let held = setup::until("nothing was bought", || {
        let portfolio = live::read_live_portfolio(project)?;
        Ok(Some(portfolio).filter(|it| !it.holdings.is_empty()))
    });
    checks.answer("", "holds something", held, |_| true)?;
    // Stopped, it stands still and keeps its positions.
    let stopped = live::stop_live_algorithm(project);
    checks.answer("", "is stopped", stopped, |()| true)?;
    let algorithm = live::read_live_algorithm(project, None);
    let algorithm = checks.answer("", "is read", algorithm, |_| true)?;
    let equity = algorithm.runtime_statistic("Equity");
    let list = live::list_live_algorithms(Some(project), None);
    let list = list.map(|it| it.first().and_then(|it| it.equity));
    checks.answer("", "has one equity in the list", list, |list| {
        same(*list, equity, OF_CENT)
    })?;
    let portfolio = live::read_live_portfolio(project);
    let portfolio = checks.answer("", "has one equity in the portfolio", portfolio, |it| {
        let cash = it.cash.iter().map(|it| it.value_in_account_currency);
        let held = it.holdings.iter().map(|it| it.market_value);
        same(cash.chain(held).sum(), equity, OF_CENT)
    })?;
    checks.answer(
        "",
        "has profits over purchase values as fractions",
        Ok::<_, Error>(portfolio.holdings),
        |it| {
            it.iter().all(|it| {
                let cost = it.average_price.zip(it.quantity).map(|(a, q)| a * q.abs());
                let share = it.unrealized_profit.zip(cost).map(|(u, cost)| u / cost);
                same(share, it.unrealized_return, OF_TEXT)
            })
        },
    )?;
    let request = LiveChartRequest {
        project_id: project,
        name: "Strategy Equity".into(),
        count: 4_000,
        start: 0,
        end: 2_000_000_000,
    };
    let chart = wait::until_ready(|| live::read_live_chart(&request));
    let chart = chart.map(|it| {
        let all = values(&it, "Equity");
        let start = all.first().copied();
        let growth = start
            .zip(all.last())
            .map(|(first, last)| last / first - 1.0);
        (all.last().copied(), growth)
    });
    checks.answer("", "has one equity and return in a chart", chart, |it| {
        let text = algorithm.runtime_statistic("Return");
        // The text has two digits.
        same(it.0, equity, OF_CENT) && same(it.1, text, 0.000_051)
    })?;
    Some(())
}
