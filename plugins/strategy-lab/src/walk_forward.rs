//! `walk-forward`: in each window of a history, the best parameters of one period prove themselves in the period after it.
//!
//! Invariant: no backtest out of sample is started before the parameters for it were chosen, and none of its days was part of the
//! choice.

use std::collections::{BTreeMap, BTreeSet};

use qchost_sdk::prelude::*;
use qchost_sdk::types::ParameterSet;
use qchost_sdk::workflow::{Batch, Item, ItemResult};
use serde::{Deserialize, Serialize};

use crate::build;
use crate::checks;
use crate::method::Method;
use crate::race::{self, Found, Race};
use crate::ranking::{self, Miss, Row};
use crate::robustness::walk_forward::{self, Plan};
use crate::space::{Axes, Space};
use crate::stability;
use crate::sweep;
use crate::window::{self, Days, Names, Window};

/// Days of a mean year.
const DAYS_PER_YEAR: f64 = 365.25;

/// What to walk through.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WalkForward {
    /// The project, by id or by name; the one in the agent's configuration if not given. A name that no project
    /// has makes a new project.
    #[serde(default)]
    project: Option<ProjectReference>,
    /// The algorithm: the text of `main.py` (`Main.cs` in a C# project). It reads its first and its last day from parameters.
    #[serde(default)]
    source: Option<String>,
    /// The values to try of each parameter, as in `sweep`.
    grid: Axes,
    /// How the combinations of each window are chosen, as in `sweep`.
    #[serde(default)]
    method: Method,
    /// The whole history, and the parameters from which the algorithm reads a period.
    window: Window,
    /// How the history is cut: `anchored` in-sample periods begin with it and grow, `rolling` ones keep their length.
    plan: Plan,
    /// The statistic to choose by, as QuantConnect names it. Of a drawdown less is better, of anything else more.
    #[serde(default = "sweep::target")]
    target: String,
    /// How many backtests may be started; checked before anything is sent.
    #[serde(default = "sweep::budget")]
    #[schemars(range(min = 1, max = 1000))]
    budget: usize,
    /// How many backtests to run at a time; the host may allow fewer.
    #[serde(default = "sweep::concurrency")]
    #[schemars(range(min = 1, max = 32))]
    concurrency: u32,
    /// Whether to have QuantConnect check the syntax and the `initialize` first; nothing is run if an error is found.
    #[serde(default)]
    check: bool,
}

/// What it gave.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Walked {
    /// The project's id.
    project_id: u32,
    /// The project's name.
    project: String,
    /// The compile that the backtests ran.
    compile_id: String,
    /// The statistic that was chosen by.
    target: String,
    /// How many backtests were started.
    backtests: usize,
    #[serde(flatten)]
    findings: Findings,
}

/// What the windows gave.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Findings {
    /// The windows, in order.
    windows: Vec<Outcome>,
    /// Walk-forward efficiency of all windows that have both results: the compound annual return out of sample over that in
    /// sample; null if the latter is not above 0.
    efficiency: Option<f64>,
    /// The share of the windows with a profit out of sample, from 0 to 1, of those that have a result; null if none has.
    share_of_gains: Option<f64>,
    /// How the chosen values move from window to window, by parameter.
    drift: BTreeMap<String, Drift>,
    /// The combinations that gave no result in sample, by window.
    failures: Vec<Failed>,
}

/// One window.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Outcome {
    /// The period in which the parameters were chosen.
    in_sample: Days,
    /// The period after it.
    out_of_sample: Days,
    /// The parameters that were chosen; null if no combination gave a result.
    parameters: Option<BTreeMap<String, String>>,
    /// What they gave in sample.
    chosen: Option<Row>,
    /// What they gave out of sample.
    proved: Option<Row>,
    /// Compound annual return out of sample over that in sample; null if the latter is not above 0 or one is not known.
    efficiency: Option<f64>,
    /// Spearman's rank correlation of the in-sample ranking with that of the window before, from -1 to 1.
    correlation: Option<f64>,
    /// Why something is missing.
    failure: Option<String>,
}

/// How a parameter's chosen value moves.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Drift {
    /// The chosen values, in the order of the windows that have one.
    values: Vec<String>,
    /// How many different ones there are.
    distinct: usize,
    /// How often the value is another one than in the window before.
    changes: usize,
    /// The smallest of them, if all are numbers.
    min: Option<f64>,
    /// The largest of them, if all are numbers.
    max: Option<f64>,
}

/// A combination without a result.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Failed {
    /// The position of the window, from 0.
    window: usize,
    #[serde(flatten)]
    miss: Miss,
}

/// Runs the action.
pub(crate) fn run(input: WalkForward) -> Result<Walked, Failure> {
    let mut planned = plan(&input)?;
    let project = checks::prepare(input.project, input.source.as_deref(), input.check)?;
    let compile_id = build::build(&project)?.or_failure()?;
    let mut backtests = 0;
    let mut batch = |name: &str, items: Vec<Item>| {
        backtests += items.len();
        progress::report(
            0.0,
            &format!(
                "{name}: running {} backtests of \"{}\"",
                items.len(),
                project.name
            ),
        );
        Ok(workflow::run_backtests(&Batch {
            project_id: project.id,
            compile_id: compile_id.clone(),
            items,
            concurrency: input.concurrency,
        })?)
    };
    race::run(&mut planned.races, &input.target, |name, items| {
        batch(&format!("in sample, {name}"), items)
    })?;
    let chosen: Vec<Result<Found, Failure>> = planned.races.into_iter().map(Race::finish).collect();
    if let Some(failure) = all_failed(&chosen) {
        return Err(failure);
    }
    let items = proofs(&planned.names, &planned.windows, &chosen);
    let proved = batch("out of sample", items)?;
    let findings = findings(
        &planned.names,
        &planned.windows,
        chosen,
        proved,
        &input.target,
    );
    for failed in &findings.failures {
        let parameters = race::name(failed.miss.parameters.iter());
        warn!(
            "window {}: {parameters}: {}",
            failed.window, failed.miss.reason
        );
    }
    Ok(Walked {
        project_id: project.id,
        project: project.name,
        compile_id,
        target: input.target,
        backtests,
        findings,
    })
}

/// What is to be done.
#[derive(Debug)]
struct Planned {
    names: Names,
    windows: Vec<walk_forward::Window>,
    /// One for each window.
    races: Vec<Race>,
}

/// Plans it, and checks all before anything is touched.
fn plan(input: &WalkForward) -> Result<Planned, Failure> {
    sweep::check(&input.target, input.concurrency)?;
    let space = Space::new(&input.grid)?;
    let (names, history) = input.window.read(&space)?;
    let windows = walk_forward::windows(history.first, history.last, &input.plan)
        .map_err(|reason| Failure::invalid_input(format!("`plan`: {reason}")))?;
    let race = |window: &walk_forward::Window| {
        Race::new(
            &input.method,
            &space,
            Some((names.clone(), window.in_sample)),
        )
    };
    // The first one is the shortest: what it does not allow, none does. More than the budget are not planned.
    let first = windows
        .iter()
        .take(1)
        .map(race)
        .collect::<Result<Vec<_>, _>>()?;
    let each = first.iter().map(Race::backtests).sum::<usize>();
    sweep::afford(
        windows.len().saturating_mul(each.saturating_add(1)),
        input.budget,
    )?;
    Ok(Planned {
        races: windows.iter().map(race).collect::<Result<_, _>>()?,
        names,
        windows,
    })
}

/// The first failure, if no window has anything else.
fn all_failed(chosen: &[Result<Found, Failure>]) -> Option<Failure> {
    let failures = chosen.iter().map(|it| it.as_ref().err());
    let failures: Option<Vec<&Failure>> = failures.collect();
    failures?.first().map(|failure| (*failure).clone())
}

/// The backtests out of sample: one for each window with a choice.
fn proofs(
    names: &Names,
    windows: &[walk_forward::Window],
    chosen: &[Result<Found, Failure>],
) -> Vec<Item> {
    let best = |found: &Result<Found, Failure>| {
        let found = found.as_ref().ok()?;
        Some(found.ranking.first()?.parameters.clone())
    };
    let pairs = windows.iter().zip(chosen);
    let sets = pairs.filter_map(|(window, found)| {
        let mut parameters: ParameterSet = best(found)?.into_iter().collect();
        parameters.extend(names.parameters(window.out_of_sample));
        Some(parameters)
    });
    (1..)
        .zip(sets)
        .map(|(number, set)| race::item(number, set))
        .collect()
}

/// Puts choices and proofs together. `proved` has a result for each window with a choice, in order.
fn findings(
    names: &Names,
    windows: &[walk_forward::Window],
    chosen: Vec<Result<Found, Failure>>,
    proved: Vec<ItemResult>,
    target: &str,
) -> Findings {
    let mut proved = proved.into_iter();
    let (mut outcomes, mut failures) = (Vec::new(), Vec::new());
    let mut growth = Growth::default();
    let mut before: Vec<Row> = Vec::new();
    for (position, (window, found)) in windows.iter().zip(chosen).enumerate() {
        let mut outcome = Outcome {
            in_sample: window.in_sample.into(),
            out_of_sample: window.out_of_sample.into(),
            parameters: None,
            chosen: None,
            proved: None,
            efficiency: None,
            correlation: None,
            failure: None,
        };
        match found {
            Ok(found) => {
                outcome.correlation = stability::between(&before, &found.ranking);
                let misses = found.misses.into_iter();
                failures.extend(misses.map(|miss| Failed {
                    window: position,
                    miss,
                }));
                outcome.chosen = found.ranking.first().cloned();
                before = found.ranking;
                outcome.parameters = outcome.chosen.as_ref().map(|row| row.parameters.clone());
                match proved.next().map(|result| proof(names, result, target)) {
                    Some(Ok(row)) => outcome.proved = Some(row),
                    Some(Err(reason)) => outcome.failure = Some(reason),
                    None => outcome.failure = Some("there is no backtest out of sample".into()),
                }
            }
            Err(failure) => {
                before = Vec::new();
                outcome.failure = Some(failure.to_string());
            }
        }
        let profit = |row: &Option<Row>| row.as_ref()?.figures.net_profit;
        if let (Some(inside), Some(outside)) = (profit(&outcome.chosen), profit(&outcome.proved)) {
            let one = Growth::of(window, inside, outside);
            outcome.efficiency = one.efficiency();
            growth = growth.then(&one);
        }
        outcomes.push(outcome);
    }
    Findings {
        efficiency: growth.efficiency(),
        share_of_gains: share_of_gains(&outcomes),
        drift: drift(&outcomes),
        windows: outcomes,
        failures,
    }
}

/// The result of a backtest out of sample, or why there is none.
fn proof(names: &Names, mut result: ItemResult, target: &str) -> Result<Row, String> {
    let is_own = |name: &String| *name != names.start && *name != names.end;
    result.parameters.retain(|(name, _)| is_own(name));
    match ranking::rank(vec![result], target) {
        Ok((rows, _)) => rows
            .into_iter()
            .next()
            .ok_or_else(|| "there is no result".to_owned()),
        Err(failure) => Err(failure.to_string()),
    }
}

/// Growth in sample and out of sample, over some calendar days of each.
#[derive(Debug, Clone, Copy)]
struct Growth {
    inside: f64,
    outside: f64,
    days_inside: i64,
    days_outside: i64,
}

impl Default for Growth {
    fn default() -> Self {
        Self {
            inside: 1.0,
            outside: 1.0,
            days_inside: 0,
            days_outside: 0,
        }
    }
}

impl Growth {
    /// From net profits as fractions of the start equity.
    fn of(window: &walk_forward::Window, inside: f64, outside: f64) -> Self {
        Self {
            inside: (1.0 + inside).max(0.0),
            outside: (1.0 + outside).max(0.0),
            days_inside: window::days(window.in_sample),
            days_outside: window::days(window.out_of_sample),
        }
    }

    fn then(&self, next: &Self) -> Self {
        Self {
            inside: self.inside * next.inside,
            outside: self.outside * next.outside,
            days_inside: self.days_inside.saturating_add(next.days_inside),
            days_outside: self.days_outside.saturating_add(next.days_outside),
        }
    }

    fn efficiency(&self) -> Option<f64> {
        // Days of a calendar are exact as a float.
        let days = |days: i64| i32::try_from(days).ok().map(f64::from);
        let annual = |factor: f64, days: f64| factor.powf(DAYS_PER_YEAR / days) - 1.0;
        let inside = annual(self.inside, days(self.days_inside)?);
        let outside = annual(self.outside, days(self.days_outside)?);
        walk_forward::efficiency(inside, outside)
    }
}

fn share_of_gains(outcomes: &[Outcome]) -> Option<f64> {
    let profits = outcomes
        .iter()
        .filter_map(|it| it.proved.as_ref()?.figures.net_profit);
    let profits: Vec<f64> = profits.collect();
    let count = |count: usize| u32::try_from(count).map_or(f64::MAX, f64::from);
    let gains = profits.iter().filter(|profit| **profit > 0.0).count();
    (!profits.is_empty()).then(|| count(gains) / count(profits.len()))
}

fn drift(outcomes: &[Outcome]) -> BTreeMap<String, Drift> {
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in outcomes
        .iter()
        .filter_map(|it| it.parameters.as_ref())
        .flatten()
    {
        values.entry(name.clone()).or_default().push(value.clone());
    }
    let drift = |values: Vec<String>| {
        let numbers: Option<Vec<f64>> = values.iter().map(|it| it.parse().ok()).collect();
        let numbers = numbers.unwrap_or_default().into_iter();
        let distinct: BTreeSet<&String> = values.iter().collect();
        let pairs = values.windows(2);
        Drift {
            distinct: distinct.len(),
            changes: pairs.filter(|pair| pair.first() != pair.last()).count(),
            min: numbers.clone().reduce(f64::min),
            max: numbers.reduce(f64::max),
            values,
        }
    };
    values
        .into_iter()
        .map(|(name, values)| (name, drift(values)))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::figures::tests::backtest;

    const TARGET: &str = "Sharpe Ratio";

    fn input(more: &str) -> WalkForward {
        let text = format!(
            r#"{{"grid": {{"fast": [1, 2, 3]}}, "window": {{"from": "2020-01-01", "to": "2020-12-31"}},
            "plan": {{"kind": "rolling", "in_sample_days": 180, "out_of_sample_days": 60}}{more}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    /// Backtests whose Sharpe ratio and net profit depend on the parameter and the first day.
    fn results(
        items: Vec<Item>,
        figures: impl Fn(&str, &str) -> Option<(f64, f64)>,
    ) -> Vec<ItemResult> {
        let result = |item: Item| {
            let of = |wanted: &str| {
                let found = item.parameters.iter().find(|(name, _)| name == wanted);
                found.unwrap().1.clone()
            };
            let outcome = match figures(&of("fast"), &of("start")) {
                Some((sharpe, profit)) => Ok(backtest(
                    &item.name,
                    &[(TARGET, sharpe), ("Net Profit", profit)],
                )),
                None => Err(Error::TimedOut("60 s".into())),
            };
            ItemResult {
                name: item.name.clone(),
                outcome,
                parameters: item.parameters.clone(),
            }
        };
        items.into_iter().map(result).collect()
    }

    fn walked(
        input: &WalkForward,
        figures: impl Fn(&str, &str) -> Option<(f64, f64)>,
    ) -> Result<Findings, Failure> {
        let mut planned = plan(input)?;
        race::run(&mut planned.races, TARGET, |_, items| {
            Ok(results(items, &figures))
        })?;
        let chosen: Vec<_> = planned.races.into_iter().map(Race::finish).collect();
        if let Some(failure) = all_failed(&chosen) {
            return Err(failure);
        }
        let items = proofs(&planned.names, &planned.windows, &chosen);
        let proved = results(items, &figures);
        Ok(findings(
            &planned.names,
            &planned.windows,
            chosen,
            proved,
            TARGET,
        ))
    }

    #[test]
    fn the_best_of_each_window_is_proved_in_the_next_period() {
        let found = walked(&input(""), |fast, start| {
            let fast: f64 = fast.parse().unwrap();
            // From March on, another value is best.
            let best = if start < "2020-02-15" { 3.0 } else { 1.0 };
            Some((-(fast - best).abs(), 0.1))
        })
        .unwrap();
        let shown: Vec<String> = found
            .windows
            .iter()
            .map(|it| {
                format!(
                    "{} {} {}",
                    it.in_sample.first,
                    it.out_of_sample.first,
                    it.parameters.as_ref().unwrap()["fast"]
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                "2020-01-01 2020-06-29 3",
                "2020-03-01 2020-08-28 1",
                "2020-04-30 2020-10-27 1"
            ]
        );
        let drift = &found.drift["fast"];
        assert_eq!((drift.distinct, drift.changes), (2, 1));
        assert_eq!((drift.min, drift.max), (Some(1.0), Some(3.0)));
        assert_eq!(found.share_of_gains, Some(1.0));
        // The first ranking is the reverse of the second one, which is that of the third.
        let correlations: Vec<_> = found.windows.iter().map(|it| it.correlation).collect();
        assert_eq!(correlations, [None, Some(-1.0), Some(1.0)]);
        // A tenth in 60 days is more than a tenth in 180.
        let annual = |days: f64| 1.1_f64.powf(DAYS_PER_YEAR / days) - 1.0;
        let expected = annual(60.0) / annual(180.0);
        assert!((found.efficiency.unwrap() - expected).abs() < 1e-9);
        assert!((found.windows[0].efficiency.unwrap() - expected).abs() < 1e-9);
        assert!(found.windows.iter().all(|it| it.failure.is_none()));
    }

    #[test]
    fn a_window_that_fails_says_why_and_the_others_go_on() {
        let found = walked(&input(""), |fast, start| match (fast, start) {
            // The search of the first window, one combination of the second, the proof of the third.
            (_, "2020-01-01") | ("2", "2020-03-01") | (_, "2020-10-27") => None,
            (fast, _) => Some((fast.parse().unwrap(), -0.1)),
        })
        .unwrap();
        let [first, second, third] = &found.windows[..] else {
            panic!("{found:?}")
        };
        assert!(first.failure.as_ref().unwrap().contains("timed out"));
        assert_eq!(first.parameters, None);
        assert!(second.proved.is_some() && second.failure.is_none());
        assert!(third.proved.is_none() && third.chosen.is_some());
        assert!(
            third.failure.as_ref().unwrap().contains("timed out"),
            "{third:?}"
        );
        assert_eq!(found.failures.len(), 1);
        assert_eq!(found.failures[0].window, 1);
        assert_eq!(found.share_of_gains, Some(0.0));
        // A loss in sample has no efficiency.
        assert_eq!(found.efficiency, None);
        assert_eq!(found.drift["fast"].values, ["3", "3"]);
    }

    #[test]
    fn if_every_window_fails_so_does_the_action() {
        let failure = walked(&input(""), |_, _| None).unwrap_err();
        assert_eq!(failure, Failure::Capability(Error::TimedOut("60 s".into())));
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_anything_is_sent() {
        for (more, words) in [
            (r#", "budget": 11"#, "takes 12 backtests"),
            (r#", "target": """#, "`target` is empty"),
            (r#", "concurrency": 0"#, "`concurrency` is 0"),
            (
                r#", "method": {"kind": "random", "samples": 4}"#,
                "there are 3 combinations",
            ),
        ] {
            let error = plan(&input(more)).unwrap_err().to_string();
            assert!(error.contains(words), "{more}: {error}");
        }
        let mut short = input("");
        short.plan.in_sample_days = 360;
        let error = plan(&short).unwrap_err().to_string();
        assert!(
            error.contains("`plan`: the history is too short"),
            "{error}"
        );
        assert!(plan(&input(r#", "budget": 12"#)).is_ok());
    }

    #[test]
    fn halving_works_in_each_window() {
        let halving = input(r#", "method": {"kind": "halving", "rungs": 2}"#);
        let planned = plan(&halving).unwrap();
        assert_eq!(
            planned.races.iter().map(Race::backtests).sum::<usize>(),
            3 * 4
        );
        let found = walked(&halving, |fast, _| Some((fast.parse().unwrap(), 0.1))).unwrap();
        assert!(
            found
                .windows
                .iter()
                .all(|it| it.parameters.as_ref().unwrap()["fast"] == "3")
        );
    }

    proptest! {
        #[test]
        fn no_more_backtests_than_planned_and_no_day_of_a_proof_in_its_choice(
            inside in 10u32..200, outside in 5u32..100, anchored: bool,
        ) {
            let mut input = input("");
            input.plan.in_sample_days = inside;
            input.plan.out_of_sample_days = outside;
            if anchored {
                input.plan.kind = walk_forward::Kind::Anchored;
            }
            let Ok(planned) = plan(&input) else { return Ok(()) };
            let backtests: usize = planned.races.iter().map(Race::backtests).sum();
            prop_assert!(backtests + planned.windows.len() <= sweep::MAX_BUDGET);
            for window in &planned.windows {
                prop_assert!(window.in_sample.last < window.out_of_sample.first);
            }
            let found = walked(&input, |fast, _| Some((fast.parse().unwrap(), 0.01))).unwrap();
            prop_assert_eq!(found.windows.len(), planned.windows.len());
            prop_assert!(found.windows.iter().all(|it| it.proved.is_some()));
        }
    }
}
