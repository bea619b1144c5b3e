//! Statistics of closed trades, by LEAN's definitions, in US dollars before fees.
//!
//! Invariant: computed from the list of trades alone, in the order of their exits.

use serde_json::{Value, json};

use super::numbers::{count, deviation, mean, median, money, number, ratio, seconds, span};
use super::portfolio::Trade;
use crate::text::seconds_text;

/// One trade with its times.
pub(super) struct TimedTrade<'t> {
    pub(super) trade: &'t Trade,
    /// Unix seconds of the entry.
    pub(super) entry: i64,
    /// Unix seconds of the exit.
    pub(super) exit: i64,
}

impl TimedTrade<'_> {
    /// Seconds between entry and exit.
    pub(super) fn duration(&self) -> f64 {
        seconds(self.exit - self.entry)
    }
}

/// Totals that are updated trade by trade.
#[derive(Default)]
struct RunningTotals {
    total: f64,
    peak: f64,
    peak_with_favorable: f64,
    closed_drawdown: f64,
    intra_drawdown: f64,
    wins_in_a_row: u32,
    losses_in_a_row: u32,
    most_wins: u32,
    most_losses: u32,
    peak_time: Option<i64>,
    in_drawdown: bool,
    longest_drawdown: i64,
}

impl RunningTotals {
    fn step(&mut self, timed: &TimedTrade<'_>) {
        let trade = timed.trade;
        let peak_time = *self.peak_time.get_or_insert(timed.entry);
        self.peak_with_favorable = self.peak_with_favorable.max(self.total + trade.favorable);
        self.intra_drawdown = self
            .intra_drawdown
            .min(self.total + trade.adverse - self.peak_with_favorable);
        self.total += trade.profit_loss;
        if trade.profit_loss > 0.0 {
            self.wins_in_a_row += 1;
            self.losses_in_a_row = 0;
            self.most_wins = self.most_wins.max(self.wins_in_a_row);
            if self.total > self.peak {
                self.peak = self.total;
                if self.in_drawdown {
                    self.longest_drawdown = self.longest_drawdown.max(timed.exit - peak_time);
                }
                self.peak_time = Some(timed.exit);
                self.in_drawdown = false;
            }
        } else {
            self.losses_in_a_row += 1;
            self.wins_in_a_row = 0;
            self.most_losses = self.most_losses.max(self.losses_in_a_row);
            self.closed_drawdown = self.closed_drawdown.min(self.total - self.peak);
            self.in_drawdown = true;
        }
    }
}

/// `TradeStatistics`. Where a ratio's divisor is zero and its dividend is not, LEAN writes 10.
pub(super) fn trade_statistics(trades: &[TimedTrade<'_>]) -> Value {
    let mut totals = RunningTotals::default();
    for timed in trades {
        totals.step(timed);
    }
    let results = |keep: fn(f64) -> bool| -> Vec<f64> {
        let results = trades.iter().map(|timed| timed.trade.profit_loss);
        results.filter(|result| keep(*result)).collect()
    };
    let durations = |keep: fn(f64) -> bool| -> Vec<f64> {
        let chosen = trades.iter().filter(|timed| keep(timed.trade.profit_loss));
        chosen.map(TimedTrade::duration).collect()
    };
    let all = results(|_| true);
    let (wins, losses) = (results(|r| r > 0.0), results(|r| r <= 0.0));
    let of = |value: fn(&Trade) -> f64| -> Vec<f64> {
        trades.iter().map(|timed| value(timed.trade)).collect()
    };
    let (adverse, favorable) = (of(|trade| trade.adverse), of(|trade| trade.favorable));
    let given_back = of(|trade| trade.favorable - trade.profit_loss);
    let (profit, loss) = (wins.iter().sum::<f64>(), losses.iter().sum::<f64>());
    let total: f64 = all.iter().sum();
    let or_ten = |a: f64, b: f64| {
        if a == 0.0 {
            0.0
        } else if b == 0.0 {
            10.0
        } else {
            ratio(a, b.abs())
        }
    };
    let greatest = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    let least = |values: &[f64]| values.iter().copied().fold(0.0, f64::min);
    let win_rate = ratio(count(wins.len()), count(all.len()));
    let loss_rate = if all.is_empty() { 0.0 } else { 1.0 - win_rate };
    json!({
        "startDateTime": trades.iter().map(|timed| timed.entry).min().map(seconds_text),
        "endDateTime": trades.iter().map(|timed| timed.exit).max().map(seconds_text),
        "totalNumberOfTrades": all.len(),
        "numberOfWinningTrades": wins.len(),
        "numberOfLosingTrades": losses.len(),
        "totalProfitLoss": money(total),
        "totalProfit": money(profit),
        "totalLoss": money(loss),
        "largestProfit": money(greatest(&wins)),
        "largestLoss": money(least(&losses)),
        "averageProfitLoss": money(mean(&all)),
        "averageProfit": money(mean(&wins)),
        "averageLoss": money(mean(&losses)),
        "averageTradeDuration": span(mean(&durations(|_| true))),
        "averageWinningTradeDuration": span(mean(&durations(|r| r > 0.0))),
        "averageLosingTradeDuration": span(mean(&durations(|r| r <= 0.0))),
        "medianTradeDuration": span(median(&durations(|_| true))),
        "medianWinningTradeDuration": span(median(&durations(|r| r > 0.0))),
        "medianLosingTradeDuration": span(median(&durations(|r| r <= 0.0))),
        "maxConsecutiveWinningTrades": totals.most_wins,
        "maxConsecutiveLosingTrades": totals.most_losses,
        "profitLossRatio": number(ratio(mean(&wins), mean(&losses).abs())),
        "winLossRatio": number(or_ten(count(wins.len()), count(losses.len()))),
        "winRate": number(win_rate),
        "lossRate": number(loss_rate),
        "averageMAE": money(mean(&adverse)),
        "averageMFE": money(mean(&favorable)),
        "largestMAE": money(least(&adverse)),
        "largestMFE": money(greatest(&favorable)),
        "maximumClosedTradeDrawdown": money(totals.closed_drawdown),
        "maximumIntraTradeDrawdown": money(totals.intra_drawdown),
        "profitLossStandardDeviation": money(deviation(&all)),
        "profitLossDownsideDeviation": money(deviation(&losses)),
        "profitFactor": number(or_ten(profit, loss)),
        "sharpeRatio": number(ratio(mean(&all), deviation(&all))),
        "sortinoRatio": number(ratio(mean(&all), deviation(&losses))),
        "profitToMaxDrawdownRatio": number(or_ten(total, totals.closed_drawdown)),
        "maximumEndTradeDrawdown": money(greatest(&given_back)),
        "averageEndTradeDrawdown": money(mean(&given_back)),
        "maximumDrawdownDuration": span(seconds(totals.longest_drawdown)),
        "totalFees": money(of(|trade| trade.fees).iter().sum()),
    })
}
