//! Runs a plan day by day.
//!
//! On each trading day, in this order: the orders of the evening before are filled at the open;
//! the portfolio is valued at the close; each rule looks at its signal after the close and, where
//! it changed, sends an order for the next open. On the last day no order is sent, since
//! no open follows.
//!
//! Invariant: what was decided on a day depends on that day's close and earlier, never on a later
//! price, and every order is filled on the next trading day or invalid at once.

use jiff::civil::Date;

use super::calendar;
use super::constants::{
    CASH_BUFFER, FEE_PER_SHARE, MAINTENANCE_MARGIN, MAX_FEE_FRACTION, MAX_LEVERAGE, MAX_ORDERS,
    MAX_POSITION_DAYS, MIN_FEE,
};
use super::market::{Market, Prices};
use super::plan::{Plan, Security, Size, WarmUp};
use super::portfolio::Portfolio;
use super::record::{DailyClose, Order, OrderOutcome, Run, SignalChange};
use super::rule::{Rule, Signal, rules};
use crate::engine::{Day, DayHolding};

/// A rule with the state of its signal.
struct Trader {
    rule: Rule,
    signals: Vec<Option<bool>>,
    /// The signal that the last order followed; `None` before the first.
    up: Option<bool>,
    /// The index of the signal change that is in effect, in [`Run::changes`].
    open_change: Option<usize>,
}

/// Runs the whole plan.
///
/// # Errors
/// Which of the model's bounds the run exceeds.
pub(super) fn run(plan: &Plan) -> Result<Run, String> {
    let all_days = calendar::trading_days(plan.end);
    let first = all_days.partition_point(|day| *day < plan.start);
    let days = all_days.get(first..).unwrap_or_default().to_vec();
    let (count, securities) = (days.len(), plan.securities.len());
    if count.saturating_mul(securities) > MAX_POSITION_DAYS {
        return Err(format!(
            "{securities} securities over {count} trading days are more than the model's \
             {MAX_POSITION_DAYS} security-days"
        ));
    }
    let market = Market::new(all_days.len());
    let prices: Vec<Prices> = plan
        .securities
        .iter()
        .map(|security| market.prices(&security.ticker))
        .collect();
    let benchmark = market.prices(&plan.benchmark);
    let traders = rules(plan)
        .into_iter()
        .map(|rule| trader(plan, rule, &prices, &all_days, first))
        .collect();
    let mut simulation = Simulation {
        plan,
        symbols: plan.securities.iter().map(Security::identifier).collect(),
        prices,
        first,
        traders,
        run: Run {
            days,
            portfolio: Portfolio::new(plan.cash, securities),
            ..Run::default()
        },
    };
    simulation.describe();
    for day in 0..simulation.run.days.len() {
        let benchmark = benchmark.close.get(first + day).copied();
        simulation.day(day, benchmark.unwrap_or(1.0))?;
    }
    Ok(simulation.finish())
}

/// A rule with its signals for the simulated days.
fn trader(plan: &Plan, rule: Rule, prices: &[Prices], all_days: &[Date], first: usize) -> Trader {
    let back = match plan.warm_up {
        WarmUp::Bars(bars) => usize::try_from(bars).unwrap_or(usize::MAX),
        WarmUp::Full => usize::try_from(rule.period()).unwrap_or(usize::MAX) - 1,
        WarmUp::Days(days) => {
            let from = plan
                .start
                .checked_sub(jiff::Span::new().days(i64::from(days)))
                .unwrap_or(Date::MIN);
            first - all_days.partition_point(|day| *day < from).min(first)
        }
    };
    let history = first.saturating_sub(back);
    let security = match &rule.signal {
        Signal::Always => rule.security,
        Signal::Cross { security, .. } => *security,
    };
    let closes = prices
        .get(security)
        .and_then(|prices| prices.close.get(history..))
        .unwrap_or_default();
    let signals = rule
        .signals(closes)
        .split_off((first - history).min(closes.len()));
    Trader {
        rule,
        signals,
        up: None,
        open_change: None,
    }
}

struct Simulation<'p> {
    plan: &'p Plan,
    /// The identifiers of the securities.
    symbols: Vec<String>,
    prices: Vec<Prices>,
    first: usize,
    traders: Vec<Trader>,
    run: Run,
}

impl Simulation<'_> {
    fn price(&self, security: usize, day: usize, open: bool) -> f64 {
        self.prices
            .get(security)
            .and_then(|prices| {
                let series = if open { &prices.open } else { &prices.close };
                series.get(self.first + day).copied()
            })
            .unwrap_or(1.0)
    }

    /// The rules, as the first lines of the log.
    fn describe(&mut self) {
        let rules = self.traders.iter().map(|trader| &trader.rule);
        self.run.logs = rules.map(|rule| (0, rule.describe(self.plan))).collect();
        if self.run.logs.is_empty() {
            let line = "no call was read that opens a position in a subscribed security: \
                        nothing is traded";
            self.run.logs.push((0, line.to_owned()));
        }
    }

    fn log(&mut self, day: usize, security: usize, text: &str) {
        let line = format!("{}: {text}", self.plan.ticker(security));
        self.run.logs.push((day, line));
    }

    fn day(&mut self, day: usize, benchmark: f64) -> Result<(), String> {
        let volume_before = self.run.portfolio.volume;
        self.fill_orders(day);
        let close = self.value(day, benchmark, volume_before);
        let last = day + 1 == self.run.days.len();
        let equity = close.day.equity;
        let gross = close.gross_exposure;
        self.run.closes.push(close);
        if !last {
            if gross > 0.0 && equity < MAINTENANCE_MARGIN * gross {
                self.margin_call(day);
            } else if equity > 0.0 {
                self.signals(day, equity);
            }
        }
        if self.run.orders.len() > MAX_ORDERS {
            return Err(format!("the algorithm sent more than {MAX_ORDERS} orders"));
        }
        if let Some(close) = self.run.closes.last_mut() {
            close.day.insights = self.run.changes.len();
            close.day.logs = self.run.logs.len();
        }
        Ok(())
    }

    fn fill_orders(&mut self, day: usize) {
        let Some(yesterday) = day.checked_sub(1) else {
            return;
        };
        let mut orders = std::mem::take(&mut self.run.orders);
        let from = orders.partition_point(|order| order.day < yesterday);
        for order in orders.iter_mut().skip(from) {
            if order.outcome == OrderOutcome::Sent {
                let price = self.price(order.security, day, true);
                let fee = fee(order.quantity, price);
                let portfolio = &mut self.run.portfolio;
                portfolio.fill(order.security, day, order.quantity, price, fee);
                order.outcome = OrderOutcome::Filled { price, fee };
            }
        }
        self.run.orders = orders;
    }

    /// Values the portfolio at the close.
    fn value(&mut self, day: usize, benchmark: f64, volume_before: f64) -> DailyClose {
        let mut holdings = Vec::new();
        let (mut net, mut gross) = (0.0, 0.0);
        for security in 0..self.run.portfolio.positions.len() {
            let (open, close) = (
                self.price(security, day, true),
                self.price(security, day, false),
            );
            let Some(position) = self.run.portfolio.positions.get_mut(security) else {
                continue;
            };
            let quantity = position.quantity();
            if quantity == 0.0 {
                continue;
            }
            position.see(open);
            position.see(close);
            net += quantity * close;
            gross += quantity.abs() * close;
            holdings.push(DayHolding {
                ticker: self.plan.ticker(security).to_owned(),
                symbol_id: self.symbols.get(security).cloned().unwrap_or_default(),
                quantity,
                average_price: position.average_price(),
                market_price: close,
            });
        }
        let date = self.run.days.get(day).copied();
        let day = Day {
            time: calendar::midnight(date.unwrap_or(self.plan.start)),
            equity: self.run.portfolio.cash + net,
            cash: self.run.portfolio.cash,
            holdings,
            orders: self.run.orders.len(),
            insights: 0,
            logs: 0,
        };
        DailyClose {
            day,
            net_exposure: net,
            gross_exposure: gross,
            volume: self.run.portfolio.volume - volume_before,
            benchmark,
        }
    }

    /// Sells everything: the portfolio is worth less than a part of what it holds.
    fn margin_call(&mut self, day: usize) {
        for security in 0..self.plan.securities.len() {
            let quantity = self.run.portfolio.quantity(security);
            if quantity != 0.0 {
                self.log(day, security, "margin call");
                self.send(day, security, -quantity, "Margin call", true);
            }
        }
    }

    /// Sends an order for each rule whose signal changed.
    fn signals(&mut self, day: usize, equity: f64) {
        // What the positions will be at the next open, for the limit on their total.
        let mut gross: f64 = (0..self.plan.securities.len())
            .map(|security| {
                self.run.portfolio.quantity(security).abs() * self.price(security, day, false)
            })
            .sum();
        let mut traders = std::mem::take(&mut self.traders);
        for trader in &mut traders {
            let Some(Some(up)) = trader.signals.get(day).copied() else {
                continue;
            };
            let was = trader.up.replace(up);
            let Rule { security, .. } = trader.rule;
            let size = if up { trader.rule.up } else { trader.rule.down };
            // A first signal to hold nothing changes nothing either.
            if was == Some(up) || (was.is_none() && size.is_none()) {
                continue;
            }
            self.change(day, trader, size);
            let price = self.price(security, day, false);
            let held = self.run.portfolio.quantity(security);
            let wanted = match size {
                None => 0.0,
                Some(Size::Shares(shares)) => shares,
                Some(Size::Weight(weight)) => {
                    libm::trunc(weight * equity * (1.0 - CASH_BUFFER) / price)
                }
            };
            let after = gross + (wanted.abs() - held.abs()) * price;
            let affordable = wanted.abs() <= held.abs() || after <= MAX_LEVERAGE * equity;
            if wanted == held {
                let text = format!("the signal changed, but the position stays at {held} shares");
                self.log(day, security, &text);
                continue;
            }
            let reason = match (&trader.rule.signal, up) {
                (Signal::Always, _) => "Buy and hold",
                (Signal::Cross { .. }, true) => "Fast above slow",
                (Signal::Cross { .. }, false) => "Fast below slow",
            };
            if affordable {
                gross = after;
            }
            self.send(day, security, wanted - held, reason, affordable);
        }
        self.traders = traders;
    }

    fn change(&mut self, day: usize, trader: &mut Trader, size: Option<Size>) {
        let security = trader.rule.security;
        let reference = self.price(security, day, false);
        let before = trader.open_change.replace(self.run.changes.len());
        if let Some(before) = before.and_then(|before| self.run.changes.get_mut(before)) {
            before.until = day;
        }
        self.run.changes.push(SignalChange {
            security,
            day,
            direction: match size.map_or(0.0, Size::amount) {
                amount if amount > 0.0 => 1,
                amount if amount < 0.0 => -1,
                _ => 0,
            },
            weight: match size {
                Some(Size::Weight(weight)) => Some(weight),
                None => Some(0.0),
                Some(Size::Shares(_)) => None,
            },
            until: self.run.days.len().saturating_sub(1),
            reference,
            reference_final: reference,
        });
    }

    fn send(&mut self, day: usize, security: usize, quantity: f64, reason: &str, valid: bool) {
        let verb = if quantity > 0.0 { "buy" } else { "sell" };
        let (outcome, shown, tag) = if valid {
            (OrderOutcome::Sent, "at the next open", reason)
        } else {
            (
                OrderOutcome::Invalid,
                "refused: the positions would be worth more than the account may hold",
                "Insufficient buying power",
            )
        };
        let text = format!("{reason}: {verb} {} {shown}", quantity.abs());
        self.log(day, security, &text);
        self.run.orders.push(Order {
            security,
            day,
            quantity,
            submitted_at: self.price(security, day, false),
            outcome,
            reason: tag.to_owned(),
        });
    }

    fn finish(mut self) -> Run {
        let mut changes = std::mem::take(&mut self.run.changes);
        for change in &mut changes {
            change.reference_final = self.price(change.security, change.until, false);
        }
        self.run.changes = changes;
        let filled = |order: &&Order| matches!(order.outcome, OrderOutcome::Filled { .. });
        let traded = self.run.orders.iter().filter(filled);
        let volume = |security: usize| {
            let prices = self.prices.get(security);
            prices.map_or(0.0, |prices| prices.dollar_volume)
        };
        self.run.least_liquid = traded
            .map(|order| (order.security, volume(order.security)))
            .min_by(|a, b| a.1.total_cmp(&b.1));
        self.run
    }
}

/// The fee of a fill, in US dollars: per share, at most a part of its value, at least a dollar.
fn fee(quantity: f64, price: f64) -> f64 {
    let shares = quantity.abs();
    (shares * FEE_PER_SHARE)
        .min(shares * price * MAX_FEE_FRACTION)
        .max(MIN_FEE)
}
