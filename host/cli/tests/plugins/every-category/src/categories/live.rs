//! `live`: deployed by a profile, watched in every way, deployed a second time beside it, stopped, deployed again,
//! liquidated.

use qchost_sdk::live::{
    AuthorizedBrokerage, Deployment, LiveChartRequest, LiveStatus, LiveStatusFilter, LogSearch,
};
use qchost_sdk::prelude::*;

use crate::checks::{Checks, not_found, rejected, unfit};
use crate::setup;

pub(crate) fn run(checks: &mut Checks, profile: &str) -> Option<()> {
    authorize(checks)?;
    let (project, compile) = checks.answer(
        "create-live-algorithm",
        "has a build",
        setup::built("live"),
        |_| true,
    )?;
    checks.refusal(
        "read-live-algorithm",
        "does not find one yet",
        live::read_live_algorithm(project, None),
        not_found,
    );

    let mut request = checks.answer(
        "create-live-algorithm",
        "has a node",
        setup::deployment(project, &compile, profile),
        |_| true,
    )?;
    let launched = live::create_live_algorithm(&request);
    let launch = checks.answer("create-live-algorithm", "gives an id", launched, |it| {
        it.project_id == Some(project) && it.deploy_id.as_deref().is_some_and(|it| !it.is_empty())
    })?;
    let deploy_id = launch.deploy_id?;
    let algorithm = checks.answer(
        "read-live-algorithm",
        "comes to run",
        setup::running(project, None),
        |it| {
            it.deploy_id.as_deref() == Some(&deploy_id)
                && it.launched.is_some()
                && it.stopped.is_none()
        },
    )?;
    checks.answer(
        "read-live-algorithm",
        "shows its files",
        Ok::<_, Error>(algorithm.files),
        |it| it.iter().any(|it| it.name == "main.py"),
    )?;
    checks.answer(
        "list-live-algorithms",
        "contains it",
        live::list_live_algorithms(Some(project), None),
        |it| {
            it.iter().any(|it| {
                it.deploy_id.as_deref() == Some(&deploy_id)
                    && it.status == Some(LiveStatus::Running)
            })
        },
    )?;
    let stopped = || live::list_live_algorithms(Some(project), Some(&LiveStatusFilter::Stopped));
    checks.answer(
        "list-live-algorithms",
        "can be narrowed",
        stopped(),
        Vec::is_empty,
    )?;
    let odd = live::list_live_algorithms(
        Some(project),
        Some(&LiveStatusFilter::Other("Sleeping".into())),
    );
    checks.refusal(
        "list-live-algorithms",
        "refuses a state that there is not",
        odd,
        unfit,
    );

    watch(checks, project, &deploy_id)?;
    beside(checks, &mut request, &deploy_id)?;

    for number in 1..=2 {
        checks.answer(
            "stop-live-algorithm",
            "ends one of two deployments",
            live::stop_live_algorithm(project).and_then(|()| stopped()),
            |it| it.len() == number,
        )?;
    }
    let read = live::read_live_algorithm(project, Some(&deploy_id));
    checks.answer("stop-live-algorithm", "shows in a read", read, |it| {
        it.status == Some(LiveStatus::Stopped) && it.stopped.is_some()
    })?;
    checks.refusal(
        "stop-live-algorithm",
        "does not know a project",
        live::stop_live_algorithm(1),
        not_found,
    );

    let liquidate = || live::liquidate_live_algorithm(project);
    checks.refusal(
        "liquidate-live-algorithm",
        "refuses one that is stopped",
        liquidate(),
        rejected,
    );
    request.node_id = checks.answer(
        "liquidate-live-algorithm",
        "has a node",
        setup::idle_node(project),
        |_| true,
    )?;
    let again = live::create_live_algorithm(&request).and_then(|_| setup::running(project, None));
    checks.answer(
        "liquidate-live-algorithm",
        "has one that runs",
        again,
        |_| true,
    )?;
    checks.answer("liquidate-live-algorithm", "succeeds", liquidate(), |()| {
        true
    })?;
    checks.answer(
        "liquidate-live-algorithm",
        "leaves no positions",
        live::read_live_portfolio(project),
        |it| it.holdings.is_empty() && !it.cash.is_empty(),
    )?;

    request.brokerage = "no-such-profile".into();
    let unknown = live::create_live_algorithm(&request);
    checks.refusal(
        "create-live-algorithm",
        "does not know a profile",
        unknown,
        |it| matches!(it, Error::InvalidArgument(_) | Error::Denied(_)),
    );
    Some(())
}

/// Deploys the project a second time: what is about one deployment has to name it.
fn beside(checks: &mut Checks, request: &mut Deployment, first: &str) -> Option<()> {
    let project = request.project_id;
    request.node_id = checks.answer(
        "create-live-algorithm",
        "has a second node",
        setup::idle_node(project),
        |_| true,
    )?;
    let launched = live::create_live_algorithm(request);
    let second = launched.and_then(|it| setup::running(project, it.deploy_id.as_deref()));
    let second = checks.answer(
        "create-live-algorithm",
        "runs beside the first",
        second.map(|it| it.deploy_id.unwrap_or_default()),
        |it| !it.is_empty() && it != first,
    )?;
    let several = |error: &Error| match error {
        Error::InvalidArgument(why) => why.contains(first) && why.contains(&second),
        _ => false,
    };
    let without = live::read_live_algorithm(project, None).map(|_| ());
    checks.refusal(
        "read-live-algorithm",
        "wants one to be named",
        without,
        several,
    );
    let without = live::read_live_details(project, None).map(|_| ());
    checks.refusal(
        "read-live-details",
        "wants one to be named",
        without,
        several,
    );
    let without = live::read_live_insights(project, None, 9, None).map(|_| ());
    checks.refusal(
        "read-live-insights",
        "wants one to be named",
        without,
        several,
    );
    let portfolio = live::read_live_portfolio(project).map(|_| ());
    checks.refusal(
        "read-live-portfolio",
        "is of none of several",
        portfolio,
        several,
    );
    for id in [first, second.as_str()] {
        checks.answer(
            "read-live-details",
            "says that it is a paper one",
            live::read_live_details(project, Some(id)),
            |it| {
                it.deploy_id.as_deref() == Some(id)
                    && it.brokerage.as_deref() == Some("PaperBrokerage")
                    && it.deployment_details.is_empty()
                    && !it.server_statistics.is_empty()
            },
        )?;
    }
    checks.answer(
        "list-latest-live-algorithms",
        "has the newest one",
        live::list_latest_live_algorithms(Some(project), None),
        |it| it.len() == 1 && it.iter().all(|it| it.deploy_id.as_deref() == Some(&second)),
    )?;
    checks.refusal(
        "list-latest-live-algorithms",
        "refuses a state that there is not",
        live::list_latest_live_algorithms(
            Some(project),
            Some(&LiveStatusFilter::Other("Sleeping".into())),
        ),
        unfit,
    );
    Some(())
}

fn authorize(checks: &mut Checks) -> Option<()> {
    let function = "authorize-connection";
    let asked = live::authorize_connection(&AuthorizedBrokerage::Tastytrade);
    let address = asked.map(|it| it.url.is_some_and(|it| it.starts_with("http")));
    checks.answer(function, "gives an address to open", address, |it| *it)?;
    let unknown = live::authorize_connection(&AuthorizedBrokerage::Other("piggybank".into()));
    checks.refusal(
        function,
        "refuses a brokerage that there is not",
        unknown.map(|_| ()),
        unfit,
    );
    Some(())
}

fn watch(checks: &mut Checks, project: u32, deploy_id: &str) -> Option<()> {
    let chart = |name: &str| {
        let request = LiveChartRequest {
            project_id: project,
            name: name.to_owned(),
            count: 50,
            start: 0,
            end: 2_000_000_000,
        };
        wait::until_ready(|| live::read_live_chart(&request))
    };
    checks.answer(
        "read-live-chart",
        "is the chart",
        chart("Strategy Equity"),
        |it| it.name == "Strategy Equity" && !it.series.is_empty(),
    )?;
    checks.refusal(
        "read-live-chart",
        "does not know a chart",
        chart("None"),
        not_found,
    );

    let logs = |start, end| live::read_live_logs(project, deploy_id, start, end);
    let line = setup::until("the log stayed empty", || {
        Ok(logs(0, 10)?.logs.into_iter().next())
    });
    checks.answer("read-live-logs", "gives lines", line, |it| !it.is_empty())?;
    checks.refusal(
        "read-live-logs",
        "refuses a slice that is too wide",
        logs(0, 5_000),
        unfit,
    );

    let search = |query: &str, end| {
        live::search_live_logs(&LogSearch {
            project_id: project,
            algorithm_id: deploy_id.to_owned(),
            start_line: 0,
            end_line: end,
            query: Some(query.to_owned()),
            deployment_only: Some(true),
        })
    };
    checks.answer(
        "search-live-logs",
        "finds nothing that is not there",
        search("no line has this", 10),
        |it| it.logs.is_empty() && it.length == Some(0),
    )?;
    checks.refusal(
        "search-live-logs",
        "refuses a slice that is too wide",
        search("", 5_000),
        unfit,
    );

    let trades = |id, end| wait::until_ready(|| live::read_live_trades(project, id, 0, end));
    for id in [None, Some(deploy_id)] {
        checks.answer("read-live-trades", "is a page", trades(id, 100), |it| {
            u32::try_from(it.trades.len()).is_ok_and(|shown| shown <= it.length)
        })?;
    }
    checks.refusal(
        "read-live-trades",
        "refuses a slice that is too wide",
        trades(None, 5_000),
        unfit,
    );

    checks.answer(
        "read-live-portfolio",
        "has cash",
        live::read_live_portfolio(project),
        |it| {
            it.cash
                .iter()
                .any(|it| it.currency == "USD" && it.amount.is_some())
                && it
                    .holdings
                    .iter()
                    .all(|it| !it.symbol_id.is_empty() && it.quantity.is_some())
        },
    )?;
    checks.refusal(
        "read-live-portfolio",
        "does not know a project",
        live::read_live_portfolio(1),
        not_found,
    );

    // An order needs a change of prices first.
    let orders = setup::until("no order came", || {
        let page = wait::until_ready(|| live::read_live_orders(project, 0, 100))?;
        Ok(Some(page).filter(|it| it.length > 0))
    });
    checks.answer("read-live-orders", "has orders", orders, |it| {
        it.orders
            .iter()
            .all(|it| it.status.is_some() && it.direction.is_some())
    })?;
    let wide = wait::until_ready(|| live::read_live_orders(project, 0, 5_000));
    checks.refusal(
        "read-live-orders",
        "refuses a slice that is too wide",
        wide,
        unfit,
    );
    checks.answer(
        "read-live-insights",
        "is a page",
        live::read_live_insights(project, None, 50, Some(deploy_id)),
        |it| u32::try_from(it.insights.len()).is_ok_and(|shown| shown <= it.length),
    )?;
    Some(())
}
