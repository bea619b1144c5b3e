//! What a backtest did: its orders and its closed trades, counted.

use std::collections::BTreeMap;

use qchost_sdk::types::{ClosedTrade, Order, OrderStatus};
use schemars::JsonSchema;
use serde::Serialize;

use crate::page;

/// Securities that are counted on their own at most; the rest is counted together.
const MAX_SYMBOLS: usize = 30;
/// What the other securities are counted under.
const OTHERS: &str = "(others)";
/// What orders and trades without a security are counted under.
const UNNAMED: &str = "(unnamed)";

/// Orders of a backtest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Orders {
    /// How many there are.
    pub(crate) total: u32,
    /// How many of them are counted below: the first ones.
    pub(crate) counted: usize,
    /// Filled, at least in part.
    filled: usize,
    /// Refused by LEAN or the brokerage.
    invalid: usize,
    /// Cancelled.
    canceled: usize,
    /// Orders by ticker, for at most 30 of them; the rest together under `(others)`.
    by_symbol: BTreeMap<String, OrderCounts>,
}

/// Orders of a security.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
struct OrderCounts {
    /// Purchases, filled or not.
    buys: usize,
    /// Sales, filled or not.
    sells: usize,
}

/// Closed trades of a backtest; amounts are in the account's currency.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Trades {
    /// How many there are.
    pub(crate) total: u32,
    /// How many of them are counted below: the first ones that have a profit.
    pub(crate) counted: usize,
    /// Trades with a profit after fees.
    wins: usize,
    /// Profit of all, less fees.
    net_profit: f64,
    /// Fees of all.
    fees: f64,
    /// Mean profit of a trade, less fees; null without trades.
    mean: Option<f64>,
    /// Profits of those that won over losses of those that lost, after fees; null without losses.
    profit_factor: Option<f64>,
    /// Profit of the best trade, less fees; null without trades.
    best: Option<f64>,
    /// Loss of the worst trade, less fees; null without trades.
    worst: Option<f64>,
    /// Trades by ticker, for at most 30 of them; the rest together under `(others)`.
    by_symbol: BTreeMap<String, TradeCounts>,
}

/// Closed trades of a security.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
struct TradeCounts {
    trades: usize,
    /// Profit, less fees.
    net_profit: f64,
}

/// Counts the orders that were read, of `total`.
pub(crate) fn orders(read: &[Order], total: u32) -> Orders {
    let mut counts = Orders {
        total,
        counted: read.len(),
        ..Orders::default()
    };
    let mut by_symbol: BTreeMap<String, OrderCounts> = BTreeMap::new();
    for order in read {
        match order.status {
            Some(OrderStatus::Filled | OrderStatus::PartiallyFilled) => counts.filled += 1,
            Some(OrderStatus::Invalid) => counts.invalid += 1,
            Some(OrderStatus::Canceled) => counts.canceled += 1,
            _ => {}
        }
        let symbol = order.symbol.clone();
        let symbol = symbol.and_then(|it| it.value.or(it.id));
        let of_symbol = by_symbol.entry(name(symbol)).or_default();
        match order.quantity {
            Some(quantity) if quantity > 0.0 => of_symbol.buys += 1,
            Some(quantity) if quantity < 0.0 => of_symbol.sells += 1,
            _ => {}
        }
    }
    counts.by_symbol = bounded(
        by_symbol,
        |it| it.buys + it.sells,
        |rest, it| {
            rest.buys += it.buys;
            rest.sells += it.sells;
        },
    );
    counts
}

/// Counts the closed trades that were read, of `total`. One without a profit is left out.
pub(crate) fn trades(read: &[ClosedTrade], total: u32) -> Trades {
    let mut by_symbol: BTreeMap<String, TradeCounts> = BTreeMap::new();
    let mut nets = Vec::new();
    let mut fees = 0.0;
    for trade in read {
        let Some(profit) = trade.profit_loss.filter(|it| it.is_finite()) else {
            continue;
        };
        let fee = trade.total_fees.unwrap_or_default();
        let net = profit - fee;
        nets.push(net);
        fees += fee;
        let symbols = trade.symbols.iter();
        let symbols: Vec<String> = symbols
            .filter_map(|it| it.value.clone().or_else(|| it.id.clone()))
            .collect();
        let symbol = (!symbols.is_empty()).then(|| symbols.join("+"));
        let of_symbol = by_symbol.entry(name(symbol)).or_default();
        of_symbol.trades += 1;
        of_symbol.net_profit += net;
    }
    let net_profit: f64 = nets.iter().sum();
    let gains: f64 = nets.iter().filter(|it| **it > 0.0).sum();
    let losses: f64 = nets.iter().filter(|it| **it < 0.0).sum();
    Trades {
        total,
        counted: nets.len(),
        wins: nets.iter().filter(|it| **it > 0.0).count(),
        net_profit,
        fees,
        mean: (!nets.is_empty()).then(|| net_profit / nets.len() as f64),
        profit_factor: (losses < 0.0).then(|| gains / -losses),
        best: nets.iter().copied().reduce(f64::max),
        worst: nets.iter().copied().reduce(f64::min),
        by_symbol: bounded(
            by_symbol,
            |it| it.trades,
            |rest, it| {
                rest.trades += it.trades;
                rest.net_profit += it.net_profit;
            },
        ),
    }
}

fn name(symbol: Option<String>) -> String {
    symbol.map_or_else(|| UNNAMED.to_owned(), page::cut)
}

/// The largest entries, and the others as one.
fn bounded<T: Default>(
    all: BTreeMap<String, T>,
    size: impl Fn(&T) -> usize,
    add: impl Fn(&mut T, T),
) -> BTreeMap<String, T> {
    let mut entries: Vec<(String, T)> = all.into_iter().collect();
    entries.sort_by_key(|(_, entry)| std::cmp::Reverse(size(entry)));
    let others = entries.split_off(MAX_SYMBOLS.min(entries.len()));
    let mut kept: BTreeMap<String, T> = entries.into_iter().collect();
    for (_, entry) in others {
        add(kept.entry(OTHERS.to_owned()).or_default(), entry);
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use qchost_sdk::types::Symbol;

    use super::*;

    fn symbol(ticker: &str) -> Symbol {
        Symbol {
            value: Some(ticker.into()),
            id: None,
            permtick: None,
        }
    }

    fn order(ticker: &str, quantity: f64, status: OrderStatus) -> Order {
        Order {
            symbol: Some(symbol(ticker)),
            quantity: Some(quantity),
            status: Some(status),
            ..Order::default()
        }
    }

    fn trade(ticker: &str, profit_loss: f64, fees: f64) -> ClosedTrade {
        ClosedTrade {
            symbols: vec![symbol(ticker)],
            profit_loss: Some(profit_loss),
            total_fees: Some(fees),
            ..ClosedTrade::default()
        }
    }

    #[test]
    fn orders_are_counted_by_what_became_of_them_and_by_security() {
        let mut unnamed = order("", 1.0, OrderStatus::Filled);
        unnamed.symbol = None;
        let read = [
            order("SPY", 10.0, OrderStatus::Filled),
            order("SPY", -10.0, OrderStatus::PartiallyFilled),
            order("TLT", 5.0, OrderStatus::Invalid),
            order("TLT", -5.0, OrderStatus::Canceled),
            unnamed,
        ];
        let found = orders(&read, 90);
        assert_eq!((found.total, found.counted), (90, 5));
        assert_eq!((found.filled, found.invalid, found.canceled), (3, 1, 1));
        let counts = |ticker: &str| (found.by_symbol[ticker].buys, found.by_symbol[ticker].sells);
        assert_eq!(counts("SPY"), (1, 1));
        assert_eq!(counts("TLT"), (1, 1));
        assert_eq!(counts(UNNAMED), (1, 0));
    }

    #[test]
    fn trades_are_counted_after_fees() {
        let mut unknown = trade("SPY", 0.0, 0.0);
        unknown.profit_loss = None;
        let read = [
            trade("SPY", 100.0, 2.0),
            trade("SPY", -48.0, 2.0),
            trade("TLT", 1.0, 2.0),
            unknown,
        ];
        let found = trades(&read, 4);
        assert_eq!((found.total, found.counted, found.wins), (4, 3, 1));
        assert_eq!((found.net_profit, found.fees), (47.0, 6.0));
        assert_eq!(found.mean, Some(47.0 / 3.0));
        assert_eq!(found.profit_factor, Some(98.0 / 51.0));
        assert_eq!((found.best, found.worst), (Some(98.0), Some(-50.0)));
        assert_eq!(found.by_symbol["SPY"].net_profit, 48.0);
        let none = trades(&[], 0);
        assert_eq!(
            (none.mean, none.profit_factor, none.best),
            (None, None, None)
        );
    }

    proptest! {
        #[test]
        fn nothing_is_lost_among_many_securities(
            entries in proptest::collection::vec((0u8..90, -5i32..5), 0..200),
        ) {
            let quantity = |it: i32| f64::from(it);
            let read: Vec<Order> = entries.iter()
                .map(|(ticker, it)| order(&format!("T{ticker}"), quantity(*it), OrderStatus::Filled))
                .collect();
            let found = orders(&read, u32::try_from(read.len()).unwrap());
            prop_assert!(found.by_symbol.len() <= MAX_SYMBOLS + 1);
            let buys: usize = found.by_symbol.values().map(|it| it.buys).sum();
            let sells: usize = found.by_symbol.values().map(|it| it.sells).sum();
            prop_assert_eq!(buys, entries.iter().filter(|it| it.1 > 0).count());
            prop_assert_eq!(sells, entries.iter().filter(|it| it.1 < 0).count());

            let closed: Vec<ClosedTrade> = entries.iter()
                .map(|(ticker, it)| trade(&format!("T{ticker}"), quantity(*it), 1.0))
                .collect();
            let found = trades(&closed, 0);
            let net: f64 = found.by_symbol.values().map(|it| it.net_profit).sum();
            prop_assert_eq!(net, found.net_profit);
            prop_assert_eq!(found.by_symbol.values().map(|it| it.trades).sum::<usize>(), closed.len());
        }
    }
}
