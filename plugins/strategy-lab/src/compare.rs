//! `compare`: backtests side by side: what they gave, on the same days, what they did, and what they ran.
//!
//! This file reads what is compared and puts it together; what is computed of it is in the files of `compare`, which are plain data.
//!
//! Invariant: every list is in the order of the backtests that the caller names.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use qchost_sdk::backtests::Backtest;
use qchost_sdk::prelude::*;
use qchost_sdk::types::Order;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::drawdowns::{self, Drawdown};
use crate::figures;
use crate::page;
use crate::project::{self, Project};
use crate::robustness::equity::Curve;
use crate::robustness::{closed_trades, curve};

mod activity;
mod returns;
mod source;

/// How many backtests are compared at most.
const MAX_COMPARED: usize = 8;
/// How many orders of a backtest are counted at most.
const MAX_ORDERS: u32 = 1_000;
/// How many orders QuantConnect gives at a time.
const PAGE: u32 = 99;
/// How many drawdowns of each backtest are given.
const DRAWDOWNS: usize = 5;
/// How many statistics, and how many parameters, are given at most.
const MAX_NAMES: usize = 100;

/// What to compare.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Compare {
    /// The project, by id or by name, of the backtests that name none; the one in the agent's configuration if not given.
    #[serde(default)]
    project: Option<ProjectReference>,
    /// Two to eight backtests that have ended. The others are compared with the first one.
    #[schemars(length(min = 2, max = 8))]
    backtests: Vec<Reference>,
    /// Whether to compare the files of the projects, where the backtests are of several.
    #[serde(default = "yes")]
    source: bool,
}

fn yes() -> bool {
    true
}

/// A backtest.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Reference {
    /// Its id.
    Id(String),
    /// Its id, and the project that it belongs to.
    Of(Elsewhere),
}

/// A backtest of a project of its own.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Elsewhere {
    /// The project, by id or by name.
    project: ProjectReference,
    /// The id of the backtest.
    backtest: String,
}

/// Backtests side by side. Every list has one entry for each of `backtests`, in their order.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Comparison {
    /// The backtests.
    backtests: Vec<Compared>,
    /// The parameters that they ran with, by name; null where one has no such parameter of its own.
    parameters: BTreeMap<String, Vec<Option<String>>>,
    /// Their statistics by name, in QuantConnect's order.
    statistics: Vec<Statistic>,
    /// The equity of each on its own days; null where there is none.
    equity: Vec<Option<returns::Equity>>,
    /// What they gave on the days that all have; null where there are fewer than two.
    common: Option<returns::Common>,
    /// The five deepest drawdowns of each, the deepest first, by daily equity.
    drawdowns: Vec<Vec<Drawdown>>,
    /// The mean share of the portfolio that is traded in a day, as a fraction; null where QuantConnect does not give it.
    turnover: Vec<Option<f64>>,
    /// Their orders.
    orders: Vec<activity::Orders>,
    /// Their closed trades.
    trades: Vec<activity::Trades>,
    /// The differences of their sources.
    source: Source,
    /// What could not be compared, and why.
    not_known: Vec<String>,
}

/// A backtest that is compared.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Compared {
    /// The project's id.
    project_id: u32,
    /// The project's name.
    project: String,
    /// Identifies the backtest at QuantConnect.
    backtest_id: String,
    /// Its name.
    name: Option<String>,
    /// First simulated instant.
    start: Option<String>,
    /// Last simulated instant.
    end: Option<String>,
    /// Number of simulated days on which the market was open.
    tradeable_dates: Option<u32>,
    /// The snapshot of the project's files that it ran, by QuantConnect's number.
    snapshot: Option<u32>,
}

/// A statistic of all backtests.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Statistic {
    /// Its name, as QuantConnect writes it.
    name: String,
    /// Its values; percentages are fractions. Null where it is no number or is missing.
    values: Vec<Option<f64>>,
    /// Its values as QuantConnect writes them; null where it is missing.
    texts: Vec<Option<String>>,
}

/// How the sources differ.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Source {
    /// What was compared, in a sentence: QuantConnect gives no file of a backtest or a compile, only those of a project as they are
    /// now.
    compared: String,
    /// What each backtest's project has instead of the files of the first one's; null where it is the same project.
    differences: Vec<Option<source::Difference>>,
}

/// What was read of a backtest.
struct Sample {
    project: Project,
    backtest: Backtest,
    curve: Curve,
    orders: activity::Orders,
    trades: activity::Trades,
}

/// Runs the action.
pub(crate) fn run(input: Compare) -> Result<Comparison, Failure> {
    check(&input)?;
    let mut samples = Vec::new();
    for (number, reference) in (0u32..).zip(&input.backtests) {
        let (project, id) = match reference {
            Reference::Id(id) => (project::existing_or_default(input.project.clone())?, id),
            Reference::Of(it) => (project::existing(&it.project)?, &it.backtest),
        };
        progress::report(
            f64::from(number) / input.backtests.len() as f64,
            &format!("reading {id} of \"{}\"", project.name),
        );
        samples.push(read(project, id)?);
    }
    let source = if input.source {
        sources(&samples)?
    } else {
        not_compared(samples.len(), "no source was compared, as asked")
    };
    Ok(compare(&samples, source))
}

/// Checks the input before anything is read.
fn check(input: &Compare) -> Result<(), Failure> {
    let count = input.backtests.len();
    if !(2..=MAX_COMPARED).contains(&count) {
        return Err(Failure::invalid_input(format!(
            "`backtests` has {count} entries; 2 to {MAX_COMPARED} are compared"
        )));
    }
    for (at, reference) in input.backtests.iter().enumerate() {
        if input.backtests.iter().take(at).any(|it| it == reference) {
            return Err(Failure::invalid_input(
                "`backtests` names one backtest twice",
            ));
        }
    }
    Ok(())
}

fn read(project: Project, id: &str) -> Result<Sample, Failure> {
    let backtest = ended(&project, id)?;
    let (orders, total) = read_orders(project.id, id)?;
    let orders = activity::orders(&orders, total);
    let (closed, total) = closed_trades(project.id, id)?;
    Ok(Sample {
        curve: curve(project.id, id)?,
        orders,
        trades: activity::trades(&closed, total),
        project,
        backtest,
    })
}

/// A backtest that has ended well.
pub(crate) fn ended(project: &Project, id: &str) -> Result<Backtest, Failure> {
    let backtest = backtests::read_backtest(project.id, id)?;
    match figures::reason_of_failure(&backtest) {
        None => Ok(backtest),
        Some(reason) => Err(Failure::failed(format!(
            "backtest {id} of \"{}\" is no result: {reason}",
            project.name
        ))),
    }
}

/// The first orders, and how many there are.
fn read_orders(project: u32, backtest: &str) -> Result<(Vec<Order>, u32), Failure> {
    let (mut orders, mut total) = (Vec::new(), 0);
    for (start, end) in page::pieces(0, MAX_ORDERS, PAGE) {
        let page =
            wait::until_ready(|| backtests::read_backtest_orders(project, backtest, start, end))?;
        total = page.length;
        let is_last = page.orders.is_empty() || end >= page.length;
        orders.extend(page.orders);
        if is_last {
            break;
        }
    }
    Ok((orders, total))
}

/// The differences of the projects' present files.
fn sources(samples: &[Sample]) -> Result<Source, Failure> {
    let Some(first) = samples.first() else {
        return Ok(not_compared(0, "there is nothing to compare"));
    };
    if samples.iter().all(|it| it.project.id == first.project.id) {
        return Ok(not_compared(samples.len(), &of_one_project(samples)));
    }
    let mut known: BTreeMap<u32, source::Files> = BTreeMap::new();
    for sample in samples {
        if let Entry::Vacant(entry) = known.entry(sample.project.id) {
            entry.insert(files(&sample.project)?);
        }
    }
    let of_first = known.get(&first.project.id);
    let differences = samples.iter().map(|sample| {
        let these = known.get(&sample.project.id);
        let others = of_first.zip(these);
        others
            .filter(|_| sample.project.id != first.project.id)
            .map(|(first, these)| source::difference(first, these))
    });
    let differences = differences.collect();
    Ok(Source {
        compared: "the files of the projects as they are now: QuantConnect gives none of a backtest or a compile, so they may have changed since"
            .to_owned(),
        differences,
    })
}

/// What is known of the sources of backtests of one project.
fn of_one_project(samples: &[Sample]) -> String {
    let snapshots: Vec<Option<u32>> = samples.iter().map(|it| it.backtest.snapshot_id).collect();
    let reason =
        "all are of one project, and QuantConnect gives no files of a backtest or a compile";
    match snapshots.first() {
        Some(Some(first)) if snapshots.iter().all(|it| *it == Some(*first)) => {
            format!("{reason}: they ran the same snapshot of its files, by QuantConnect's number")
        }
        _ if snapshots.iter().all(Option::is_some) => {
            format!(
                "{reason}: they ran different snapshots of its files, by QuantConnect's numbers"
            )
        }
        _ => format!("{reason}, nor says here which snapshot of its files they ran"),
    }
}

fn not_compared(count: usize, reason: &str) -> Source {
    Source {
        compared: reason.to_owned(),
        differences: (0..count).map(|_| None).collect(),
    }
}

/// The files of a project, without those of its libraries.
fn files(project: &Project) -> Result<source::Files, Failure> {
    let files = project::own_files(project.id)?.into_iter();
    let pairs = files.map(|file| (file.name, file.content.unwrap_or_default()));
    Ok(pairs.collect())
}

/// Puts samples side by side.
fn compare(samples: &[Sample], source: Source) -> Comparison {
    let curves: Vec<&Curve> = samples.iter().map(|it| &it.curve).collect();
    let mut not_known = Vec::new();
    for sample in samples {
        let id = &sample.backtest.backtest_id;
        let mut part = |what: &str, counted: usize, total: u32| {
            if usize::try_from(total).is_ok_and(|total| counted < total) {
                not_known.push(format!("{id}: {counted} of {total} {what} were counted"));
            }
        };
        part("orders", sample.orders.counted, sample.orders.total);
        part("closed trades", sample.trades.counted, sample.trades.total);
        if sample.curve.span().is_none() {
            not_known.push(format!("{id}: it has no equity"));
        }
    }
    let common = returns::common(&curves);
    if common.is_none() {
        not_known.push("common: the backtests have fewer than two days in common".to_owned());
    }
    let (statistics, more) = statistics(samples);
    if more > 0 {
        not_known.push(format!("{more} more statistics are not given"));
    }
    Comparison {
        backtests: samples.iter().map(Compared::of).collect(),
        parameters: parameters(samples),
        statistics,
        equity: curves.iter().map(|it| returns::equity(it)).collect(),
        common,
        drawdowns: curves
            .iter()
            .map(|it| drawdowns::deepest(drawdowns::all(it.days()), DRAWDOWNS))
            .collect(),
        turnover: samples.iter().map(|it| turnover(&it.backtest)).collect(),
        orders: samples.iter().map(|it| it.orders.clone()).collect(),
        trades: samples.iter().map(|it| it.trades.clone()).collect(),
        source,
        not_known,
    }
}

impl Compared {
    fn of(sample: &Sample) -> Self {
        let backtest = &sample.backtest;
        Self {
            project_id: sample.project.id,
            project: sample.project.name.clone(),
            backtest_id: backtest.backtest_id.clone(),
            name: backtest.name.clone().map(page::cut),
            start: backtest.backtest_start.clone(),
            end: backtest.backtest_end.clone(),
            tradeable_dates: backtest.tradeable_dates,
            snapshot: backtest.snapshot_id,
        }
    }
}

/// The parameters of all, at most 100 of them.
fn parameters(samples: &[Sample]) -> BTreeMap<String, Vec<Option<String>>> {
    let sets: Vec<BTreeMap<String, String>> = samples
        .iter()
        .map(|it| figures::parameters(&it.backtest.parameter_set))
        .collect();
    let names = sets.iter().flat_map(BTreeMap::keys).take(MAX_NAMES);
    let row = |name: &String| {
        let values = sets.iter().map(|it| it.get(name).cloned().map(page::cut));
        (page::cut(name.clone()), values.collect())
    };
    names.map(row).collect()
}

/// The statistics of all, and how many more there are. The order is that of the first backtest that has each.
fn statistics(samples: &[Sample]) -> (Vec<Statistic>, usize) {
    let mut names: Vec<&str> = Vec::new();
    let all = samples.iter().flat_map(|it| &it.backtest.statistics);
    for statistic in all {
        if !names.contains(&statistic.name.as_str()) {
            names.push(&statistic.name);
        }
    }
    let more = names.len().saturating_sub(MAX_NAMES);
    let row = |name: &&str| {
        let find = |sample: &Sample| {
            let mut all = sample.backtest.statistics.iter();
            all.find(|it| it.name == *name).cloned()
        };
        let found: Vec<_> = samples.iter().map(find).collect();
        let value = |it: &qchost_sdk::types::Statistic| it.value.filter(|it| it.is_finite());
        Statistic {
            name: page::cut((*name).to_owned()),
            values: found.iter().map(|it| it.as_ref().and_then(value)).collect(),
            texts: found
                .into_iter()
                .map(|it| it.map(|it| page::cut(it.text)))
                .collect(),
        }
    };
    (names.iter().take(MAX_NAMES).map(row).collect(), more)
}

fn turnover(backtest: &Backtest) -> Option<f64> {
    let performance = backtest.total_performance.as_ref();
    let portfolio = performance.and_then(|it| it.portfolio_statistics.as_ref());
    let found = portfolio.and_then(|it| it.portfolio_turnover);
    found
        .or_else(|| backtest.statistic("Portfolio Turnover"))
        .filter(|it| it.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::tests::backtest;
    use crate::robustness::equity::tests::chart;

    fn input(json: &str) -> Result<Compare, String> {
        let input: Compare = serde_json::from_str(json).map_err(|error| error.to_string())?;
        check(&input).map_err(|failure| failure.to_string())?;
        Ok(input)
    }

    fn sample(project: u32, id: &str, statistics: &[(&str, f64)], equities: &[f64]) -> Sample {
        let found = projects::Project {
            project_id: project,
            name: format!("Lab/{project}"),
            ..projects::Project::default()
        };
        Sample {
            project: found.into(),
            backtest: backtest(id, statistics),
            curve: Curve::of(&chart(equities)),
            orders: activity::orders(&[], 0),
            trades: activity::trades(&[], 0),
        }
    }

    fn nothing() -> Source {
        not_compared(2, "")
    }

    #[test]
    fn backtests_are_named_by_id_alone_or_with_their_project() {
        let found =
            input(r#"{"project": "Lab/A", "backtests": ["b1", {"project": 7, "backtest": "b2"}]}"#)
                .unwrap();
        assert_eq!(found.backtests[0], Reference::Id("b1".into()));
        assert_eq!(
            found.backtests[1],
            Reference::Of(Elsewhere {
                project: ProjectReference::Id(7),
                backtest: "b2".into()
            })
        );
        assert!(found.source);
        let nine: Vec<String> = (0..9).map(|id| format!("\"{id}\"")).collect();
        for (json, words) in [
            (r#"{"backtests": ["a"]}"#.to_owned(), "has 1 entries"),
            (
                format!(r#"{{"backtests": [{}]}}"#, nine.join(",")),
                "has 9 entries",
            ),
            (r#"{"backtests": ["a", "b", "a"]}"#.to_owned(), "twice"),
            (
                r#"{"backtests": ["a", {"backtest": "b"}]}"#.to_owned(),
                "did not match",
            ),
        ] {
            let error = input(&json).unwrap_err();
            assert!(error.contains(words), "{json}: {error}");
        }
    }

    #[test]
    fn statistics_stand_side_by_side_in_the_order_of_the_first() {
        let samples = [
            sample(
                1,
                "a",
                &[("Sharpe Ratio", 0.5), ("Drawdown", 0.1)],
                &[1.0, 2.0],
            ),
            sample(2, "b", &[("New", f64::NAN), ("Drawdown", 0.2)], &[1.0, 3.0]),
        ];
        let found = compare(&samples, nothing());
        let rows: Vec<_> = found
            .statistics
            .iter()
            .map(|it| (it.name.as_str(), it.values.clone()))
            .collect();
        assert_eq!(
            rows,
            [
                ("Sharpe Ratio", vec![Some(0.5), None]),
                ("Drawdown", vec![Some(0.1), Some(0.2)]),
                ("New", vec![None, None]),
            ]
        );
        assert_eq!(found.statistics[2].texts, [None, Some("NaN".into())]);
        assert_eq!(found.common.unwrap().total_returns, [1.0, 2.0]);
        assert_eq!(found.not_known, [] as [String; 0]);
    }

    #[test]
    fn many_statistics_are_bounded_and_counted() {
        let names: Vec<String> = (0..120).map(|number| format!("s{number}")).collect();
        let many: Vec<(&str, f64)> = names.iter().map(|it| (it.as_str(), 1.0)).collect();
        let samples = [
            sample(1, "a", &many, &[1.0, 2.0]),
            sample(1, "b", &[], &[1.0, 2.0]),
        ];
        let found = compare(&samples, nothing());
        assert_eq!(found.statistics.len(), MAX_NAMES);
        assert_eq!(found.not_known, ["20 more statistics are not given"]);
    }

    #[test]
    fn parameters_stand_side_by_side() {
        let mut samples = [sample(1, "a", &[], &[]), sample(1, "b", &[], &[])];
        samples[0].backtest.parameter_set = vec![("fast".into(), "10".into())];
        samples[1].backtest.parameter_set =
            vec![("fast".into(), "20".into()), ("slow".into(), "50".into())];
        let found = compare(&samples, nothing());
        assert_eq!(
            found.parameters["fast"],
            [Some("10".into()), Some("20".into())]
        );
        assert_eq!(found.parameters["slow"], [None, Some("50".into())]);
        assert_eq!(
            found.not_known,
            [
                "a: it has no equity",
                "b: it has no equity",
                "common: the backtests have fewer than two days in common",
            ]
        );
        assert_eq!(found.equity, [None, None]);
    }

    #[test]
    fn what_was_not_counted_is_said() {
        let mut samples = [
            sample(1, "a", &[], &[1.0, 2.0]),
            sample(1, "b", &[], &[1.0, 2.0]),
        ];
        samples[1].orders = activity::orders(&[], 5_000);
        let found = compare(&samples, nothing());
        assert_eq!(found.not_known, ["b: 0 of 5000 orders were counted"]);
    }

    #[test]
    fn of_one_project_only_the_snapshots_are_known() {
        let mut samples = [sample(1, "a", &[], &[]), sample(1, "b", &[], &[])];
        let of = |samples: &[Sample]| sources(samples).unwrap();
        assert!(of(&samples).compared.contains("nor says"));
        samples[0].backtest.snapshot_id = Some(5);
        samples[1].backtest.snapshot_id = Some(5);
        assert!(of(&samples).compared.contains("the same snapshot"));
        samples[1].backtest.snapshot_id = Some(6);
        let found = of(&samples);
        assert!(found.compared.contains("different snapshots"));
        assert_eq!(found.differences, [None, None]);
    }

    #[test]
    fn turnover_is_that_of_the_portfolio_s_statistics_or_of_the_text() {
        assert_eq!(turnover(&backtest("a", &[])), None);
        assert_eq!(
            turnover(&backtest("a", &[("Portfolio Turnover", 0.02)])),
            Some(0.02)
        );
    }
}
