//! The statistics are computed again here, from orders and equity, by their definitions.

use qchost_emulator::engine::Report;
use serde_json::Value;

use crate::{CROSSOVER, algorithm, portfolio, run, run_with, statistic};

fn number(text: &str) -> f64 {
    text.replace(['$', '%', ','], "").trim().parse().unwrap()
}

fn close(a: f64, b: f64, tolerance: f64) {
    assert!((a - b).abs() <= tolerance, "{a} is not {b}");
}

fn field(value: &Value, name: &str) -> f64 {
    value[name]
        .as_f64()
        .unwrap_or_else(|| panic!("no number {name} in {value}"))
}

fn equity(report: &Report) -> Vec<f64> {
    report.days.iter().map(|day| day.equity).collect()
}

fn returns(values: &[f64]) -> Vec<f64> {
    values
        .windows(2)
        .map(|pair| pair[1] / pair[0] - 1.0)
        .collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn covariance(a: &[f64], b: &[f64]) -> f64 {
    let sum: f64 = a
        .iter()
        .zip(b)
        .map(|(x, y)| (x - mean(a)) * (y - mean(b)))
        .sum();
    sum / (a.len() as f64 - 1.0)
}

/// Runs with long and short trades, several symbols, and few and many orders.
fn reports() -> Vec<Report> {
    let short = CROSSOVER.replace(
        "self.liquidate(self._symbol)",
        "self.set_holdings(self._symbol, -0.5)",
    );
    let many = algorithm(
        "self.set_start_date(2010, 3, 1)\nself.set_end_date(2014, 2, 28)\nself.set_cash(50000)\n\
         self._symbols = [self.add_equity(t, Resolution.DAILY).symbol for t in [\"A\", \"B\", \"C\"]]\n\
         self._averages = {}\n\
         for s in self._symbols:\n    self._averages[s] = (self.ema(s, 5), self.ema(s, 25))",
        "for s in self._symbols:\n    self.set_holdings(s, 1 / len(self._symbols))",
    );
    vec![
        run(CROSSOVER),
        run_with(CROSSOVER, &[("fast", "3"), ("slow", "8")]),
        run(&short),
        run(&many),
    ]
}

#[test]
fn cash_and_equity_follow_from_the_orders() {
    for report in reports() {
        let mut cash = portfolio(&report, "startEquity");
        let mut held = std::collections::BTreeMap::<String, f64>::new();
        let mut orders = report.orders.iter();
        let mut fees = 0.0;
        for (index, day) in report.days.iter().enumerate() {
            let before = index
                .checked_sub(1)
                .map_or(0, |before| report.days[before].orders);
            for order in orders.by_ref().take(day.orders - before) {
                assert_eq!(order["status"], 3);
                let quantity = field(order, "quantity");
                let fill = &order["events"][1];
                let fee = field(fill, "orderFeeAmount");
                assert!(fee >= 1.0);
                cash -= quantity * field(order, "price") + fee;
                fees += fee;
                let id = order["symbol"]["id"].as_str().unwrap().to_owned();
                *held.entry(id).or_default() += quantity;
            }
            held.retain(|_, quantity| *quantity != 0.0);
            let shown: std::collections::BTreeMap<String, f64> = day
                .holdings
                .iter()
                .map(|holding| (holding.symbol_id.clone(), holding.quantity))
                .collect();
            assert_eq!(held, shown);
            close(day.cash, cash, 1e-6);
            let value: f64 = day
                .holdings
                .iter()
                .map(|h| h.quantity * h.market_price)
                .sum();
            close(day.equity, cash + value, 1e-6);
        }
        assert!(orders.next().is_none());
        close(number(statistic(&report, "Total Fees")), fees, 0.006);
        close(
            -number(report.runtime_statistics["Fees"].as_str().unwrap()),
            fees,
            0.006,
        );
    }
}

#[test]
fn totals_agree_with_the_lists() {
    for report in reports() {
        let equity = equity(&report);
        assert_eq!(
            number(statistic(&report, "Total Orders")),
            report.orders.len() as f64
        );
        close(number(statistic(&report, "Start Equity")), equity[0], 0.006);
        close(
            number(statistic(&report, "End Equity")),
            equity[equity.len() - 1],
            0.006,
        );
        close(
            portfolio(&report, "endEquity"),
            equity[equity.len() - 1],
            1e-4,
        );
        let profit = equity[equity.len() - 1] / equity[0] - 1.0;
        close(portfolio(&report, "totalNetProfit"), profit, 1e-6);
        close(
            number(statistic(&report, "Net Profit")),
            100.0 * profit,
            0.000_6,
        );
        assert_eq!(report.tradeable_dates as usize, report.days.len());
        let last = report.days.last().unwrap();
        assert_eq!(last.orders, report.orders.len());
        assert_eq!(last.insights, report.insights.len());
        assert_eq!(last.logs, report.logs.len());
        let runtime = |name: &str| number(report.runtime_statistics[name].as_str().unwrap());
        close(runtime("Equity"), last.equity, 0.006);
        close(
            portfolio(&report, "startEquity") + runtime("Net Profit") + runtime("Unrealized"),
            runtime("Equity"),
            0.02,
        );
        let volume: f64 = report
            .orders
            .iter()
            .map(|order| field(order, "value").abs())
            .sum();
        close(runtime("Volume"), volume, 0.02);
        let shown = &report.charts[0].series[0].samples;
        close(shown[shown.len() - 1].value, last.equity, 1e-5);
        assert_eq!(shown.len(), report.days.len());
    }
}

#[test]
fn risk_statistics_follow_from_equity_and_benchmark() {
    for report in reports() {
        let daily = returns(&equity(&report));
        let benchmark: Vec<f64> = report.charts[2].series[0]
            .samples
            .iter()
            .map(|s| s.value)
            .collect();
        let benchmark = returns(&benchmark);
        let annual = (1.0 + mean(&daily)).powf(252.0) - 1.0;
        let annual_benchmark = (1.0 + mean(&benchmark)).powf(252.0) - 1.0;
        let variance = covariance(&daily, &daily) * 252.0;
        close(portfolio(&report, "annualVariance"), variance, 1e-6);
        close(
            portfolio(&report, "annualStandardDeviation"),
            variance.sqrt(),
            1e-6,
        );
        close(
            portfolio(&report, "sharpeRatio"),
            annual / variance.sqrt(),
            1e-5,
        );
        close(
            number(statistic(&report, "Sharpe Ratio")),
            annual / variance.sqrt(),
            0.000_6,
        );
        let falls: Vec<f64> = daily.iter().copied().filter(|r| *r < 0.0).collect();
        let downside = (covariance(&falls, &falls) * 252.0).sqrt();
        close(portfolio(&report, "sortinoRatio"), annual / downside, 1e-5);
        let beta = covariance(&daily, &benchmark) / covariance(&benchmark, &benchmark);
        close(portfolio(&report, "beta"), beta, 1e-6);
        close(
            portfolio(&report, "alpha"),
            annual - beta * annual_benchmark,
            1e-6,
        );
        close(portfolio(&report, "treynorRatio"), annual / beta, 1e-4);
        let active: Vec<f64> = daily.iter().zip(&benchmark).map(|(r, b)| r - b).collect();
        let tracking = (covariance(&active, &active) * 252.0).sqrt();
        close(portfolio(&report, "trackingError"), tracking, 1e-6);
        close(
            portfolio(&report, "informationRatio"),
            (annual - annual_benchmark) / tracking,
            1e-5,
        );
        let year = &daily[daily.len() - 252..];
        let at_risk = mean(year) - 2.326_348 * covariance(year, year).sqrt();
        close(portfolio(&report, "valueAtRisk99"), at_risk, 0.000_51);
        let psr = portfolio(&report, "probabilisticSharpeRatio");
        assert!((0.0..=1.0).contains(&psr));
        // Above one a year it is more likely than not that the true one is, too.
        assert_eq!(
            psr > 0.5,
            mean(&daily) / covariance(&daily, &daily).sqrt() > 1.0 / 252_f64.sqrt()
        );
        let years = (report.end - report.start) as f64 / 86_400.0 / 365.0;
        let growth = (1.0 + portfolio(&report, "totalNetProfit")).powf(1.0 / years) - 1.0;
        close(portfolio(&report, "compoundingAnnualReturn"), growth, 1e-5);
    }
}

#[test]
fn the_drawdown_is_the_deepest_of_the_equity_curve() {
    for report in reports() {
        let (mut peak, mut deepest) = (0_f64, 0_f64);
        for value in equity(&report) {
            peak = peak.max(value);
            deepest = deepest.max(1.0 - value / peak);
        }
        assert!(deepest > 0.0);
        close(portfolio(&report, "drawdown"), deepest, 0.000_51);
        let chart = &report.charts[1].series[0].samples;
        let shown = chart
            .iter()
            .map(|sample| -sample.value / 100.0)
            .fold(0.0, f64::max);
        close(shown, deepest, 1e-6);
    }
}

#[test]
fn trade_statistics_follow_from_the_closed_trades() {
    for report in reports() {
        let trades = report.total_performance["closedTrades"].as_array().unwrap();
        let statistics = &report.total_performance["tradeStatistics"];
        assert!(trades.len() > 1);
        let gross: Vec<f64> = trades
            .iter()
            .map(|trade| field(trade, "profitLoss"))
            .collect();
        for (trade, gross) in trades.iter().zip(&gross) {
            let side = if trade["direction"] == 0 { 1.0 } else { -1.0 };
            let moved = field(trade, "exitPrice") - field(trade, "entryPrice");
            close(*gross, side * moved * field(trade, "quantity"), 1e-3);
            assert!(field(trade, "mae") <= gross.min(0.0) + 1e-6);
            assert!(field(trade, "mfe") >= gross.max(0.0) - 1e-6);
            assert!(trade["entryTime"].as_str().unwrap() < trade["exitTime"].as_str().unwrap());
        }
        let wins = gross.iter().filter(|result| **result > 0.0).count() as f64;
        let count = trades.len() as f64;
        close(
            field(statistics, "totalProfitLoss"),
            gross.iter().sum(),
            0.01,
        );
        close(field(statistics, "totalNumberOfTrades"), count, 0.0);
        close(field(statistics, "numberOfWinningTrades"), wins, 0.0);
        close(field(statistics, "winRate"), wins / count, 1e-6);
        close(
            field(statistics, "winRate") + field(statistics, "lossRate"),
            1.0,
            1e-9,
        );
        close(
            portfolio(&report, "winRate") + portfolio(&report, "lossRate"),
            1.0,
            1e-6,
        );
        let net: f64 = trades
            .iter()
            .map(|trade| field(trade, "profitLoss") - field(trade, "totalFees"))
            .sum();
        // What is not in closed trades is unrealised, or the fee of a position that is still open.
        let open_fee: f64 = report
            .orders
            .iter()
            .map(|o| field(&o["events"][1], "orderFeeAmount"))
            .sum::<f64>()
            - field(statistics, "totalFees");
        let realised = number(report.runtime_statistics["Net Profit"].as_str().unwrap());
        close(realised, net - open_fee, 0.05);
        let expectancy = portfolio(&report, "winRate") * portfolio(&report, "profitLossRatio")
            - portfolio(&report, "lossRate");
        close(portfolio(&report, "expectancy"), expectancy, 1e-5);
    }
}

#[test]
fn orders_are_filled_at_the_open_after_the_signal() {
    for report in reports() {
        for (index, order) in report.orders.iter().enumerate() {
            assert_eq!(order["id"], index + 1);
            assert_eq!(order["type"], 4);
            assert!(order["time"].as_str().unwrap() < order["lastFillTime"].as_str().unwrap());
            let events = order["events"].as_array().unwrap();
            assert_eq!(events.len(), 2);
            assert_eq!(events[1]["fillQuantity"], order["quantity"]);
            assert_eq!(events[1]["fillPrice"], order["price"]);
            let quantity = field(order, "quantity");
            assert_eq!(quantity, quantity.trunc());
            close(
                field(order, "value"),
                quantity * field(order, "price"),
                1e-3,
            );
        }
        let times: Vec<&str> = report
            .orders
            .iter()
            .map(|o| o["time"].as_str().unwrap())
            .collect();
        assert!(times.is_sorted());
    }
}

#[test]
fn insights_follow_one_another_and_score_what_happened() {
    let report = run(CROSSOVER);
    for pair in report.insights.windows(2) {
        assert_eq!(pair[0]["closeTime"], pair[1]["generatedTime"]);
        assert_ne!(pair[0]["direction"], pair[1]["direction"]);
        assert_ne!(pair[0]["id"], pair[1]["id"]);
    }
    for insight in &report.insights {
        let rose = field(insight, "referenceFinal") > field(insight, "reference");
        let right = (insight["direction"] == "up") == rose;
        assert_eq!(field(insight, "scoreDirection"), f64::from(u8::from(right)));
    }
    assert_eq!(report.insights[0]["direction"], "up");
}

#[test]
fn nothing_traded_is_a_valid_result_of_zeros() {
    let no_symbol = algorithm(
        "self.set_start_date(2020, 1, 1)\nself.set_end_date(2020, 12, 31)",
        "",
    );
    let no_order = algorithm(
        "self.set_start_date(2020, 1, 1)\nself.set_end_date(2020, 12, 31)\nself.add_equity(\"SPY\")",
        "",
    );
    // A Saturday and a Sunday.
    let no_day = algorithm(
        "self.set_start_date(2020, 2, 1)\nself.set_end_date(2020, 2, 2)\nself.add_equity(\"SPY\")",
        "self.set_holdings(\"SPY\", 1)",
    );
    let one_day = algorithm(
        "self.set_start_date(2020, 2, 3)\nself.set_end_date(2020, 2, 3)\nself.add_equity(\"SPY\")",
        "self.set_holdings(\"SPY\", 1)",
    );
    for source in [no_symbol, no_order, no_day, one_day] {
        let report = run(&source);
        assert!(report.orders.is_empty());
        assert_eq!(statistic(&report, "Total Orders"), "0");
        assert_eq!(statistic(&report, "Net Profit"), "0.000%");
        assert_eq!(statistic(&report, "Sharpe Ratio"), "0");
        assert_eq!(statistic(&report, "End Equity"), "100000");
        assert_eq!(portfolio(&report, "winRate"), 0.0);
        for part in ["portfolioStatistics", "tradeStatistics"] {
            for (name, value) in report.total_performance[part].as_object().unwrap() {
                assert!(!value.is_null() || name.ends_with("DateTime"), "{name}");
            }
        }
    }
}
