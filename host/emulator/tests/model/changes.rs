//! One thing of a source is changed at a time; what changes in the results is what should.

use crate::{CROSSOVER, decisions, portfolio, run, run_with, statistic};
use qchost_emulator::engine::Report;

/// Both orders and statistics differ.
fn assert_differ(a: &Report, b: &Report) {
    assert_ne!(a.orders, b.orders);
    assert_ne!(a.statistics, b.statistics);
    assert_ne!(a.total_performance, b.total_performance);
}

/// Everything that a user sees is the same.
fn assert_same(a: &Report, b: &Report) {
    assert_eq!(a.orders, b.orders);
    assert_eq!(a.insights, b.insights);
    assert_eq!(a.statistics, b.statistics);
    assert_eq!(a.runtime_statistics, b.runtime_statistics);
    assert_eq!(a.total_performance, b.total_performance);
    assert_eq!(a.charts, b.charts);
    assert_eq!(a.days, b.days);
}

#[test]
fn the_same_job_gives_the_same_report() {
    let (a, b) = (run(CROSSOVER), run(CROSSOVER));
    assert_eq!(a, b);
    assert!(a.orders.len() > 4, "{} orders", a.orders.len());
}

/// The numbers of one run, so that a change of the model, or a machine that computes otherwise, is
/// seen. Changing the model on purpose means changing these.
#[test]
fn the_numbers_are_the_same_on_every_machine() {
    let report = run(CROSSOVER);
    let seen = [
        "Total Orders",
        "Net Profit",
        "Sharpe Ratio",
        "Drawdown",
        "End Equity",
    ]
    .map(|name| statistic(&report, name));
    assert_eq!(seen, GOLDEN);
}

const GOLDEN: [&str; 5] = ["11", "47.990%", "0.863", "9.600%", "147990.10"];

#[test]
fn a_later_start_begins_later_and_trades_otherwise() {
    let base = run(CROSSOVER);
    let later = run(&CROSSOVER.replace("(2015, 1, 1)", "(2016, 1, 1)"));
    assert_differ(&base, &later);
    assert!(later.start > base.start);
    assert_eq!(later.end, base.end);
    assert!(later.tradeable_dates < base.tradeable_dates);
    // The prices of a day are the same in both.
    let price = |report: &Report, index: usize| report.charts[2].series[0].samples[index];
    let skipped = base.days.len() - later.days.len();
    assert_eq!(price(&base, skipped + 5), price(&later, 5));
}

#[test]
fn an_earlier_end_cuts_the_run_off_and_changes_nothing_before() {
    let base = run(CROSSOVER);
    let shorter = run(&CROSSOVER.replace("(2019, 12, 31)", "(2018, 6, 30)"));
    assert_differ(&base, &shorter);
    assert!(shorter.end < base.end);
    let common = shorter.days.len();
    assert_eq!(shorter.days[..common - 1], base.days[..common - 1]);
    let (cut, whole) = (decisions(&shorter), decisions(&base));
    assert!(cut.len() < whole.len());
    assert_eq!(cut[..], whole[..cut.len()]);
}

#[test]
fn more_cash_buys_more_on_the_same_days() {
    let base = run(CROSSOVER);
    let richer = run(&CROSSOVER.replace("100_000", "250_000"));
    assert_differ(&base, &richer);
    assert_eq!(decisions(&base), decisions(&richer));
    assert_eq!(portfolio(&richer, "startEquity"), 250_000.0);
    for (small, large) in base.orders.iter().zip(&richer.orders) {
        let quantity = |order: &serde_json::Value| order["quantity"].as_f64().unwrap().abs();
        assert!(quantity(large) > 2.0 * quantity(small));
    }
    // Fees and whole shares aside, the return does not depend on the cash.
    let difference = portfolio(&base, "totalNetProfit") - portfolio(&richer, "totalNetProfit");
    assert!(difference.abs() < 0.01, "{difference}");
}

#[test]
fn another_symbol_has_other_prices() {
    let base = run(CROSSOVER);
    let other = run(&CROSSOVER.replace("\"SPY\"", "\"QQQ\""));
    assert_differ(&base, &other);
    assert_ne!(decisions(&base), decisions(&other));
    assert!(other.orders.iter().all(|order| {
        order["symbol"]["value"] == "QQQ" && order["symbol"]["id"] == "QQQ R735QTJ8XC9X"
    }));
    // The benchmark is not the traded symbol.
    assert_eq!(base.charts[2], other.charts[2]);
}

#[test]
fn a_parameter_value_changes_the_average_that_it_flows_into() {
    let base = run(CROSSOVER);
    let slower = run_with(CROSSOVER, &[("slow", "150")]);
    assert_differ(&base, &slower);
    assert_eq!(slower.parameters["slow"], "150");
    assert_eq!(slower.parameters["fast"], "20");
    // It is the value that counts, not where it comes from.
    let written = run(&CROSSOVER.replace("(\"slow\", 100)", "(\"slow\", 150)"));
    assert_same(&slower, &written);
    assert_differ(
        &slower,
        &run_with(CROSSOVER, &[("slow", "150"), ("fast", "10")]),
    );
}

#[test]
fn a_default_counts_only_without_a_value() {
    let base = run(CROSSOVER);
    let other_default = CROSSOVER.replace("(\"fast\", 20)", "(\"fast\", 35)");
    assert_differ(&base, &run(&other_default));
    assert_same(&base, &run_with(&other_default, &[("fast", "20")]));
}

#[test]
fn a_value_under_the_old_name_no_longer_applies() {
    let with_value = run_with(CROSSOVER, &[("fast", "45")]);
    let renamed = CROSSOVER.replace("\"fast\"", "\"quick\"");
    assert_differ(&with_value, &run_with(&renamed, &[("fast", "45")]));
    assert_same(&run(CROSSOVER), &run_with(&renamed, &[("fast", "45")]));
    let new_name = run_with(&renamed, &[("quick", "45")]);
    assert_same(&with_value, &new_name);
    assert_eq!(new_name.parameters["quick"], "45");
    assert!(!new_name.parameters.contains_key("fast"));
}

#[test]
fn a_parameter_that_the_source_does_not_read_changes_nothing() {
    let base = run(CROSSOVER);
    let with_more = run_with(CROSSOVER, &[("other", "7"), ("Fast", "3"), ("", "x")]);
    assert_eq!(base, with_more);
}

#[test]
fn the_kind_of_average_matters() {
    assert_differ(
        &run(CROSSOVER),
        &run(&CROSSOVER.replace("self.sma", "self.ema")),
    );
}

#[test]
fn a_smaller_weight_buys_less_and_moves_less() {
    let base = run(CROSSOVER);
    let half = run(&CROSSOVER.replace("self._symbol, 1)", "self._symbol, 0.5)"));
    assert_differ(&base, &half);
    assert_eq!(decisions(&base), decisions(&half));
    let deviation = |report: &Report| portfolio(report, "annualStandardDeviation");
    let ratio = deviation(&half) / deviation(&base);
    assert!((0.4..0.6).contains(&ratio), "{ratio}");
}

#[test]
fn a_negative_weight_is_held_while_the_signal_is_down() {
    let short = CROSSOVER.replace(
        "self.liquidate(self._symbol)",
        "self.set_holdings(self._symbol, -1)",
    );
    let report = run(&short);
    assert!(
        report
            .days
            .iter()
            .any(|day| day.holdings.iter().any(|h| h.quantity < 0.0))
    );
    let trades = report.total_performance["closedTrades"].as_array().unwrap();
    let directions: Vec<u64> = trades
        .iter()
        .map(|trade| trade["direction"].as_u64().unwrap())
        .collect();
    assert!(
        directions.contains(&0) && directions.contains(&1),
        "{directions:?}"
    );
}

#[test]
fn warm_up_makes_averages_ready_earlier() {
    let cold = run(CROSSOVER);
    let add = |line: &str| {
        CROSSOVER.replace(
            "self.set_cash(100_000)",
            &format!("self.set_cash(100_000)\n        {line}"),
        )
    };
    let warm = run(&add("self.set_warm_up(100, Resolution.DAILY)"));
    let first = |report: &Report| report.orders[0]["time"].as_str().unwrap().to_owned();
    assert!(first(&warm) < first(&cold));
    // The 100th close of the run is the first on which a cold SMA(100) has a value.
    assert!(cold.days[..99].iter().all(|day| day.insights == 0));
    assert_same(
        &warm,
        &run(&add("self.settings.automatic_indicator_warm_up = True")),
    );
    assert_same(&warm, &run(&add("self.set_warm_up(timedelta(days=200))")));
}

#[test]
fn the_benchmark_changes_what_compares_with_it_and_no_order() {
    let base = run(CROSSOVER);
    let other = run(&CROSSOVER.replace(
        "self.set_cash(100_000)",
        "self.set_cash(100_000)\n        self.set_benchmark(\"TLT\")",
    ));
    assert_eq!(base.orders, other.orders);
    assert_ne!(statistic(&base, "Beta"), statistic(&other, "Beta"));
    assert_eq!(
        statistic(&base, "Sharpe Ratio"),
        statistic(&other, "Sharpe Ratio")
    );
}
