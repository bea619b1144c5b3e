//! Decoding of QuantConnect's answers in all their forms, and encoding of an agent's arguments.

use proptest::prelude::*;
use qchost_catalog::{Operation, by_tool};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Arguments, LeftOut, scalar};
use crate::contract::quantconnect::api::backtests::{
    Backtest, BacktestList, BacktestStatus, Chart, OrderPage,
};
use crate::contract::quantconnect::api::live::{LiveAlgorithm, LiveStatus, Portfolio};
use crate::contract::quantconnect::api::nodes::ProjectNodes;
use crate::contract::quantconnect::api::optimizations::{Optimization, OptimizationSummary};
use crate::contract::quantconnect::api::projects::Project;
use crate::contract::quantconnect::api::types::{
    ChartType, Language, OrderDirection, OrderStatus, OrderType, SeriesType,
};

fn operation(tool: &str) -> &'static Operation {
    by_tool(tool).unwrap()
}

fn decode_answer<T: DeserializeOwned>(
    operation: &'static Operation,
    body: Value,
) -> Result<T, super::Misfit> {
    super::decode_answer(operation, body, &LeftOut::default())
}

/// A typed answer, with the number of rows left out and the reason for the first.
fn partly<T: DeserializeOwned>(tool: &str, body: Value) -> (T, Option<(u32, String)>) {
    let left_out = LeftOut::default();
    let answer = super::decode_answer(operation(tool), body, &left_out);
    let answer = answer.unwrap_or_else(|misfit| panic!("{tool}: {misfit}"));
    let left_out = left_out.finish();
    (
        answer,
        left_out.map(|(rows, first)| (rows, first.to_string())),
    )
}

fn answer<T: DeserializeOwned>(tool: &str, body: Value) -> T {
    decode_answer(operation(tool), body).unwrap_or_else(|misfit| panic!("{tool}: {misfit}"))
}

fn misfit<T: DeserializeOwned + std::fmt::Debug>(tool: &str, body: Value) -> String {
    decode_answer::<T>(operation(tool), body)
        .unwrap_err()
        .to_string()
}

#[test]
fn parameters_of_a_project_are_read_from_a_list_of_pairs_too() {
    let project = |parameters: Value| json!({ "projects": [{ "projectId": 7, "name": "a", "parameters": parameters }] });
    for parameters in [
        json!([{ "key": "fast", "value": 5 }, { "key": "slow", "value": "20" }]),
        json!({ "fast": "5", "slow": 20 }),
    ] {
        let projects: Vec<Project> = answer("read_project", project(parameters));
        let expected = [("fast", "5"), ("slow", "20")];
        assert_eq!(
            projects[0].parameters,
            expected.map(|(key, value)| (key.to_owned(), value.to_owned()))
        );
    }
    for wrong in [
        json!([7]),
        json!([{ "key": "fast" }]),
        json!([{ "value": 5 }]),
    ] {
        let error = misfit::<Vec<Project>>("read_project", project(wrong));
        assert!(error.contains("found a list"), "{error}");
    }
}

#[test]
fn a_backtest_as_the_cloud_sends_it() {
    let backtest: Backtest = answer(
        "read_backtest",
        json!({ "success": true, "backtest": {
            "backtestId": "b1", "projectId": 23456789.0, "name": "Fast", "note": null,
            "status": "Running: 30%", "completed": false, "progress": "0.3",
            "parameterSet": { "fast": 10, "slow": "50", "off": null },
            "statistics": { "Sharpe Ratio": "0.731", "Net Profit": "-12.3%", "Equity": "$1,234.50", "Alpha": "-" },
            "runtimeStatistics": [],
            "totalPerformance": { "tradeStatistics": { "averageMAE": "-3.5" }, "portfolioStatistics": [], "closedTrades": null },
            "rollingWindow": { "M1_20240131": { "portfolioStatistics": { "sharpeRatio": 1.5 } } },
            "charts": { "Strategy Equity": { "name": "Strategy Equity" }, "Drawdown": [] },
            "tradeableDates": "252", "nodeName": "",
        }}),
    );
    assert_eq!(backtest.project_id, Some(23_456_789));
    assert!(matches!(backtest.status, Some(BacktestStatus::Running)));
    assert_eq!(backtest.progress, Some(0.3));
    assert_eq!(backtest.note, None);
    assert_eq!(backtest.tradeable_dates, Some(252));
    assert_eq!(
        backtest.parameter_set,
        [
            ("fast".to_owned(), "10".to_owned()),
            ("slow".to_owned(), "50".to_owned())
        ]
    );
    let figures: Vec<_> = backtest
        .statistics
        .iter()
        .map(|s| (s.name.as_str(), s.text.as_str(), s.value))
        .collect();
    assert_eq!(
        figures,
        [
            ("Sharpe Ratio", "0.731", Some(0.731)),
            ("Net Profit", "-12.3%", Some(-0.123)),
            ("Equity", "$1,234.50", Some(1234.5)),
            ("Alpha", "-", None),
        ]
    );
    let performance = backtest.total_performance.unwrap();
    assert_eq!(
        performance.trade_statistics.unwrap().average_mae,
        Some(-3.5)
    );
    assert!(performance.portfolio_statistics.is_none());
    let (window, figures) = &backtest.rolling_window[0];
    assert_eq!(window, "M1_20240131");
    assert_eq!(
        figures.portfolio_statistics.as_ref().unwrap().sharpe_ratio,
        Some(1.5)
    );
    let charts: Vec<_> = backtest.charts.iter().map(|chart| &chart.name).collect();
    assert_eq!(charts, ["Strategy Equity", "Drawdown"]);
}

#[test]
fn points_of_a_chart_in_every_form() {
    let chart: Chart = answer(
        "read_backtest_chart",
        json!({ "chart": { "name": "Strategy Equity", "chartType": 1, "series": {
            "Equity": { "unit": "$", "index": 0, "seriesType": 2, "values": [
                [1_700_000_000, 1.0, 2.0, 0.5, 1.5], [1_700_000_060, null], { "x": 3, "y": 4.5 },
                { "time": "5", "open": 1, "high": 2, "low": null, "close": 1.5 }, { "t": 6, "v": 7 }, null,
            ]},
            "Odd": { "seriesType": 99, "values": [] },
        }}}),
    );
    assert!(matches!(chart.chart_type, Some(ChartType::Stacked)));
    let series = &chart.series[0];
    assert_eq!(series.name, "Equity");
    assert!(matches!(series.series_type, Some(SeriesType::Candle)));
    let points: Vec<_> = series
        .values
        .iter()
        .map(|point| (point.time, point.values.clone()))
        .collect();
    assert_eq!(
        points,
        [
            (1.7e9, vec![Some(1.0), Some(2.0), Some(0.5), Some(1.5)]),
            (1.700_000_06e9, vec![None]),
            (3.0, vec![Some(4.5)]),
            (5.0, vec![Some(1.0), Some(2.0), None, Some(1.5)]),
            (6.0, vec![Some(7.0)]),
        ]
    );
    assert!(matches!(&chart.series[1].series_type, Some(SeriesType::Other(kind)) if kind == "99"));
}

#[test]
fn orders_carry_their_status_as_number_and_as_word() {
    let page: OrderPage = answer(
        "read_backtest_orders",
        json!({ "orders": [{ "id": 1, "symbol": { "value": "SPY" }, "type": 0, "status": 3, "direction": 1,
                 "brokerId": [7, "a"], "events": [{ "status": "filled", "direction": "sell" }] },
                 { "id": "2", "type": 77, "status": "weird", "events": [] }], "length": 2 }),
    );
    let first = &page.orders[0];
    assert!(matches!(first.type_, Some(OrderType::Market)));
    assert!(matches!(first.status, Some(OrderStatus::Filled)));
    assert!(matches!(first.direction, Some(OrderDirection::Sell)));
    assert_eq!(first.broker_id, ["7", "a"]);
    assert!(matches!(first.events[0].status, Some(OrderStatus::Filled)));
    assert!(matches!(
        first.events[0].direction,
        Some(OrderDirection::Sell)
    ));
    let second = &page.orders[1];
    assert_eq!(second.id, 2);
    assert!(matches!(&second.type_, Some(OrderType::Other(kind)) if kind == "77"));
    assert!(matches!(&second.status, Some(OrderStatus::Other(status)) if status == "weird"));
}

#[test]
fn lists_that_come_as_objects_know_their_keys() {
    let portfolio: Portfolio = answer(
        "read_live_portfolio",
        json!({ "portfolio": {
            "holdings": { "SPY R735QTJ8XC9X": { "a": 400.5, "q": 10, "p": "410", "v": 4100, "u": 95, "up": 2.4 } },
            "cash": { "USD": { "amount": 5000, "conversionRate": 1, "currencySymbol": "$" } } } }),
    );
    assert_eq!(portfolio.holdings[0].symbol_id, "SPY R735QTJ8XC9X");
    assert_eq!(portfolio.holdings[0].market_price, Some(410.0));
    assert_eq!(portfolio.holdings[0].unrealized_return, Some(0.024));
    assert_eq!(portfolio.cash[0].currency, "USD");

    let empty: Portfolio = answer(
        "read_live_portfolio",
        json!({ "portfolio": { "holdings": [], "cash": null } }),
    );
    assert!(empty.holdings.is_empty() && empty.cash.is_empty());

    let nodes: ProjectNodes = answer(
        "read_project_nodes",
        json!({ "nodes": [], "autoSelectNode": 1 }),
    );
    assert!(nodes.nodes.backtest.is_empty());
    assert_eq!(nodes.auto_select_node, Some(true));
}

#[test]
fn an_optimisation_has_its_figures_by_position() {
    let optimization: Optimization = answer(
        "read_optimization",
        json!({ "optimization": { "optimizationId": "O-1", "projectId": 5, "status": "completed",
            "runtimeStatistics": { "Completed": "2", "Average Length": "00:00:01" },
            "backtests": { "b1": { "id": "b1", "statistics": [0.1, null, 0.3], "equity": [[1, 100000]],
                            "parameterSet": { "fast": 5.5 } } } } }),
    );
    let backtest = &optimization.backtests[0];
    let figures: Vec<_> = backtest
        .statistics
        .iter()
        .map(|s| (s.name.as_str(), s.value))
        .collect();
    assert_eq!(
        figures,
        [("Alpha", Some(0.1)), ("Annual Variance", Some(0.3))]
    );
    assert_eq!(
        backtest.parameter_set,
        [("fast".to_owned(), "5.5".to_owned())]
    );
    assert_eq!(backtest.equity[0].values, [Some(100_000.0)]);
    assert_eq!(optimization.runtime_statistics[0].value, Some(2.0));
    assert_eq!(optimization.runtime_statistics[1].value, None);
}

#[test]
fn the_statistics_of_a_row_come_by_position_and_by_name() {
    let row = |statistics: Value| -> Vec<(String, String, Option<f64>)> {
        let optimization: Optimization = answer(
            "read_optimization",
            json!({ "optimization": { "optimizationId": "O-1", "projectId": 5,
                "backtests": { "b1": { "id": "b1", "statistics": statistics } } } }),
        );
        let rows = optimization.backtests.into_iter();
        rows.flat_map(|row| row.statistics)
            .map(|s| (s.name, s.text, s.value))
            .collect()
    };
    let statistic = |name: &str, text: &str, value: f64| {
        let (name, text) = (name.to_owned(), text.to_owned());
        (name, text, Some(value))
    };
    let mut list = vec![Value::Null; 25];
    list[6] = json!(52.602);
    list[7] = json!("4.4%");
    list[15] = json!(1.5);
    list[24] = json!(12);
    let expected = [
        statistic("Compounding Annual Return", "52.602%", 0.52602),
        statistic("Drawdown", "4.4%", 0.044),
        statistic("Sharpe Ratio", "1.5", 1.5),
        statistic("Drawdown Recovery", "12", 12.0),
    ];
    assert_eq!(row(json!(list)), expected);
    let keyed = json!({ "6": 52.602, "7": "4.4%", "15": 1.5, "24": 12 });
    assert_eq!(row(keyed), expected);
    // An algorithm's own statistic has no known unit, and a position that is not known its number for a name.
    assert_eq!(
        row(json!({ "Hit Rate": 61.5, "Net Profit": 12.5, "99": "3" })),
        [
            statistic("Hit Rate", "61.5", 61.5),
            statistic("Net Profit", "12.5%", 0.125),
            statistic("99", "3", 3.0),
        ]
    );
}

#[test]
fn shares_are_fractions_however_they_are_sent() {
    let list: BacktestList = answer(
        "list_backtests",
        json!({ "count": 1, "backtests": [{ "backtestId": "b", "drawdown": 4.4, "netProfit": "12.3%",
            "compoundingAnnualReturn": "52.602", "psr": "NaN", "winRate": 0.55, "lossRate": 0.45,
            "securityTypes": "Equity" }] }),
    );
    let one = &list.backtests[0];
    assert_eq!((one.drawdown, one.net_profit), (Some(0.044), Some(0.123)));
    assert_eq!(one.compounding_annual_return, Some(0.52602));
    assert_eq!(one.psr, None);
    assert_eq!((one.win_rate, one.loss_rate), (Some(0.55), Some(0.45)));
    assert_eq!(one.security_types.as_deref(), Some("Equity"));
    let number: BacktestList = answer(
        "list_backtests",
        json!({ "backtests": [{ "backtestId": "b", "securityTypes": 2 }] }),
    );
    assert_eq!(number.backtests[0].security_types.as_deref(), Some("2"));
    let list: Vec<OptimizationSummary> = answer(
        "list_optimizations",
        json!({ "optimizations": [{ "optimizationId": "o", "psr": 71.5, "sharpeRatio": 1.5 }] }),
    );
    assert_eq!(
        (list[0].psr, list[0].sharpe_ratio),
        (Some(0.715), Some(1.5))
    );
    // A chart says its unit itself.
    let chart: Chart = answer(
        "read_backtest_chart",
        json!({ "chart": { "name": "Drawdown", "series": {
            "Equity Drawdown": { "unit": "%", "values": [[1, -4.4], { "x": 2, "y": "-1.5" }, [3, null]] },
            "Equity": { "unit": "$", "values": [[1, 12.3]] },
        } } }),
    );
    let values = |at: usize| -> Vec<_> {
        let points = chart.series[at].values.iter();
        points.flat_map(|point| point.values.clone()).collect()
    };
    assert_eq!(values(0), [Some(-0.044), Some(-0.015), None]);
    assert_eq!(values(1), [Some(12.3)]);
}

#[test]
fn a_trade_has_its_symbols_under_either_name() {
    let symbols = |trade: Value| -> Vec<Option<String>> {
        let backtest: Backtest = answer(
            "read_backtest",
            json!({ "backtest": { "backtestId": "b", "totalPerformance": { "closedTrades": [trade] } } }),
        );
        let mut trades = backtest.total_performance.unwrap().closed_trades;
        let symbols = trades.remove(0).symbols.into_iter();
        symbols.map(|symbol| symbol.value).collect()
    };
    let (spy, qqq) = (json!({ "value": "SPY" }), json!({ "value": "QQQ" }));
    let named = |name: &str| Some(name.to_owned());
    assert_eq!(symbols(json!({ "symbol": spy })), [named("SPY")]);
    assert_eq!(
        symbols(json!({ "symbols": [spy, qqq] })),
        [named("SPY"), named("QQQ")]
    );
    // The list takes precedence, wherever it stands.
    let both = json!({ "symbol": spy, "symbols": [qqq] });
    assert_eq!(symbols(both), [named("QQQ")]);
    let null = json!({ "symbol": spy, "symbols": null });
    assert_eq!(symbols(null), [named("SPY")]);
    assert!(symbols(json!({ "symbol": "SPY", "id": "t" })).is_empty());
    assert!(symbols(json!({ "symbol": null, "id": "t" })).is_empty());
}

#[test]
fn the_legs_of_a_combination_know_their_group() {
    let page: OrderPage = answer(
        "read_backtest_orders",
        json!({ "length": 2, "orders": [
            { "id": 2, "contingentId": 1, "type": 9, "triggerPrice": "410.5", "triggerTouched": true, "isMarketable": false,
              "properties": { "timeInForce": { "expiry": 7 } },
              "groupOrderManager": { "id": 1, "quantity": -2, "count": 2, "limitPrice": 1.25, "orderIds": [1, 2], "direction": 1 },
              "events": [{ "id": "b-2-1", "algorithmId": "b", "symbolPermtick": "SPY", "isInTheMoney": true }] },
            { "id": 3, "properties": [], "groupOrderManager": null },
        ] }),
    );
    let leg = &page.orders[0];
    assert!(matches!(leg.type_, Some(OrderType::ComboLimit)));
    assert_eq!(leg.contingent_id, Some(1));
    assert_eq!(
        (leg.trigger_price, leg.trigger_touched),
        (Some(410.5), Some(true))
    );
    assert_eq!(leg.is_marketable, Some(false));
    let properties = leg.properties.as_ref().unwrap();
    assert_eq!(properties.time_in_force.as_deref(), Some("{\"expiry\":7}"));
    let group = leg.group_order_manager.as_ref().unwrap();
    assert_eq!((group.id, group.count), (Some(1), Some(2)));
    assert_eq!(
        (group.quantity, group.limit_price),
        (Some(-2.0), Some(1.25))
    );
    assert_eq!(group.order_ids, [1, 2]);
    assert!(matches!(group.direction, Some(OrderDirection::Sell)));
    let event = &leg.events[0];
    assert_eq!(event.id.as_deref(), Some("b-2-1"));
    assert_eq!(event.algorithm_id.as_deref(), Some("b"));
    assert_eq!(event.symbol_permtick.as_deref(), Some("SPY"));
    assert_eq!(event.is_in_the_money, Some(true));
    let alone = &page.orders[1];
    assert!(alone.properties.is_none() && alone.group_order_manager.is_none());
}

#[test]
fn what_quantconnect_has_found_wrong_with_a_backtest_comes_with_it() {
    let backtest: Backtest = answer(
        "read_backtest",
        json!({ "backtest": { "backtestId": "b",
            "serverStatistics": { "CPU Usage": "3%" },
            "totalPerformance": { "portfolioStatistics": { "drawdownRecovery": 12 } },
            "analysis": [
                { "name": "FlatEquityCurveAnalysis", "issue": "It did not trade.", "sample": { "equity": 1 }, "count": 3,
                  "solutions": ["Check the conditions."] },
                { "issue": "Another one.", "sample": null },
            ],
        } }),
    );
    let [flat, other] = &backtest.analysis[..] else {
        panic!("{:?}", backtest.analysis);
    };
    assert_eq!(flat.name.as_deref(), Some("FlatEquityCurveAnalysis"));
    assert_eq!(flat.issue.as_deref(), Some("It did not trade."));
    assert_eq!(flat.sample.as_deref(), Some("{\"equity\":1}"));
    assert_eq!(flat.count, Some(3));
    assert_eq!(flat.solutions, ["Check the conditions."]);
    assert!(other.sample.is_none() && other.solutions.is_empty());
    let server = &backtest.server_statistics[0];
    assert_eq!(
        (server.name.as_str(), server.value),
        ("CPU Usage", Some(0.03))
    );
    let figures = backtest.total_performance.unwrap().portfolio_statistics;
    assert_eq!(figures.unwrap().drawdown_recovery, Some(12.0));
}

#[test]
fn a_deployment_that_waits_for_a_person_or_rests_is_not_of_an_unknown_state() {
    let status = |status: &str| {
        let body = json!({ "deployId": "L-1", "status": status });
        answer::<LiveAlgorithm>("read_live_algorithm", body).status
    };
    assert!(matches!(
        status("PendingInput"),
        Some(LiveStatus::PendingInput)
    ));
    assert!(matches!(status("Idle"), Some(LiveStatus::Idle)));
    assert!(matches!(status("Dreaming"), Some(LiveStatus::Other(word)) if word == "Dreaming"));
}

#[test]
fn a_project_names_the_key_that_its_files_are_encrypted_with() {
    let project = json!({ "projectId": 7, "name": "a", "channelId": "c-1", "encrypted": true,
        "encryptionKey": { "id": "k-1", "name": "Main" } });
    let projects: Vec<Project> = answer("read_project", json!({ "projects": [project] }));
    let project = &projects[0];
    assert_eq!(project.channel_id.as_deref(), Some("c-1"));
    let key = project.encryption_key.as_ref().unwrap();
    assert_eq!(
        (key.id.as_deref(), key.name.as_deref()),
        (Some("k-1"), Some("Main"))
    );
}

proptest! {
    /// A number of per cent is the double nearest to its hundredth, in every form.
    #[test]
    fn percentages_are_exact(number in any::<f64>().prop_filter("finite", |it| it.is_finite())) {
        let (digits, exponent) = {
            let text = format!("{number:e}");
            let (digits, exponent) = text.split_once('e').unwrap();
            (digits.to_owned(), exponent.parse::<i32>().unwrap())
        };
        let hundredfold = format!("{digits}e{}", exponent + 2);
        for form in [json!(hundredfold), json!(format!(" {hundredfold} %"))] {
            prop_assert_eq!(scalar::percentage(&form), Ok(number));
        }
        prop_assert_eq!(scalar::figure(&format!("{hundredfold}%")), Some(number));
    }

    #[test]
    fn no_text_panics_as_a_percentage(text in ".{0,40}", places in any::<i32>()) {
        let number = scalar::percentage(&json!(text)).ok();
        prop_assert!(number.is_none_or(f64::is_finite));
        prop_assert!(scalar::shifted(&text, places).is_none_or(f64::is_finite));
    }
}

#[test]
fn what_does_not_fit_is_named_with_its_path() {
    let project = json!({ "projects": [null, { "projectId": -1, "name": "b" }, {}] });
    assert_eq!(
        misfit::<Vec<Project>>("read_project", project),
        "`projects[1].projectId`: expected a whole number from 0 to 4294967295, found -1",
        "of none of them nothing is known"
    );
    // Only a list can say that there are no items.
    assert_eq!(
        misfit::<Vec<Project>>("list_projects", json!({ "success": true })),
        "`projects`: missing"
    );
    let none: Vec<Project> = answer("list_projects", json!({ "projects": [] }));
    assert!(none.is_empty());
    assert_eq!(
        misfit::<Backtest>("read_backtest", json!({ "backtest": { "name": "a" } })),
        "`backtest.backtestId`: missing"
    );
    assert_eq!(
        misfit::<Backtest>("read_backtest", json!({ "success": true })),
        "`backtest`: missing"
    );
    assert_eq!(
        misfit::<Backtest>(
            "read_backtest",
            json!({ "backtest": { "backtestId": "b", "statistics": { "Alpha": {} } } })
        ),
        "`backtest.statistics.Alpha`: expected a text, found {}"
    );
    let long = misfit::<Backtest>(
        "read_backtest",
        json!({ "backtest": { "backtestId": ["x".repeat(10_000)] } }),
    );
    assert!(long.len() < 300 && long.ends_with('…'), "{long}");
}

#[test]
fn a_row_that_cannot_be_read_is_left_out_and_counted() {
    let rows = json!({ "projects": [
        { "projectId": 1, "name": "a" },
        { "projectId": 4_294_967_296_u64, "name": "b" },
        { "name": "no id" },
        "no project",
        null,
        { "projectId": 2, "name": "c" },
    ] });
    let (projects, left_out) = partly::<Vec<Project>>("read_project", rows);
    let ids: Vec<_> = projects.iter().map(|project| project.project_id).collect();
    assert_eq!(ids, [1, 2]);
    let first = "`[1].projectId`: expected a whole number from 0 to 4294967295, found 4294967296";
    assert_eq!(left_out, Some((4, first.to_owned())));
    // A null is a missing row, and a list of nulls is not an empty list.
    let nulls = json!({ "projects": [{ "projectId": 1, "name": "a" }, null, null] });
    let (projects, left_out) = partly::<Vec<Project>>("read_project", nulls);
    assert_eq!(projects.len(), 1);
    let first = "`[1]`: expected a row of the list, found null";
    assert_eq!(left_out, Some((2, first.to_owned())));
    let none = json!({ "projects": [null] });
    assert_eq!(
        misfit::<Vec<Project>>("read_project", none),
        "`projects[0]`: expected a row of the list, found null"
    );
    let keyed =
        json!({ "portfolio": { "holdings": { "SPY": { "q": 1 }, "QQQ": null }, "cash": {} } });
    let (portfolio, left_out) = partly::<Portfolio>("read_live_portfolio", keyed);
    assert_eq!(portfolio.holdings.len(), 1);
    assert_eq!(left_out.unwrap().0, 1);
    // A parameter or a figure without a value is no row.
    let unset = json!({ "backtest": { "backtestId": "b", "projectId": 1, "name": "n",
        "parameterSet": { "fast": 1, "off": null }, "statistics": { "Alpha": null } } });
    let (_, left_out) = partly::<Backtest>("read_backtest", unset);
    assert_eq!(left_out, None);

    // In an object that stands for a list, in a list of a row, and a point of a chart.
    let holdings = json!({ "portfolio": {
        "holdings": { "SPY": { "q": 1 }, "odd": 7, "QQQ": { "q": 2 } }, "cash": {} } });
    let (portfolio, left_out) = partly::<Portfolio>("read_live_portfolio", holdings);
    assert_eq!(portfolio.holdings.len(), 2);
    assert_eq!(left_out.unwrap().0, 1);
    let orders =
        json!({ "length": 1, "orders": [{ "id": 1, "brokerId": ["a", {}, 3], "events": [] }] });
    let (page, left_out) = partly::<OrderPage>("read_backtest_orders", orders);
    assert_eq!(page.orders[0].broker_id, ["a", "3"]);
    assert_eq!(left_out.unwrap().0, 1);
    let chart = json!({ "chart": { "name": "c", "series": { "s": { "values": [
        [1, 1.0], ["NaN", 2.0], [3, "NaN"], "odd"] } } } });
    let (chart, left_out) = partly::<Chart>("read_backtest_chart", chart);
    let points: Vec<_> = chart.series[0]
        .values
        .iter()
        .map(|point| (point.time, point.values.clone()))
        .collect();
    assert_eq!(points, [(1.0, vec![Some(1.0)]), (3.0, vec![None])]);
    assert_eq!(left_out.unwrap().0, 2);

    let whole = json!({ "projects": [{ "projectId": 1, "name": "a" }] });
    assert_eq!(partly::<Vec<Project>>("read_project", whole).1, None);
}

#[test]
fn an_optional_field_that_cannot_be_read_is_absent() {
    let (backtest, left_out) = partly::<Backtest>(
        "read_backtest",
        json!({ "backtest": {
            "backtestId": "b", "progress": "NaN", "projectId": 4_294_967_296_u64, "tradeableDates": -1, "completed": "maybe",
            "name": ["no", "text"], "totalPerformance": "none", "status": { "odd": 1 },
            "rollingWindow": { "M1": { "tradeStatistics": 7, "portfolioStatistics": { "sharpeRatio": "Infinity", "alpha": 0.5 } } },
        } }),
    );
    assert_eq!(backtest.progress, None);
    assert_eq!(backtest.project_id, None);
    assert_eq!(backtest.tradeable_dates, None);
    assert_eq!(backtest.completed, None);
    assert_eq!(backtest.name, None);
    assert!(backtest.total_performance.is_none());
    assert!(matches!(backtest.status, Some(BacktestStatus::Other(_))));
    let (_, figures) = &backtest.rolling_window[0];
    assert!(figures.trade_statistics.is_none());
    let portfolio = figures.portfolio_statistics.as_ref().unwrap();
    assert_eq!((portfolio.sharpe_ratio, portfolio.alpha), (None, Some(0.5)));
    assert_eq!(left_out, None, "nothing but a row is left out");
}

#[test]
fn figures_are_read_as_quantconnect_writes_them() {
    for (text, number) in [
        ("12.3%", Some(0.123)),
        ("-$1,234.50", Some(-1234.5)),
        ("$-5", Some(-5.0)),
        ("€1 000", Some(1000.0)),
        ("1.5E-05", Some(1.5e-5)),
        ("0%", Some(0.0)),
        ("-", None),
        ("", None),
        ("%", None),
        ("$", None),
        ("NaN", None),
        ("1.02:03:04", None),
        ("2024-01-31", None),
        ("00:00:01", None),
        ("12 trades", None),
        ("1e999", None),
        (&"9".repeat(400), None),
        ("-0.5", Some(-0.5)),
        ("1-2", None),
        ("1.2.3", None),
    ] {
        assert_eq!(scalar::figure(text), number, "{text}");
    }
}

#[test]
fn arguments_are_flat_and_leave_out_what_is_not_given() {
    let mut arguments = Arguments::of(operation("create_backtest"));
    arguments.push(&7_u32).unwrap();
    arguments.push(&"c1".to_owned()).unwrap();
    arguments.push(&"Fast".to_owned()).unwrap();
    let parameters = vec![("fast".to_owned(), "10".to_owned())];
    arguments.push(&Some(parameters)).unwrap();
    assert_eq!(
        Value::Object(arguments.finish()),
        json!({ "projectId": 7, "compileId": "c1", "backtestName": "Fast", "parameters": { "fast": "10" } })
    );

    let mut arguments = Arguments::of(operation("create_project"));
    arguments.push(&"Lab".to_owned()).unwrap();
    arguments.push(&Language::CSharp).unwrap();
    arguments.push(&None::<String>).unwrap();
    assert_eq!(
        Value::Object(arguments.finish()),
        json!({ "name": "Lab", "language": "C#" })
    );
}

#[test]
fn bytes_go_as_text_or_else_as_base64() {
    let upload = |bytes: &[u8]| {
        let mut arguments = Arguments::of(operation("upload_object"));
        arguments.push(&"o".to_owned()).unwrap();
        arguments.push(&"k".to_owned()).unwrap();
        arguments.push(&bytes.to_vec()).unwrap();
        Value::Object(arguments.finish())
    };
    assert_eq!(
        upload("grün".as_bytes()),
        json!({ "organizationId": "o", "key": "k", "objectData": "grün" })
    );
    assert_eq!(
        upload(&[0xff, 0x00]),
        json!({ "organizationId": "o", "key": "k", "objectDataBase64": "/wA=" })
    );
}

#[test]
fn arguments_that_cannot_be_sent_say_why() {
    let command = |text: &str| {
        let mut arguments = Arguments::of(operation("create_live_command"));
        arguments.push(&7_u32).unwrap();
        arguments
            .push(&text.to_owned())
            .map(|()| arguments.finish())
    };
    assert_eq!(
        Value::Object(command(r#"{"$type":"Order"}"#).unwrap()),
        json!({ "projectId": 7, "command": { "$type": "Order" } })
    );
    let error = command("{").unwrap_err().to_string();
    assert!(error.starts_with("`command`: not JSON"), "{error}");
    for (text, says) in [
        (r#"{"a": 1, "a": 2}"#, "\"a\" is there twice"),
        (r#"{"a": 1E400}"#, "a number out of range"),
    ] {
        let error = command(text).unwrap_err().to_string();
        assert!(
            error.contains(says) && !error.contains("not JSON"),
            "{error}"
        );
    }
    // A number that a double would round keeps its text.
    assert_eq!(
        Value::Object(command(r#"{"a": 1e-400, "b": 1e5, "c": 0.5}"#).unwrap()),
        json!({ "projectId": 7, "command": { "a": "1e-400", "b": 1e5, "c": 0.5 } })
    );

    let mut arguments = Arguments::of(operation("create_backtest"));
    arguments.push(&7_u32).unwrap();
    arguments.push(&"c1".to_owned()).unwrap();
    arguments.push(&"Fast".to_owned()).unwrap();
    let twice = vec![
        ("a".to_owned(), "1".to_owned()),
        ("a".to_owned(), "2".to_owned()),
    ];
    let error = arguments.push(&Some(twice)).unwrap_err().to_string();
    assert_eq!(error, "`parameters.a`: there twice");
}
