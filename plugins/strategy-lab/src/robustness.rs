//! `robustness`: how far the result of a backtest can be trusted, given what else was tried.
//!
//! This file reads what the statistics need and puts them together; each statistic has a file of its own in `robustness`,
//! which is plain data.
//!
//! Invariant: the number of trials is the host's count. What the caller says of it does not enter.

use std::collections::BTreeSet;

use qchost_sdk::backtests::{BacktestChartRequest, BacktestStatus, BacktestSummary};
use qchost_sdk::prelude::*;
use qchost_sdk::types::ClosedTrade;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::figures;
use crate::project;

pub(crate) mod equity;
mod moments;
pub(crate) mod monte_carlo;
mod normal;
mod overfitting;
#[cfg(test)]
mod reference;
mod sensitivity;
mod sharpe;
mod stress;
pub(crate) mod undefined;
pub(crate) mod walk_forward;
mod warnings;

use equity::{Curve, Returns};
use jiff::civil::Date;
use monte_carlo::MonteCarlo;
use overfitting::Overfitting;
use sensitivity::{Sensitivity, Trial};
use sharpe::Sharpe;
use stress::{Stress, Trade};
use undefined::Undefined;
use walk_forward::{Kind, Plan, WalkForward, Window};

/// How many backtests are compared at most: each is a read of its chart.
const MAX_COMPARED: usize = 50;
/// How many closed trades are read at most.
const MAX_TRADES: usize = 2_000;
/// Closed trades of one read.
const PAGE: u32 = 100;
/// How many orders of the trades are tried at most.
const MAX_RUNS: usize = 2_000;
/// Points asked for: ten years with a point a day fit, and a day keeps its last one of several.
pub(crate) const CHART_POINTS: u32 = 10_000;
/// An instant that no backtest passes, in seconds since 1970.
pub(crate) const LAST_INSTANT: u32 = i32::MAX.unsigned_abs();

/// What to examine.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Robustness {
    /// The project, by id or by name; the one in the agent's configuration if not given.
    #[serde(default)]
    project: Option<ProjectReference>,
    /// The backtest to judge; of those compared, the one with the highest Sharpe ratio if not given.
    #[serde(default)]
    backtest: Option<String>,
    /// The backtests that it was chosen from, such as those of a sweep: at most 50. The newest completed ones of the project
    /// if none are given.
    #[serde(default)]
    backtests: Vec<String>,
    /// Blocks that the history is split into for the probability of overfitting: an even number.
    #[serde(default = "splits")]
    #[schemars(range(min = 2, max = 16))]
    splits: u32,
    /// How many orders of the closed trades to try.
    #[serde(default = "runs")]
    #[schemars(range(min = 1, max = 2000))]
    runs: usize,
    /// The same seed gives the same orders of the trades.
    #[serde(default = "seed")]
    seed: u64,
    /// Windows to walk forward in; if not given, rolling ones of half of the history, each proved on the tenth after it.
    #[serde(default)]
    walk_forward: Option<Plan>,
}

fn splits() -> u32 {
    overfitting::MAX_SPLITS
}

fn runs() -> usize {
    1_000
}

fn seed() -> u64 {
    1
}

/// What was found.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Report {
    /// The project's id.
    project_id: u32,
    /// The backtest that is judged.
    backtest_id: String,
    /// The backtests that it is compared with, itself among them. `walk_forward` names them by their position here, from 0.
    compared: Vec<String>,
    #[serde(flatten)]
    findings: Findings,
    /// What speaks against the strategy, in sentences.
    warnings: Vec<String>,
    /// The figures that have no value, and why.
    not_known: Vec<String>,
}

/// The figures. One that has no value is null, with its reason in `not_known`.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Findings {
    /// The returns of the backtest.
    returns: ReturnFigures,
    /// How many trials the host counted: backtests and combinations of optimisations.
    trials: u32,
    /// How many of them are of other projects that have held the same code.
    inherited_trials: u32,
    /// The probability that the true Sharpe ratio is above 0, from 0 to 1.
    probabilistic_sharpe_ratio: Option<f64>,
    /// The number of returns at which that probability is 0.95.
    minimum_track_record: Option<f64>,
    /// The largest annual Sharpe ratio to expect of as many trials without skill.
    expected_maximum_sharpe_ratio: Option<f64>,
    /// The probability that the true Sharpe ratio is above that, from 0 to 1.
    deflated_sharpe_ratio: Option<f64>,
    /// Whether choosing by the backtest is better than chance.
    overfitting: Option<Overfitting>,
    /// How much the Sharpe ratio depends on the exact parameters.
    sensitivity: Option<Sensitivity>,
    /// How many closed trades the following figures are of.
    trades: usize,
    /// The largest fall from a peak of the equity after each closed trade, as a fraction of the peak.
    trade_drawdown: Option<f64>,
    /// The closed trades in other orders.
    reordered: Option<MonteCarlo>,
    /// As many trades drawn from the closed ones with replacement.
    redrawn: Option<MonteCarlo>,
    /// The profit of the closed trades under higher costs.
    stress: Option<Stress>,
    /// What the best of each period gave in the next.
    walk_forward: Option<WalkForward>,
}

/// Daily returns in figures; the risk-free rate counts as 0.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct ReturnFigures {
    /// First day of the equity.
    first: String,
    /// Last day of the equity.
    last: String,
    /// How many returns there are.
    observations: usize,
    /// How many returns a year has.
    per_year: f64,
    /// Their mean.
    mean: f64,
    /// Their standard deviation, with n - 1.
    standard_deviation: f64,
    /// Their skewness, not corrected for bias.
    skewness: f64,
    /// Their kurtosis, not corrected for bias: 3 for normal returns.
    kurtosis: f64,
    /// Mean over standard deviation, annual.
    sharpe_ratio: f64,
}

/// What the statistics are made of.
struct Sample {
    /// The equity of each compared backtest.
    curves: Vec<Curve>,
    /// Which of them is judged.
    judged: usize,
    /// The closed trades of the judged one; as far as their amounts are known.
    trades: Vec<Trade>,
    /// Parameters and annual Sharpe ratio of the compared backtests.
    grid: Vec<Trial>,
    /// Annual Sharpe ratios of all completed backtests of the project.
    ratios: Vec<f64>,
    /// The host's count.
    trials: u32,
    /// How many of those are of other projects.
    inherited: u32,
}

/// Runs the action.
pub(crate) fn run(input: Robustness) -> Result<Report, Failure> {
    check(&input)?;
    let reference = match input.project.clone() {
        Some(reference) => reference,
        None => project::default()?,
    };
    let project = project::existing(&reference)?.id;
    let listed = backtests::list_backtests(project, Some(true))?.backtests;
    let choice = choose(&input, &listed)?;
    let counted = evidence::count_trials(project)?;
    let mut curves = Vec::new();
    for (number, backtest) in (0u32..).zip(&choice.compared) {
        progress::report(
            f64::from(number) / choice.compared.len() as f64,
            &format!("reading the equity of {}", backtest.backtest_id),
        );
        curves.push(curve(project, &backtest.backtest_id)?);
    }
    let id = choice.judged.backtest_id.clone();
    let (closed, total) = closed_trades(project, &id)?;
    let trades: Vec<Trade> = closed.iter().filter_map(trade).collect();
    let mut not_known = choice.left_out();
    not_known.extend(unread(trades.len(), closed.len(), total));
    let sample = Sample {
        judged: choice
            .compared
            .iter()
            .position(|it| it.backtest_id == id)
            .unwrap_or_default(),
        curves,
        trades,
        grid: choice
            .compared
            .iter()
            .filter_map(|it| grid_trial(it))
            .collect(),
        ratios: listed
            .iter()
            .filter(|it| is_completed(it))
            .filter_map(ratio)
            .collect(),
        trials: counted.count,
        inherited: counted.inherited,
    };
    let findings = judge(&sample, &input, &mut not_known)?;
    Ok(Report {
        project_id: project,
        backtest_id: id,
        compared: choice
            .compared
            .iter()
            .map(|it| it.backtest_id.clone())
            .collect(),
        warnings: warnings::warnings(&findings),
        findings,
        not_known,
    })
}

/// Checks the input before anything is read.
fn check(input: &Robustness) -> Result<(), Failure> {
    if input.backtests.len() > MAX_COMPARED {
        return Err(Failure::invalid_input(format!(
            "`backtests` has {} ids, and at most {MAX_COMPARED} are compared",
            input.backtests.len()
        )));
    }
    if !(2..=overfitting::MAX_SPLITS).contains(&input.splits) || !input.splits.is_multiple_of(2) {
        return Err(Failure::invalid_input(format!(
            "`splits` is {}; it is an even number from 2 to {}",
            input.splits,
            overfitting::MAX_SPLITS
        )));
    }
    if !(1..=MAX_RUNS).contains(&input.runs) {
        return Err(Failure::invalid_input(format!(
            "`runs` is {}; it goes from 1 to {MAX_RUNS}",
            input.runs
        )));
    }
    Ok(())
}

/// Which backtests are read.
struct Choice<'a> {
    judged: &'a BacktestSummary,
    compared: Vec<&'a BacktestSummary>,
    /// How many completed backtests are not compared, though none were named.
    more: usize,
}

impl Choice<'_> {
    /// A sentence on the backtests that there was no room for.
    fn left_out(&self) -> Vec<String> {
        let sentence = || {
            format!(
                "{} older backtests were not compared: at most {MAX_COMPARED} are",
                self.more
            )
        };
        (self.more > 0).then(sentence).into_iter().collect()
    }
}

fn is_completed(backtest: &BacktestSummary) -> bool {
    backtest.status == Some(BacktestStatus::Completed)
}

/// The annual Sharpe ratio that QuantConnect lists.
fn ratio(backtest: &BacktestSummary) -> Option<f64> {
    backtest.sharpe_ratio.filter(|it| it.is_finite())
}

/// The backtests to compare and the one to judge, out of the project's.
fn choose<'a>(input: &Robustness, listed: &'a [BacktestSummary]) -> Result<Choice<'a>, Failure> {
    let find = |id: &String| {
        let found = listed.iter().find(|it| it.backtest_id == *id);
        match found {
            Some(backtest) if is_completed(backtest) => Ok(backtest),
            Some(_) => Err(Failure::invalid_input(format!(
                "backtest {id} is not completed"
            ))),
            None => Err(Error::NotFound(format!("the project has no backtest {id}")).into()),
        }
    };
    let judged = input.backtest.as_ref().map(find).transpose()?;
    let ids: BTreeSet<&String> = input.backtests.iter().collect();
    let named: Vec<&BacktestSummary> = ids.into_iter().map(find).collect::<Result<_, _>>()?;
    let mut compared = if named.is_empty() {
        listed.iter().filter(|it| is_completed(it)).collect()
    } else {
        named
    };
    let all = compared.len();
    compared.truncate(MAX_COMPARED);
    if let Some(judged) = judged
        && !compared
            .iter()
            .any(|it| it.backtest_id == judged.backtest_id)
    {
        compared.truncate(MAX_COMPARED - 1);
        compared.push(judged);
    }
    let ratios: Vec<f64> = compared
        .iter()
        .map(|it| ratio(it).unwrap_or(f64::NEG_INFINITY))
        .collect();
    let judged = judged.or_else(|| compared.get(overfitting::best(&ratios)).copied());
    let judged = judged.ok_or("the project has no completed backtest")?;
    Ok(Choice {
        judged,
        more: all.saturating_sub(compared.len()),
        compared,
    })
}

/// A point of the grid, if the backtest has parameters and a ratio.
fn grid_trial(backtest: &BacktestSummary) -> Option<Trial> {
    let parameters = figures::parameters(&backtest.parameter_set);
    let value = ratio(backtest)?;
    (!parameters.is_empty()).then_some(Trial { parameters, value })
}

/// The equity of a backtest.
pub(crate) fn curve(project: u32, backtest: &str) -> Result<Curve, Failure> {
    let request = BacktestChartRequest {
        project_id: project,
        backtest_id: backtest.to_owned(),
        name: "Strategy Equity".to_owned(),
        count: CHART_POINTS,
        start: 0,
        end: LAST_INSTANT,
    };
    let chart = wait::until_ready(|| backtests::read_backtest_chart(&request))?;
    Ok(Curve::of(&chart))
}

/// The closed trades in the order of their exits, as far as they are read, and how many there are.
pub(crate) fn closed_trades(
    project: u32,
    backtest: &str,
) -> Result<(Vec<ClosedTrade>, u32), Failure> {
    let mut trades = Vec::new();
    loop {
        let start = u32::try_from(trades.len()).unwrap_or(u32::MAX);
        let page = wait::until_ready(|| {
            backtests::read_backtest_trades(project, backtest, start, start.saturating_add(PAGE))
        })?;
        let empty = page.trades.is_empty();
        trades.extend(page.trades);
        let read = u32::try_from(trades.len()).unwrap_or(u32::MAX);
        if empty || read >= page.length || trades.len() >= MAX_TRADES {
            return Ok((trades, page.length));
        }
    }
}

/// A trade whose profit is known. The traded value is price times units, which of futures and options leaves out the contract's
/// multiplier.
fn trade(closed: &ClosedTrade) -> Option<Trade> {
    let value = |price: Option<f64>| Some(price?.abs() * closed.quantity?.abs());
    let traded = value(closed.entry_price).zip(value(closed.exit_price));
    Some(Trade {
        profit: closed.profit_loss?,
        fees: closed.total_fees.unwrap_or_default(),
        traded: traded.map(|(entry, exit)| entry + exit),
    })
}

/// What was left out of the closed trades: those beyond the bound, and those without a profit.
fn unread(used: usize, read: usize, total: u32) -> Vec<String> {
    let mut left_out = Vec::new();
    if u32::try_from(read).is_ok_and(|read| read < total) {
        left_out.push(format!(
            "closed trades after the first {read} of {total} were not read"
        ));
    }
    if used < read {
        left_out.push(format!(
            "{} closed trades were left out: QuantConnect gives no profit for them",
            read - used
        ));
    }
    left_out
}

/// The statistics of a sample. Those without a value are named in `not_known`.
///
/// # Errors
/// If the judged backtest has no returns to speak of.
fn judge(
    sample: &Sample,
    input: &Robustness,
    not_known: &mut Vec<String>,
) -> Result<Findings, Failure> {
    let mut known = NotKnown(not_known);
    let none = Curve::default();
    let curve = sample.curves.get(sample.judged).unwrap_or(&none);
    let (first, last) = curve.span().ok_or("the backtest has no equity")?;
    let moments = moments::moments(&curve.returns())
        .map_err(|reason| format!("the returns of the backtest cannot be judged: {reason}"))?;
    let per_year = curve.returns_per_year();
    let sharpe = Sharpe::of(&moments);
    // Of the trials' annual ratios, for one return.
    let variance = trial_variance(sample).map(|it| it / per_year);
    let expected = variance.and_then(|it| sharpe::expected_maximum(sample.trials, it));
    let deflated = variance.and_then(|it| sharpe.deflated(sample.trials, it));
    let curves: Vec<&Curve> = sample.curves.iter().collect();
    let returns = equity::aligned(&curves);
    let profits: Vec<f64> = sample.trades.iter().map(Trade::net).collect();
    let start = curve.start().unwrap_or_default();
    let count = profits.len();
    let reordered = monte_carlo::permutations(input.seed, count, input.runs);
    let redrawn = monte_carlo::bootstraps(input.seed, count, input.runs);
    let walked = walk(&returns, input.walk_forward);
    Ok(Findings {
        returns: ReturnFigures {
            first: first.to_string(),
            last: last.to_string(),
            observations: moments.count,
            per_year,
            mean: moments.mean,
            standard_deviation: moments.sd,
            skewness: moments.skewness,
            kurtosis: moments.kurtosis,
            sharpe_ratio: sharpe.ratio * per_year.sqrt(),
        },
        trials: sample.trials,
        inherited_trials: sample.inherited,
        probabilistic_sharpe_ratio: known
            .or("probabilistic_sharpe_ratio", sharpe.probabilistic(0.0)),
        minimum_track_record: known.or(
            "minimum_track_record",
            sharpe.minimum_track_record(0.0, warnings::CONFIDENCE),
        ),
        expected_maximum_sharpe_ratio: known
            .or("expected_maximum_sharpe_ratio", expected)
            .map(|it| it * per_year.sqrt()),
        deflated_sharpe_ratio: known.or("deflated_sharpe_ratio", deflated),
        overfitting: known.or(
            "overfitting",
            overfitting::overfitting(&returns.columns, input.splits),
        ),
        sensitivity: known.or(
            "sensitivity",
            sensitivity::sensitivity(&sample.grid, warnings::TOLERANCE),
        ),
        trades: count,
        trade_drawdown: (count > 0).then(|| monte_carlo::drawdown(start, &profits)),
        reordered: known.or("reordered", monte_carlo::run(&profits, start, reordered)),
        redrawn: known.or("redrawn", monte_carlo::run(&profits, start, redrawn)),
        stress: known.or("stress", stress::stress(&sample.trades)),
        walk_forward: known.or("walk_forward", walked),
    })
}

/// The variance of the trials' annual Sharpe ratios. One trial was not selected from anything, and equal ratios do not vary: 0.
fn trial_variance(sample: &Sample) -> Result<f64, Undefined> {
    match moments::moments(&sample.ratios) {
        Ok(found) => Ok(found.sd * found.sd),
        Err(Undefined::Constant) => Ok(0.0),
        Err(_) if sample.trials == 1 => Ok(0.0),
        Err(reason) => Err(reason),
    }
}

/// Walks forward through returns in the windows of the caller's plan, or in default ones.
pub(crate) fn walk(returns: &Returns, plan: Option<Plan>) -> Result<WalkForward, Undefined> {
    let windows = windows(&returns.dates, plan)?;
    walk_forward::walk_forward(&returns.dates, &returns.columns, &windows)
}

/// The windows of the caller's plan, or rolling ones of half of the history and a tenth of it.
fn windows(dates: &[Date], plan: Option<Plan>) -> Result<Vec<Window>, Undefined> {
    let (Some(first), Some(last)) = (dates.first(), dates.last()) else {
        return Err(Undefined::TooFew {
            what: "days that all backtests have",
            needed: 2,
            given: 0,
        });
    };
    let days = last.duration_since(*first).as_hours() / 24 + 1;
    let days = u32::try_from(days).unwrap_or_default();
    let plan = plan.unwrap_or(Plan {
        kind: Kind::Rolling,
        in_sample_days: days / 2,
        out_of_sample_days: days / 10,
        step_days: None,
    });
    walk_forward::windows(*first, *last, &plan)
}

/// Names the figures without a value, with the reason.
struct NotKnown<'a>(&'a mut Vec<String>);

impl NotKnown<'_> {
    fn or<T>(&mut self, figure: &str, value: Result<T, Undefined>) -> Option<T> {
        value
            .inspect_err(|reason| self.0.push(format!("{figure}: {reason}")))
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::robustness::reference::noise;

    fn summary(id: &str, sharpe_ratio: f64) -> BacktestSummary {
        BacktestSummary {
            backtest_id: id.into(),
            status: Some(BacktestStatus::Completed),
            sharpe_ratio: Some(sharpe_ratio),
            ..BacktestSummary::default()
        }
    }

    fn input(json: &str) -> Robustness {
        serde_json::from_str(json).unwrap()
    }

    fn chosen(json: &str, listed: &[BacktestSummary]) -> Result<(String, Vec<String>), String> {
        let input = input(json);
        check(&input).map_err(|failure| failure.to_string())?;
        let choice = choose(&input, listed).map_err(|failure| failure.to_string())?;
        let compared = choice.compared.iter().map(|it| it.backtest_id.clone());
        Ok((choice.judged.backtest_id.clone(), compared.collect()))
    }

    #[test]
    fn the_best_of_the_completed_backtests_is_judged_unless_one_is_named() {
        let mut running = summary("c", 9.0);
        running.status = Some(BacktestStatus::Running);
        let listed = [
            summary("a", 0.5),
            summary("b", 1.5),
            running,
            summary("d", f64::NAN),
        ];
        let of = |judged: &str, compared: &[&str]| {
            Ok((
                judged.to_owned(),
                compared
                    .iter()
                    .map(|it| (*it).to_owned())
                    .collect::<Vec<_>>(),
            ))
        };
        assert_eq!(chosen("{}", &listed), of("b", &["a", "b", "d"]));
        assert_eq!(
            chosen(r#"{"backtest": "a"}"#, &listed),
            of("a", &["a", "b", "d"])
        );
        assert_eq!(
            chosen(
                r#"{"backtest": "b", "backtests": ["d", "a", "a"]}"#,
                &listed
            ),
            of("b", &["a", "d", "b"])
        );
        for (json, reason) in [
            (r#"{"backtest": "c"}"#, "backtest c is not completed"),
            (r#"{"backtests": ["x"]}"#, "the project has no backtest x"),
            (r#"{"splits": 5}"#, "`splits` is 5"),
            (r#"{"splits": 18}"#, "`splits` is 18"),
            (r#"{"runs": 0}"#, "`runs` is 0"),
        ] {
            let error = chosen(json, &listed).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        assert!(
            chosen("{}", &[])
                .unwrap_err()
                .contains("no completed backtest")
        );
    }

    #[test]
    fn of_many_backtests_the_newest_are_compared_and_the_rest_is_counted() {
        let listed: Vec<_> = (0..60)
            .map(|number| summary(&format!("b{number}"), 0.1))
            .collect();
        let (judged, compared) = chosen(r#"{"backtest": "b59"}"#, &listed).unwrap();
        assert_eq!((judged.as_str(), compared.len()), ("b59", 50));
        assert_eq!((compared[0].as_str(), compared[49].as_str()), ("b0", "b59"));
        let input = input("{}");
        let choice = choose(&input, &listed).unwrap();
        assert_eq!(
            choice.left_out(),
            ["10 older backtests were not compared: at most 50 are"]
        );
    }

    #[test]
    fn a_trade_counts_with_its_profit_and_whatever_else_is_known() {
        let closed = ClosedTrade {
            profit_loss: Some(7.0),
            total_fees: Some(2.0),
            entry_price: Some(10.0),
            exit_price: Some(11.0),
            quantity: Some(3.0),
            ..ClosedTrade::default()
        };
        let found = trade(&closed).unwrap();
        assert_eq!((found.net(), found.traded), (5.0, Some(63.0)));
        let nameless = ClosedTrade {
            quantity: None,
            total_fees: None,
            ..closed.clone()
        };
        let found = trade(&nameless).unwrap();
        assert_eq!((found.net(), found.traded), (7.0, None));
        assert!(trade(&ClosedTrade::default()).is_none());
        assert_eq!(
            unread(1_998, 2_000, 2_500),
            [
                "closed trades after the first 2000 of 2500 were not read",
                "2 closed trades were left out: QuantConnect gives no profit for them",
            ]
        );
        assert!(unread(3, 3, 3).is_empty());
    }

    /// Equity of `days` days by noise with this mean.
    fn curve(seed: u64, days: usize, mean: f64) -> Curve {
        let mut equity = 100_000.0;
        let equities: Vec<f64> = noise(seed, days)
            .iter()
            .map(|it| {
                equity *= 1.0 + mean + 0.01 * it;
                equity
            })
            .collect();
        Curve::of(&equity::tests::chart(&equities))
    }

    fn sample(mean: f64, trials: u32) -> Sample {
        let trade = |it: &f64| Trade {
            profit: 1e6 * mean + 300.0 * it,
            fees: 10.0,
            traded: Some(20_000.0),
        };
        let grid = (1..=6).map(|fast: u32| Trial {
            parameters: [("fast".to_owned(), fast.to_string())].into(),
            value: if fast == 3 {
                2.0
            } else {
                f64::from(fast) * 0.1
            },
        });
        Sample {
            curves: (1..7)
                .map(|seed| curve(seed, 700, if seed == 3 { mean } else { 0.0 }))
                .collect(),
            judged: 2,
            trades: noise(40, 60).iter().map(trade).collect(),
            grid: grid.collect(),
            ratios: vec![0.1, -0.4, 1.0, 0.6, -0.2, 0.3],
            trials,
            inherited: 0,
        }
    }

    fn judged(sample: &Sample) -> (Findings, Vec<String>, Vec<String>) {
        let mut not_known = Vec::new();
        let findings = judge(sample, &input("{}"), &mut not_known).unwrap();
        let warnings = warnings::warnings(&findings);
        (findings, warnings, not_known)
    }

    #[test]
    fn a_strategy_with_skill_is_told_from_one_without() {
        let (skill, warnings, not_known) = judged(&sample(0.004, 20));
        assert!(not_known.is_empty(), "{not_known:?}");
        assert_eq!(skill.overfitting.as_ref().unwrap().probability, 0.0);
        assert!(skill.deflated_sharpe_ratio.unwrap() > 0.99);
        assert_eq!(skill.returns.observations, 699);
        let words = warnings.join("\n");
        assert!(!words.contains("luck alone"), "{words}");
        // The grid has one peak, whatever the curves are.
        assert!(words.contains("depends on the exact parameters"), "{words}");

        let (luck, warnings, _) = judged(&sample(0.0, 500));
        assert!(luck.deflated_sharpe_ratio.unwrap() < 0.9);
        let words = warnings.join("\n");
        for part in [
            "After 500 trials, luck alone would show a Sharpe ratio of",
            "The backtest is too short: 699 returns",
            "The closed trades lose money after fees",
            "Walking forward",
        ] {
            assert!(words.contains(part), "{part}: {words}");
        }
    }

    #[test]
    fn what_is_not_known_is_named_and_warned_of_by_nothing() {
        let mut alone = sample(0.004, 1);
        alone.curves = vec![curve(3, 40, 0.004)];
        alone.judged = 0;
        alone.trades.clear();
        alone.grid.clear();
        alone.ratios.truncate(1);
        let (findings, warnings, not_known) = judged(&alone);
        // One trial was not selected from anything.
        assert_eq!(
            findings.deflated_sharpe_ratio,
            findings.probabilistic_sharpe_ratio
        );
        assert_eq!(
            not_known,
            [
                "overfitting: it needs at least 2 strategies, and there are 1",
                "sensitivity: it needs at least 1 trials, and there are 0",
                "reordered: it needs at least 2 trades, and there are 0",
                "redrawn: it needs at least 2 trades, and there are 0",
                "stress: it needs at least 1 trades, and there are 0",
            ]
        );
        assert!(warnings[0].contains("39 returns"), "{warnings:?}");
        assert!(warnings.iter().any(|it| it.contains("0 closed trades")));

        alone.trials = 7;
        let (findings, _, not_known) = judged(&alone);
        assert_eq!(findings.deflated_sharpe_ratio, None);
        assert!(
            not_known
                .iter()
                .any(|it| it.starts_with("deflated_sharpe_ratio: "))
        );

        alone.curves.clear();
        let failure = judge(&alone, &input("{}"), &mut Vec::new()).unwrap_err();
        assert_eq!(failure.to_string(), "the backtest has no equity");
        alone.curves = vec![Curve::of(&equity::tests::chart(&[5.0; 9]))];
        let failure = judge(&alone, &input("{}"), &mut Vec::new()).unwrap_err();
        assert!(
            failure.to_string().contains("the values do not vary"),
            "{failure}"
        );
    }
}
