//! What a deployment shows at one moment.
//!
//! Invariant: everything that is shown at a moment comes from the same simulated day of the
//! same report, so portfolio, orders, statistics and log agree; after the end the moment stands
//! still.

use std::time::Instant;

use serde_json::{Map, Value, json};

use crate::engine::{Day, DayHolding, Report};
use crate::services::cloud::Cloud;
use crate::store::deployment::{Deployment, End};
use crate::text::{grouped, seconds_text};

/// Seconds from the midnight that names a simulated day to the end of that day.
const REST_OF_DAY: i64 = 86_399;

/// A moment of a deployment.
#[derive(Debug)]
pub(super) struct LiveView<'d> {
    deployment: &'d Deployment,
    /// The report and the day that is shown; `None` before the algorithm runs.
    now: Option<(&'d Report, &'d Day)>,
    liquidated: bool,
}

impl<'d> LiveView<'d> {
    /// What is shown now, or was shown at the end.
    pub(super) fn of(cloud: &Cloud, deployment: &'d Deployment) -> Self {
        let stop = deployment.stopped.as_ref();
        let moment = stop.map_or_else(Instant::now, |stop| stop.at);
        let now = deployment.running.as_ref().and_then(|run| {
            let report = &run.report;
            let elapsed = moment.saturating_duration_since(run.since).as_millis();
            let day = cloud.settings.timing.live_day.as_millis().max(1);
            let index = usize::try_from(elapsed / day).unwrap_or(usize::MAX);
            let day = report.days.get(index).or_else(|| report.days.last())?;
            Some((report, day))
        });
        Self {
            deployment,
            now,
            liquidated: stop.is_some_and(|stop| stop.end == End::Liquidated),
        }
    }

    /// The report, once the algorithm runs.
    pub(super) fn report(&self) -> Option<&Report> {
        self.now.map(|(report, _)| report)
    }

    /// Unix seconds after which nothing is known yet.
    pub(super) fn until(&self) -> Option<i64> {
        self.now.map(|(_, day)| day.time + REST_OF_DAY)
    }

    /// Total value of the portfolio in US dollars.
    pub(super) fn equity(&self) -> f64 {
        let given = self.deployment.brokerage.holdings.iter();
        let given: f64 = given.map(|it| it.quantity * it.average_price).sum();
        given + self.given_dollars() + self.now.map_or(0.0, |(_, day)| day.equity)
    }

    /// US dollars that the paper brokerage was given.
    fn given_dollars(&self) -> f64 {
        let cash = self.deployment.brokerage.cash.iter();
        cash.filter(|(currency, _)| currency == "USD")
            .map(|(_, amount)| amount)
            .sum()
    }

    /// `holdings` by symbol id and `cash` by currency. What the paper brokerage was given is
    /// shown beside what the algorithm itself trades, at the price that was given.
    pub(super) fn portfolio(&self) -> Value {
        let mut holdings = Map::new();
        if !self.liquidated {
            for given in &self.deployment.brokerage.holdings {
                let price = given.average_price;
                let json = holding_json(given.quantity, price, price);
                holdings.insert(given.symbol_id.clone(), json);
            }
            for own in self.positions() {
                let json = holding_json(own.quantity, own.average_price, own.market_price);
                holdings.insert(own.symbol_id.clone(), json);
            }
        }
        let dollars = if self.liquidated {
            self.equity()
        } else {
            self.given_dollars() + self.now.map_or(0.0, |(_, day)| day.cash)
        };
        let mut cash = Map::new();
        cash.insert("USD".to_owned(), cash_json("USD", dollars));
        for (currency, amount) in &self.deployment.brokerage.cash {
            if currency != "USD" {
                cash.insert(currency.clone(), cash_json(currency, *amount));
            }
        }
        json!({"holdings": holdings, "cash": cash})
    }

    /// Orders so far, those that liquidated the portfolio at the end.
    pub(super) fn orders(&self) -> Vec<Value> {
        let Some((report, day)) = self.now else {
            return Vec::new();
        };
        let mut orders: Vec<Value> = report.orders.iter().take(day.orders).cloned().collect();
        if self.liquidated {
            let first = orders.len() + 1;
            let closing = day.holdings.iter().enumerate();
            orders.extend(closing.map(|(index, it)| closing_order(first + index, it, day.time)));
        }
        orders
    }

    /// Trades that were closed so far. What a liquidation closes is in no trade.
    pub(super) fn trades(&self) -> Vec<Value> {
        let Some((report, day)) = self.now else {
            return Vec::new();
        };
        let until = seconds_text(day.time + REST_OF_DAY);
        let is_closed = |trade: &&Value| {
            let exit = trade.get("exitTime").and_then(Value::as_str);
            exit.is_none_or(|exit| exit <= until.as_str())
        };
        let closed = report.closed_trades().iter().filter(is_closed);
        closed.cloned().collect()
    }

    /// Insights so far.
    pub(super) fn insights(&self) -> &[Value] {
        self.now.map_or(&[], |(report, day)| {
            let insights = report.insights.as_slice();
            insights.get(..day.insights).unwrap_or(insights)
        })
    }

    /// How many lines of the algorithm's own log there are so far.
    pub(super) fn log_length(&self) -> usize {
        self.now
            .map_or(0, |(report, day)| day.logs.min(report.logs.len()))
    }

    /// The log so far: the algorithm's lines, and each command where it arrived.
    pub(super) fn logs(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut commands = self.deployment.commands.iter().peekable();
        let own = self.report().map_or(&[][..], |report| &report.logs);
        for (index, line) in own.iter().take(self.log_length()).enumerate() {
            while let Some(command) = commands.next_if(|command| command.after <= index) {
                lines.push(command.line.clone());
            }
            lines.push(line.clone());
        }
        lines.extend(commands.map(|command| command.line.clone()));
        lines
    }

    /// The banner of a live algorithm; nothing before it runs.
    pub(super) fn runtime_statistics(&self) -> Option<Value> {
        let (report, day) = self.now?;
        let start = report.days.first().map_or(day.equity, |first| first.equity);
        let positions = self.positions().iter();
        let value_at = |price: fn(&DayHolding) -> f64| -> f64 {
            positions.clone().map(|it| it.quantity * price(it)).sum()
        };
        let holdings = value_at(|it| it.market_price);
        let unrealized = value_at(|it| it.market_price - it.average_price);
        let orders = self.orders();
        let sum = |of: &dyn Fn(&Value) -> f64| orders.iter().map(of).sum::<f64>();
        let value = |order: &Value| order.get("value").and_then(Value::as_f64).unwrap_or(0.0);
        let change = if start == 0.0 {
            0.0
        } else {
            (day.equity - start) / start
        };
        Some(json!({
            "Equity": dollars(self.equity()),
            "Fees": dollars(-sum(&fees)),
            "Holdings": dollars(holdings),
            "Net Profit": dollars(day.equity - start - unrealized),
            "Return": format!("{:.2} %", change * 100.0),
            "Unrealized": dollars(unrealized),
            "Volume": dollars(sum(&|order| value(order).abs())),
        }))
    }

    /// Positions of the algorithm itself.
    fn positions(&self) -> &[DayHolding] {
        match self.now {
            Some((_, day)) if !self.liquidated => &day.holdings,
            _ => &[],
        }
    }
}

fn fees(order: &Value) -> f64 {
    let events = order.get("events").and_then(Value::as_array);
    events
        .into_iter()
        .flatten()
        .filter_map(|event| event.get("orderFeeAmount")?.as_f64())
        .sum()
}

fn holding_json(quantity: f64, average: f64, price: f64) -> Value {
    let profit = quantity * (price - average);
    let cost = (quantity * average).abs();
    json!({
        "a": average,
        "q": quantity,
        "p": price,
        "v": quantity * price,
        "u": profit,
        "up": if cost == 0.0 { 0.0 } else { profit / cost * 100.0 },
    })
}

/// The conversion rate of other currencies is not known; they are worth their amount.
fn cash_json(currency: &str, amount: f64) -> Value {
    json!({
        "securitySymbols": [],
        "symbol": currency,
        "amount": amount,
        "conversionRate": 1.0,
        "currencySymbol": if currency == "USD" { "$" } else { currency },
        "valueInAccountCurrency": amount,
    })
}

/// A market order that was filled at the close of the last day.
fn closing_order(id: usize, position: &DayHolding, time: i64) -> Value {
    let time = seconds_text(time + REST_OF_DAY);
    json!({
        "id": id,
        "contingentId": 0,
        "brokerId": [id.to_string()],
        "symbol": {"value": position.ticker, "id": position.symbol_id, "permtick": position.ticker},
        "price": position.market_price,
        "priceCurrency": "USD",
        "time": time,
        "createdTime": time,
        "lastFillTime": time,
        "lastUpdateTime": null,
        "canceledTime": null,
        "quantity": -position.quantity,
        "type": 0,
        "status": 3,
        "tag": "Liquidated",
        "securityType": 1,
        "direction": i32::from(position.quantity > 0.0),
        "value": -position.quantity * position.market_price,
        "isMarketable": true,
        "events": [],
    })
}

/// `$1,234.50`, `$-3.20`.
fn dollars(amount: f64) -> String {
    let size = grouped(amount);
    let sign = if amount < 0.0 && size != "0.00" {
        "-"
    } else {
        ""
    };
    format!("${sign}{size}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_grouped() {
        assert_eq!(dollars(1_234_567.5), "$1,234,567.50");
        assert_eq!(dollars(-999.999), "$-1,000.00");
        assert_eq!(dollars(-0.001), "$0.00");
        assert_eq!(dollars(12.0), "$12.00");
    }
}
