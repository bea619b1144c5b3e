//! Statistics of one run and of its closed trades, by LEAN's definitions. Those of trades are in US
//! dollars before fees.
//!
//! Returns are those from close to close, of the portfolio and of the benchmark, over the simulated
//! days (the first day has none: nothing can be held on it). A year has 252 trading days, the
//! risk-free rate is zero.
//!
//! Invariant: every number comes from the closes, trades and orders of the one run, so a reader of
//! those can compute it again.

use serde::Serialize;
use serde_json::{Value, json};

use super::numbers::{
    DAYS_PER_YEAR, count, covariance, deviation, finite, kurtosis, mean, median, money, normal_cdf,
    number, ratio, rounded, seconds, skewness, span, variance,
};
use super::portfolio::Trade;
use super::record::Run;
use crate::text::seconds_text;

/// The quantiles of the standard normal distribution at 1 % and 5 %.
const QUANTILE_1: f64 = -2.326_347_874_040_840_8;
const QUANTILE_5: f64 = -1.644_853_626_951_472_2;

/// The statistics of a portfolio. Rates and returns are fractions.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PortfolioStatistics {
    pub(super) average_win_rate: f64,
    pub(super) average_loss_rate: f64,
    pub(super) profit_loss_ratio: f64,
    pub(super) win_rate: f64,
    pub(super) loss_rate: f64,
    pub(super) expectancy: f64,
    pub(super) start_equity: f64,
    pub(super) end_equity: f64,
    pub(super) compounding_annual_return: f64,
    pub(super) drawdown: f64,
    /// Days of the calendar.
    pub(super) drawdown_recovery: f64,
    pub(super) total_net_profit: f64,
    pub(super) sharpe_ratio: f64,
    pub(super) probabilistic_sharpe_ratio: f64,
    pub(super) sortino_ratio: f64,
    pub(super) alpha: f64,
    pub(super) beta: f64,
    pub(super) annual_standard_deviation: f64,
    pub(super) annual_variance: f64,
    pub(super) information_ratio: f64,
    pub(super) tracking_error: f64,
    pub(super) treynor_ratio: f64,
    pub(super) portfolio_turnover: f64,
    pub(super) value_at_risk_99: f64,
    pub(super) value_at_risk_95: f64,
}

impl PortfolioStatistics {
    /// The statistics of a run that started with `cash` US dollars.
    pub(super) fn new(run: &Run, cash: f64) -> Self {
        let equity: Vec<f64> = run.closes.iter().map(|close| close.day.equity).collect();
        let benchmark: Vec<f64> = run.closes.iter().map(|close| close.benchmark).collect();
        let end_equity = equity.last().copied().unwrap_or(cash);
        let turnover: Vec<f64> = run
            .closes
            .iter()
            .map(|close| ratio(close.volume, close.day.equity))
            .collect();
        let mut statistics = Self {
            start_equity: cash,
            end_equity,
            total_net_profit: end_equity / cash - 1.0,
            portfolio_turnover: mean(&turnover),
            drawdown: rounded(-drawdowns(&equity).fold(0.0, f64::min), 3),
            drawdown_recovery: longest_recovery(run, &equity),
            compounding_annual_return: compounded(run, end_equity / cash),
            ..Self::default()
        };
        statistics.wins_and_losses(run, cash);
        statistics.risk(&returns(&equity), &returns(&benchmark));
        statistics
    }

    /// `PortfolioStatistics` of the API, rounded.
    pub(super) fn json(&self) -> Value {
        let mut json = serde_json::to_value(self).unwrap_or_default();
        for (name, value) in json.as_object_mut().into_iter().flatten() {
            let exact = value.as_f64().unwrap_or_default();
            *value = if name.ends_with("Equity") {
                money(exact).into()
            } else {
                number(exact).into()
            };
        }
        json
    }

    /// A trade counts with its result after fees, relative to the capital before it.
    fn wins_and_losses(&mut self, run: &Run, cash: f64) {
        let (mut profit, mut loss, mut wins, mut losses) = (0.0, 0.0, 0.0, 0.0);
        let mut capital = cash;
        for trade in &run.portfolio.trades {
            let net = trade.net();
            if net > 0.0 {
                profit += ratio(net, capital);
                wins += 1.0;
            } else {
                loss += ratio(net, capital);
                losses += 1.0;
            }
            capital += net;
        }
        self.average_win_rate = ratio(profit, wins);
        self.average_loss_rate = ratio(loss, losses);
        self.profit_loss_ratio = ratio(self.average_win_rate, self.average_loss_rate.abs());
        self.win_rate = ratio(wins, wins + losses);
        self.loss_rate = ratio(losses, wins + losses);
        self.expectancy = self.win_rate * self.profit_loss_ratio - self.loss_rate;
    }

    fn risk(&mut self, returns: &[f64], benchmark: &[f64]) {
        if returns.len() < 2 {
            return;
        }
        let annual = annual_return(returns);
        let annual_benchmark = annual_return(benchmark);
        self.annual_variance = variance(returns) * DAYS_PER_YEAR;
        self.annual_standard_deviation = libm::sqrt(self.annual_variance);
        self.sharpe_ratio = ratio(annual, self.annual_standard_deviation);
        let falls: Vec<f64> = returns.iter().copied().filter(|r| *r < 0.0).collect();
        let downside = libm::sqrt(variance(&falls) * DAYS_PER_YEAR);
        self.sortino_ratio = ratio(annual, downside);
        self.beta = ratio(covariance(returns, benchmark), variance(benchmark));
        if self.beta != 0.0 {
            self.alpha = annual - self.beta * annual_benchmark;
            self.treynor_ratio = ratio(annual, self.beta);
        }
        let active: Vec<f64> = returns.iter().zip(benchmark).map(|(r, b)| r - b).collect();
        self.tracking_error = libm::sqrt(variance(&active) * DAYS_PER_YEAR);
        self.information_ratio = ratio(annual - annual_benchmark, self.tracking_error);
        self.probabilistic_sharpe_ratio = probabilistic_sharpe(returns);
        let year: Vec<f64> = returns.iter().rev().take(252).copied().collect();
        let at_risk = |quantile| rounded(mean(&year) + deviation(&year) * quantile, 3);
        self.value_at_risk_99 = at_risk(QUANTILE_1);
        self.value_at_risk_95 = at_risk(QUANTILE_5);
    }
}

/// The relative changes from each value to the next.
fn returns(values: &[f64]) -> Vec<f64> {
    values
        .windows(2)
        .map(|pair| match pair {
            [before, after] => ratio(after - before, *before),
            _ => 0.0,
        })
        .collect()
}

/// The mean daily return, compounded over a year.
fn annual_return(returns: &[f64]) -> f64 {
    finite(libm::pow(mean(returns) + 1.0, DAYS_PER_YEAR) - 1.0)
}

/// The constant annual return (years of 365 days) that gives the same growth.
fn compounded(run: &Run, growth: f64) -> f64 {
    let (Some(first), Some(last)) = (run.days.first(), run.days.last()) else {
        return 0.0;
    };
    let days = last.duration_since(*first).as_secs_f64() / 86_400.0;
    if days > 0.0 && growth > 0.0 {
        finite(libm::pow(growth, 365.0 / days) - 1.0)
    } else {
        0.0
    }
}

/// The most days of the calendar from a peak of the equity until it was reached again. A fall that
/// lasts to the end is not among them.
fn longest_recovery(run: &Run, equity: &[f64]) -> f64 {
    let mut peak: Option<(f64, jiff::civil::Date)> = None;
    let mut longest = 0;
    let mut fell = false;
    for (value, day) in equity.iter().zip(&run.days) {
        match peak {
            Some((highest, _)) if *value < highest => fell = true,
            Some((_, since)) => {
                if fell {
                    longest = longest.max((*day - since).get_days());
                }
                (peak, fell) = (Some((*value, *day)), false);
            }
            None => peak = Some((*value, *day)),
        }
    }
    f64::from(longest)
}

/// For each day how far the equity is below its highest so far, as a fraction of that, zero or
/// negative.
pub(super) fn drawdowns(equity: &[f64]) -> impl Iterator<Item = f64> {
    let mut peak = f64::MIN_POSITIVE;
    equity.iter().map(move |value| {
        peak = peak.max(*value);
        value / peak - 1.0
    })
}

/// The probability that the true Sharpe ratio is above 1 a year, given the observed one
/// (Bailey and López de Prado, 2012, with LEAN's excess kurtosis).
fn probabilistic_sharpe(returns: &[f64]) -> f64 {
    let (Some(skewness), Some(kurtosis)) = (skewness(returns), kurtosis(returns)) else {
        return 0.0;
    };
    let observed = ratio(mean(returns), deviation(returns));
    let wanted = 1.0 / libm::sqrt(DAYS_PER_YEAR);
    let spread = 1.0 - skewness * observed + (kurtosis - 1.0) / 4.0 * observed * observed;
    let error = libm::sqrt(spread / (count(returns.len()) - 1.0));
    if error.is_nan() || deviation(returns) == 0.0 {
        0.0
    } else {
        finite(normal_cdf(ratio(observed - wanted, error)))
    }
}

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
