//! `trades`: the closed trades of a backtest, all or those that match a filter.
//!
//! QuantConnect gives ranges of all trades, so a filter is applied here, to a bounded number of them for each call.

use qchost_sdk::prelude::*;
use qchost_sdk::types::{ClosedTrade, TradeDirection};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::page;
use crate::project;

/// How many trades are read at a time.
const PAGE: u32 = 100;
/// How many trades one call looks at.
const MAX_SCANNED: u32 = 2_000;

/// Which trades to read: those that match everything that is given.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trades {
    /// The project, by id or by name; the one in the agent's configuration if not given.
    #[serde(default)]
    project: Option<ProjectReference>,
    /// The backtest; the newest of the project if not given.
    #[serde(default)]
    backtest: Option<String>,
    #[serde(flatten)]
    filter: Filter,
    /// Position of the first trade to look at, from 0: among all trades, whatever they match.
    #[serde(default)]
    start: u32,
    /// How many trades to give at most.
    #[serde(default = "page::count")]
    #[schemars(range(min = 1, max = 200))]
    count: u32,
}

/// What a trade has to match.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct Filter {
    /// The ticker in any case, such as `SPY`.
    #[serde(default)]
    symbol: Option<String>,
    /// Whether it was long or short.
    #[serde(default)]
    direction: Option<Direction>,
    /// Whether it ended with a profit: `true` for winning, `false` for losing trades.
    #[serde(default)]
    win: Option<bool>,
    /// The first day of its exit, UTC, such as `2024-01-31`.
    #[serde(default)]
    from: Option<String>,
    /// The last day of its exit, UTC.
    #[serde(default)]
    to: Option<String>,
}

/// How a trade began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Direction {
    /// With a purchase.
    Long,
    /// With a sale.
    Short,
}

/// A part of the trades.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Listed {
    /// The project's id.
    project_id: u32,
    /// The backtest.
    backtest_id: String,
    /// The trades, by the time of their exit.
    trades: Vec<Row>,
    /// Position of the first trade that was looked at.
    start: u32,
    /// The `start` to go on with; null if all trades were looked at.
    next: Option<u32>,
    /// How many trades the backtest has, whatever they match.
    total: u32,
}

/// A closed trade; amounts are in the account's currency. What QuantConnect does not give is null.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Row {
    /// The tickers; several for a combination.
    symbols: Vec<String>,
    /// `long` or `short`.
    direction: Option<String>,
    /// Units, always positive.
    quantity: Option<f64>,
    /// When it began, UTC.
    entry_time: Option<String>,
    /// Price at its beginning.
    entry_price: Option<f64>,
    /// When it ended, UTC.
    exit_time: Option<String>,
    /// Price at its end.
    exit_price: Option<f64>,
    /// Profit or loss before fees.
    profit_loss: Option<f64>,
    /// Fees.
    total_fees: Option<f64>,
    /// Maximum adverse excursion.
    mae: Option<f64>,
    /// Maximum favourable excursion.
    mfe: Option<f64>,
    /// Time from its beginning to its end, as .NET writes it: `1.02:03:04` is a day, two hours, three minutes, four seconds.
    duration: Option<String>,
    /// Whether it ended with a profit.
    win: Option<bool>,
    /// The orders that opened and closed it.
    order_ids: Vec<i32>,
}

impl From<ClosedTrade> for Row {
    fn from(trade: ClosedTrade) -> Self {
        let symbols = trade.symbols.into_iter();
        Self {
            symbols: symbols.filter_map(|it| it.value.or(it.id)).collect(),
            direction: trade.direction.map(|direction| match direction {
                TradeDirection::Long => "long".to_owned(),
                TradeDirection::Short => "short".to_owned(),
                TradeDirection::Other(name) => name,
            }),
            quantity: trade.quantity,
            entry_time: trade.entry_time,
            entry_price: trade.entry_price,
            exit_time: trade.exit_time,
            exit_price: trade.exit_price,
            profit_loss: trade.profit_loss,
            total_fees: trade.total_fees,
            mae: trade.mae,
            mfe: trade.mfe,
            duration: trade.duration,
            win: trade.is_win,
            order_ids: trade.order_ids,
        }
    }
}

impl Filter {
    fn matches(&self, trade: &ClosedTrade) -> bool {
        let symbol = self.symbol.as_deref().is_none_or(|wanted| {
            let values = trade.symbols.iter();
            values
                .flat_map(|it| [it.value.as_deref(), it.id.as_deref()])
                .flatten()
                .any(|it| it.eq_ignore_ascii_case(wanted))
        });
        let direction = self.direction.is_none_or(|wanted| {
            matches!(
                (wanted, &trade.direction),
                (Direction::Long, Some(TradeDirection::Long))
                    | (Direction::Short, Some(TradeDirection::Short))
            )
        });
        let win = self.win.is_none_or(|wanted| trade.is_win == Some(wanted));
        // Days in this form have the order of their texts.
        let day = trade.exit_time.as_deref().and_then(|it| it.get(..10));
        let is_at = |bound: &Option<String>, holds: fn(&str, &str) -> bool| {
            let day = |bound: &str| day.is_some_and(|day| holds(day, bound));
            bound.as_deref().is_none_or(day)
        };
        symbol
            && direction
            && win
            && is_at(&self.from, |day, bound| day >= bound)
            && is_at(&self.to, |day, bound| day <= bound)
    }

    /// Checks the days.
    fn check(&self) -> Result<(), Failure> {
        for (name, day) in [("from", &self.from), ("to", &self.to)] {
            if let Some(day) = day
                && !is_day(day)
            {
                return Err(Failure::invalid_input(format!(
                    "`{name}` is \"{day}\"; write a day as in 2024-01-31"
                )));
            }
        }
        Ok(())
    }
}

/// Whether a text has the form `2024-01-31`.
fn is_day(text: &str) -> bool {
    text.len() == 10
        && text.char_indices().all(|(at, letter)| match at {
            4 | 7 => letter == '-',
            _ => letter.is_ascii_digit(),
        })
}

/// Runs the action.
pub(crate) fn run(input: Trades) -> Result<Listed, Failure> {
    page::check(input.count)?;
    input.filter.check()?;
    let project = project::existing_or_default(input.project)?;
    let backtest = page::backtest(&project, input.backtest)?;
    let wanted = usize::try_from(input.count).unwrap_or(usize::MAX);
    let mut scan = Scan::new(input.start, wanted);
    for (start, end) in page::pieces(input.start, MAX_SCANNED, PAGE) {
        let page = wait::until_ready(|| {
            backtests::read_backtest_trades(project.id, &backtest, start, end)
        })?;
        if scan.add(&input.filter, page.trades, page.length) {
            break;
        }
    }
    Ok(Listed {
        project_id: project.id,
        backtest_id: backtest,
        next: page::next(scan.at, scan.total),
        trades: scan.found,
        start: input.start,
        total: scan.total,
    })
}

/// What was found so far.
struct Scan {
    found: Vec<Row>,
    /// Position after the last trade that was looked at.
    at: u32,
    total: u32,
    wanted: usize,
}

impl Scan {
    fn new(start: u32, wanted: usize) -> Self {
        Self {
            found: Vec::new(),
            at: start,
            total: 0,
            wanted,
        }
    }

    /// Takes a page of a list of `total` trades. Returns whether the scan is over.
    fn add(&mut self, filter: &Filter, trades: Vec<ClosedTrade>, total: u32) -> bool {
        self.total = total;
        let is_empty = trades.is_empty();
        for trade in trades {
            if self.found.len() >= self.wanted {
                return true;
            }
            self.at = self.at.saturating_add(1);
            if filter.matches(&trade) {
                self.found.push(trade.into());
            }
        }
        is_empty || self.found.len() >= self.wanted || self.at >= total
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use qchost_sdk::types::Symbol;

    use super::*;

    fn trade(symbol: &str, win: bool, exit: &str) -> ClosedTrade {
        ClosedTrade {
            symbols: vec![Symbol {
                value: Some(symbol.into()),
                id: None,
                permtick: None,
            }],
            direction: Some(TradeDirection::Long),
            is_win: Some(win),
            exit_time: Some(exit.into()),
            ..ClosedTrade::default()
        }
    }

    fn filter(json: &str) -> Filter {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_trade_has_to_match_everything() {
        let trade = trade("SPY", true, "2024-01-31 15:00:00");
        for json in [
            "{}",
            r#"{"symbol": "spy", "win": true, "direction": "long"}"#,
            r#"{"from": "2024-01-31", "to": "2024-01-31"}"#,
        ] {
            assert!(filter(json).matches(&trade), "{json}");
        }
        for json in [
            r#"{"symbol": "QQQ"}"#,
            r#"{"symbol": "spy", "win": false}"#,
            r#"{"direction": "short"}"#,
            r#"{"from": "2024-02-01"}"#,
            r#"{"to": "2024-01-30"}"#,
        ] {
            assert!(!filter(json).matches(&trade), "{json}");
        }
        // What is not known matches no filter.
        let unknown = ClosedTrade::default();
        assert!(filter("{}").matches(&unknown));
        for json in [
            r#"{"win": false}"#,
            r#"{"from": "2000-01-01"}"#,
            r#"{"direction": "long"}"#,
        ] {
            assert!(!filter(json).matches(&unknown), "{json}");
        }
    }

    #[test]
    fn days_have_one_form() {
        assert_eq!(filter(r#"{"from": "2024-01-31"}"#).check(), Ok(()));
        for day in ["31.01.2024", "2024-1-31", "2024-01-3ü", ""] {
            let failure = filter(&format!(r#"{{"to": "{day}"}}"#))
                .check()
                .unwrap_err();
            assert!(failure.to_string().contains("`to`"), "{failure}");
        }
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let error = serde_json::from_str::<Trades>(r#"{"wins": true}"#).unwrap_err();
        assert!(error.to_string().contains("wins"), "{error}");
    }

    proptest! {
        /// Reading on at `next` gives every matching trade once.
        #[test]
        fn scans_that_follow_each_other_find_all(
            wins in proptest::collection::vec(proptest::bool::ANY, 0..60), wanted in 1usize..8, page in 1usize..20,
        ) {
            let all: Vec<ClosedTrade> = wins.iter().map(|win| trade("SPY", *win, "2024-01-31")).collect();
            let length = u32::try_from(all.len()).unwrap();
            let filter = filter(r#"{"win": true}"#);
            let (mut start, mut found) = (0, 0);
            loop {
                let mut scan = Scan::new(start, wanted);
                let mut at = usize::try_from(start).unwrap();
                loop {
                    let end = (at + page).min(all.len());
                    if scan.add(&filter, all[at..end].to_vec(), length) {
                        break;
                    }
                    at = end;
                }
                found += scan.found.len();
                prop_assert!(scan.found.len() <= wanted);
                match page::next(scan.at, scan.total) {
                    Some(next) => { prop_assert!(next > start); start = next; }
                    None => break,
                }
            }
            prop_assert_eq!(found, wins.iter().filter(|win| **win).count());
        }
    }
}
