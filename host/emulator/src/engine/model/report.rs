//! Turns a run into a [`Report`], in QuantConnect's JSON forms.
//!
//! Invariant: this only formats and rounds; a number that is shown twice is rounded the same way.

use serde_json::{Value, json};

use super::constants::{CAPACITY_SHARE, NAME};
use super::numbers::{dollars, money, percent, plain, ratio, rounded, span};
use super::plan::{Plan, Security};
use super::portfolio::Trade;
use super::record::{DailyClose, Order, OrderOutcome, Run, SignalChange};
use super::statistics::{PortfolioStatistics, TimedTrade, trade_statistics};
use super::{calendar, charts};
use crate::engine::{Day, Report};
use crate::text::{digest_id, seconds_text};

impl Security {
    fn json(&self) -> Value {
        json!({ "value": self.ticker, "id": self.identifier(), "permtick": self.ticker })
    }
}

/// The report of a run.
pub(super) fn report(plan: &Plan, run: Run) -> Report {
    let writer = Writer { plan, run: &run };
    let statistics = PortfolioStatistics::new(&run, plan.cash);
    Report {
        start: calendar::midnight(run.days.first().copied().unwrap_or(plan.start)),
        end: calendar::midnight(run.days.last().copied().unwrap_or(plan.end)),
        tradeable_dates: u32::try_from(run.days.len()).unwrap_or(u32::MAX),
        parameters: plan.parameters.clone(),
        statistics: writer.statistics(&statistics),
        runtime_statistics: writer.runtime_statistics(&statistics),
        total_performance: writer.performance(&statistics),
        orders: writer.orders(),
        insights: run
            .changes
            .iter()
            .map(|change| writer.insight(change))
            .collect(),
        charts: charts::charts(&run),
        logs: writer.logs(),
        days: days(run.closes, plan.logs.len() + 1),
    }
}

struct Writer<'r> {
    plan: &'r Plan,
    run: &'r Run,
}

impl Writer<'_> {
    /// A simulated day; the plan's first, where there is none.
    fn day(&self, index: usize) -> jiff::civil::Date {
        self.run.days.get(index).copied().unwrap_or(self.plan.start)
    }

    fn security(&self, index: usize) -> Option<&Security> {
        self.plan.securities.get(index)
    }

    fn statistics(&self, s: &PortfolioStatistics) -> Value {
        let lowest = self.run.least_liquid;
        let capacity = lowest.map_or(0.0, |(_, volume)| two_digits(volume * CAPACITY_SHARE));
        let lowest = lowest.and_then(|(security, _)| self.security(security));
        json!({
            "Total Orders": self.run.orders.len().to_string(),
            "Average Win": percent(s.average_win_rate, 2),
            "Average Loss": percent(s.average_loss_rate, 2),
            "Compounding Annual Return": percent(s.compounding_annual_return, 3),
            "Drawdown": percent(s.drawdown, 3),
            "Expectancy": plain(s.expectancy),
            "Start Equity": cents(s.start_equity),
            "End Equity": cents(s.end_equity),
            "Net Profit": percent(s.total_net_profit, 3),
            "Sharpe Ratio": plain(s.sharpe_ratio),
            "Sortino Ratio": plain(s.sortino_ratio),
            "Probabilistic Sharpe Ratio": percent(s.probabilistic_sharpe_ratio, 3),
            "Loss Rate": percent(s.loss_rate, 0),
            "Win Rate": percent(s.win_rate, 0),
            "Profit-Loss Ratio": format!("{:.2}", rounded(s.profit_loss_ratio, 2)),
            "Alpha": plain(s.alpha),
            "Beta": plain(s.beta),
            "Annual Standard Deviation": plain(s.annual_standard_deviation),
            "Annual Variance": plain(s.annual_variance),
            "Information Ratio": plain(s.information_ratio),
            "Tracking Error": plain(s.tracking_error),
            "Treynor Ratio": plain(s.treynor_ratio),
            "Total Fees": format!("${:.2}", rounded(self.run.portfolio.fees, 2)),
            "Estimated Strategy Capacity": format!("${capacity}"),
            "Lowest Capacity Asset": lowest.map(Security::identifier).unwrap_or_default(),
            "Portfolio Turnover": percent(s.portfolio_turnover, 2),
            "Drawdown Recovery": plain(s.drawdown_recovery),
        })
    }

    /// `Equity` is the starting cash plus `Net Profit` plus `Unrealized`.
    fn runtime_statistics(&self, s: &PortfolioStatistics) -> Value {
        let close = self.run.closes.last();
        let holdings = close.map_or(&[][..], |close| &close.day.holdings);
        let unrealized: f64 = holdings
            .iter()
            .map(|it| it.quantity * (it.market_price - it.average_price))
            .sum();
        json!({
            "Equity": dollars(s.end_equity),
            "Fees": dollars(-self.run.portfolio.fees),
            "Holdings": dollars(close.map_or(0.0, |close| close.net_exposure)),
            "Net Profit": dollars(s.end_equity - s.start_equity - unrealized),
            "Probabilistic Sharpe Ratio": percent(s.probabilistic_sharpe_ratio, 3),
            "Return": percent(s.total_net_profit, 2).replace('%', " %"),
            "Unrealized": dollars(unrealized),
            "Volume": dollars(self.run.portfolio.volume),
        })
    }

    fn performance(&self, s: &PortfolioStatistics) -> Value {
        let timed: Vec<TimedTrade<'_>> = self
            .run
            .portfolio
            .trades
            .iter()
            .map(|trade| TimedTrade {
                trade,
                entry: calendar::open(self.day(trade.entry_day)),
                exit: calendar::open(self.day(trade.exit_day)),
            })
            .collect();
        json!({
            "tradeStatistics": trade_statistics(&timed),
            "portfolioStatistics": s.json(),
            "closedTrades": (1_u32..).zip(&timed).map(|it| self.trade(it)).collect::<Vec<_>>(),
        })
    }

    fn trade(&self, (number, timed): (u32, &TimedTrade<'_>)) -> Value {
        let trade = timed.trade;
        let symbols: Vec<Value> = self
            .security(trade.security)
            .map(Security::json)
            .into_iter()
            .collect();
        json!({
            "id": digest_id(&format!("trade {number} {}", timed.entry)),
            "symbols": symbols,
            "entryTime": seconds_text(timed.entry),
            "entryPrice": trade.entry_price,
            "direction": u8::from(!trade.long),
            "quantity": trade.quantity,
            "exitTime": seconds_text(timed.exit),
            "exitPrice": trade.exit_price,
            "profitLoss": money(trade.profit_loss),
            "totalFees": money(trade.fees),
            "mae": money(trade.adverse),
            "mfe": money(trade.favorable),
            "duration": span(timed.duration()),
            "endTradeDrawdown": money(trade.favorable - trade.profit_loss),
            "isWin": trade.profit_loss > 0.0,
            "orderIds": self.orders_of(trade),
        })
    }

    /// The numbers of the orders that were filled for a security when a trade began and when it
    /// ended.
    fn orders_of(&self, trade: &Trade) -> Vec<u32> {
        let numbered = (1_u32..).zip(&self.run.orders);
        let filled = numbered.filter(|(_, order)| {
            let day = order.day + 1;
            order.security == trade.security
                && matches!(order.outcome, OrderOutcome::Filled { .. })
                && (day == trade.entry_day || day == trade.exit_day)
        });
        filled.map(|(number, _)| number).collect()
    }

    fn orders(&self) -> Vec<Value> {
        let numbered = (1_u32..).zip(&self.run.orders);
        numbered.map(|(id, order)| self.order(id, order)).collect()
    }

    fn order(&self, id: u32, order: &Order) -> Value {
        let security = self.security(order.security);
        let sent = calendar::close(self.day(order.day));
        let open = calendar::open(self.day(order.day + 1));
        let event = |number: u32, status: &str, time: i64, fill: Option<(f64, f64)>| {
            let (price, fee) = fill.unwrap_or_default();
            json!({
                "symbol": security.map(Security::identifier),
                "symbolValue": security.map(|security| &security.ticker),
                "symbolPermtick": security.map(|security| &security.ticker),
                "orderId": id,
                "orderEventId": number,
                "id": format!("{id}-{number}"),
                "status": status,
                "orderFeeAmount": money(fee),
                "orderFeeCurrency": "USD",
                "fillPrice": price,
                "fillPriceCurrency": "USD",
                "fillQuantity": fill.map_or(0.0, |_| order.quantity),
                "direction": if order.quantity < 0.0 { "sell" } else { "buy" },
                "message": if status == "invalid" { order.reason.as_str() } else { "" },
                "isAssignment": false,
                "quantity": order.quantity,
                "time": time,
                "isInTheMoney": false,
            })
        };
        let (status, price, filled, events) = match order.outcome {
            OrderOutcome::Filled { price, fee } => {
                let filled = event(2, "filled", open, Some((price, fee)));
                let events = vec![event(1, "submitted", sent, None), filled];
                (3, price, Some(open), events)
            }
            OrderOutcome::Sent => (1, 0.0, None, vec![event(1, "submitted", sent, None)]),
            OrderOutcome::Invalid => (7, 0.0, None, vec![event(1, "invalid", sent, None)]),
        };
        json!({
            "id": id,
            "contingentId": 0,
            "brokerId": [id.to_string()],
            "symbol": security.map(Security::json),
            "price": price,
            "priceCurrency": "USD",
            "time": seconds_text(sent),
            "createdTime": seconds_text(sent),
            "lastFillTime": filled.map(seconds_text),
            "lastUpdateTime": seconds_text(filled.unwrap_or(sent)),
            "canceledTime": null,
            "quantity": order.quantity,
            "type": 4,
            "status": status,
            "tag": order.reason,
            "securityType": security.map(|security| security.kind as u8),
            "direction": u8::from(order.quantity < 0.0),
            "value": money(order.quantity * price),
            "orderSubmissionData": {
                "bidPrice": order.submitted_at,
                "askPrice": order.submitted_at,
                "lastPrice": order.submitted_at,
            },
            "isMarketable": true,
            "properties": { "timeInForce": {} },
            "events": events,
        })
    }

    fn insight(&self, change: &SignalChange) -> Value {
        let security = self.security(change.security);
        let generated = calendar::close(self.day(change.day));
        let closed = calendar::close(self.day(change.until));
        let moved = ratio(change.reference_final, change.reference) - 1.0;
        let right = match change.direction {
            1 => moved > 0.0,
            -1 => moved < 0.0,
            _ => moved <= 0.0,
        };
        let ticker = security.map_or("", |security| security.ticker.as_str());
        json!({
            "id": digest_id(&format!("insight {ticker} {generated}")),
            "groupId": null,
            "sourceModel": NAME,
            "generatedTime": generated,
            "closeTime": closed,
            "symbol": security.map(Security::identifier),
            "ticker": ticker,
            "type": "price",
            "reference": change.reference,
            "referenceFinal": change.reference_final,
            "direction": match change.direction {
                1 => "up",
                -1 => "down",
                _ => "flat",
            },
            "period": closed - generated,
            "magnitude": null,
            "confidence": null,
            "weight": change.weight,
            "scoreFinal": change.until + 1 < self.run.days.len(),
            "scoreDirection": f64::from(u8::from(right)),
            "scoreMagnitude": 0.0,
            "estimatedValue": 0.0,
            "tag": "",
        })
    }

    /// The lines of reading and of the first day, then those of the run, each with its time in
    /// New York in front.
    fn logs(&self) -> Vec<String> {
        let start = self.day(0);
        let head = format!(
            "{NAME}: a model, not LEAN: synthetic prices, one trading rule (see the documentation)"
        );
        let read = std::iter::once(&head)
            .chain(&self.plan.logs)
            .map(|line| format!("{start} 00:00:00 {line}"));
        let run = self
            .run
            .logs
            .iter()
            .map(|(day, line)| format!("{} 16:00:00 {line}", self.day(*day)));
        read.chain(run).collect()
    }
}

/// What a live deployment shows on each day; its log begins with `read` lines of reading.
fn days(closes: Vec<DailyClose>, read: usize) -> Vec<Day> {
    let day = |close: DailyClose| Day {
        logs: read + close.day.logs,
        ..close.day
    };
    closes.into_iter().map(day).collect()
}

/// `100000` or `112300.25`.
fn cents(amount: f64) -> String {
    let amount = rounded(amount, 2);
    if amount == libm::trunc(amount) {
        format!("{amount:.0}")
    } else {
        format!("{amount:.2}")
    }
}

/// Rounded to two significant digits.
fn two_digits(amount: f64) -> f64 {
    if amount < 1.0 {
        return 0.0;
    }
    let scale = libm::pow(10.0, libm::floor(libm::log10(amount)) - 1.0);
    libm::round(amount / scale) * scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::model::plan::SecurityKind;

    #[test]
    fn identifiers_are_those_of_the_cloud() {
        let identifier = |ticker: &str, kind| {
            let ticker = ticker.to_owned();
            Security { ticker, kind }.identifier()
        };
        assert_eq!(identifier("SPY", SecurityKind::Equity), "SPY R735QTJ8XC9X");
        assert_eq!(identifier("EURUSD", SecurityKind::Forex), "EURUSD 8G");
        assert_eq!(identifier("BTCUSD", SecurityKind::Crypto), "BTCUSD 2XR");
        assert_eq!(identifier("SPX", SecurityKind::Index), "SPX 31");
    }

    #[test]
    fn spans_and_amounts_have_the_form_of_the_cloud() {
        assert_eq!(span(12.0 * 86_400.0 + 23_400.0), "12.06:30:00");
        assert_eq!(span(59.6), "00:01:00");
        assert_eq!(cents(100_000.0), "100000");
        assert_eq!(cents(112_300.256), "112300.26");
        assert!((two_digits(123_456.0) - 120_000.0).abs() < 1e-6);
    }
}
