//! Optimisations in the cloud, as plain data: what is asked for, what it should cost, and what came of it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use qchost_sdk::files::ProjectFile;
use qchost_sdk::optimizations::{
    EstimateRequest, Extremum, NodeType, Optimization, OptimizationBacktest, OptimizationParameter,
    OptimizationRequest, OptimizationStatus, Strategy, TargetStatistic,
};
use qchost_sdk::prelude::*;
use serde::{Deserialize, Serialize};

use crate::figures::{self, Figures};
use crate::ranking::{self, Miss, Row};

/// How many combinations one optimisation may have.
const MAX_COMBINATIONS: f64 = 10_000.0;
/// How many rows of the ranking, and how many failures, are given.
const MAX_ROWS: usize = 500;
/// Seconds of an hour.
const HOUR: f64 = 3_600.0;

/// The values of a parameter in the cloud: from `min` to `max` by `step`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Steps {
    /// The first value.
    min: f64,
    /// The last value; tried if the steps meet it.
    max: f64,
    /// The distance between values, above 0.
    step: f64,
}

/// The statistics by which QuantConnect optimises.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub(crate) enum Target {
    /// More is better.
    #[default]
    #[serde(rename = "Sharpe Ratio")]
    SharpeRatio,
    /// More is better.
    #[serde(rename = "Compounding Annual Return")]
    AnnualReturn,
    /// More is better.
    #[serde(rename = "Probabilistic Sharpe Ratio")]
    ProbabilisticSharpeRatio,
    /// Less is better.
    #[serde(rename = "Drawdown")]
    Drawdown,
}

impl Target {
    /// Its name, as QuantConnect writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SharpeRatio => "Sharpe Ratio",
            Self::AnnualReturn => "Compounding Annual Return",
            Self::ProbabilisticSharpeRatio => "Probabilistic Sharpe Ratio",
            Self::Drawdown => "Drawdown",
        }
    }

    fn statistic(self) -> TargetStatistic {
        match self {
            Self::SharpeRatio => TargetStatistic::SharpeRatio,
            Self::AnnualReturn => TargetStatistic::CompoundingAnnualReturn,
            Self::ProbabilisticSharpeRatio => TargetStatistic::ProbabilisticSharpeRatio,
            Self::Drawdown => TargetStatistic::Drawdown,
        }
    }

    fn extremum(self) -> Extremum {
        if ranking::lower_is_better(self.name()) {
            Extremum::Minimum
        } else {
            Extremum::Maximum
        }
    }

    /// That of an optimisation, if it is one of these.
    pub(crate) fn of(statistic: &TargetStatistic) -> Option<Self> {
        match statistic {
            TargetStatistic::SharpeRatio => Some(Self::SharpeRatio),
            TargetStatistic::CompoundingAnnualReturn => Some(Self::AnnualReturn),
            TargetStatistic::ProbabilisticSharpeRatio => Some(Self::ProbabilisticSharpeRatio),
            TargetStatistic::Drawdown => Some(Self::Drawdown),
            TargetStatistic::Other(_) => None,
        }
    }
}

/// The nodes that run optimisations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum Node {
    /// 2 cores and 8 GB, at most 24 nodes.
    #[default]
    #[serde(rename = "O2-8")]
    Small,
    /// 4 cores and 12 GB, at most 12 nodes.
    #[serde(rename = "O4-12")]
    Medium,
    /// 8 cores and 16 GB, at most 6 nodes.
    #[serde(rename = "O8-16")]
    Large,
}

impl Node {
    fn node_type(self) -> NodeType {
        match self {
            Self::Small => NodeType::O2x8,
            Self::Medium => NodeType::O4x12,
            Self::Large => NodeType::O8x16,
        }
    }

    /// US dollars for an hour of one node, in 2026. The host has its own prices, and charges budgets by them.
    fn price(self) -> f64 {
        match self {
            Self::Small => 0.15,
            Self::Medium => 0.30,
            Self::Large => 0.60,
        }
    }

    fn max_parallel(self) -> u32 {
        match self {
            Self::Small => 24,
            Self::Medium => 12,
            Self::Large => 6,
        }
    }
}

/// What is optimised, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Search {
    name: String,
    target: Target,
    parameters: Vec<OptimizationParameter>,
    node: Node,
    nodes: u32,
    combinations: u32,
}

impl Search {
    /// # Errors
    /// If the grid has no parameter, no values or too many, or the nodes are too many.
    pub(crate) fn new(
        name: &str,
        target: Target,
        grid: &BTreeMap<String, Steps>,
        node: Node,
        nodes: u32,
    ) -> Result<Self, Failure> {
        if name.trim().is_empty() {
            return Err(Failure::invalid_input("`name` is empty"));
        }
        if !(1..=node.max_parallel()).contains(&nodes) {
            return Err(Failure::invalid_input(format!(
                "`nodes` is {nodes}; of this type it goes from 1 to {}",
                node.max_parallel()
            )));
        }
        if grid.is_empty() {
            return Err(Failure::invalid_input(
                "`grid` has no parameter; name one with `min`, `max` and `step`",
            ));
        }
        let mut combinations = 1.0;
        for (name, Steps { min, max, step }) in grid {
            if name.is_empty() {
                return Err(Failure::invalid_input(
                    "a parameter of `grid` has an empty name",
                ));
            }
            let is_finite = [min, max, step].iter().all(|it| it.is_finite());
            if !is_finite || *step <= 0.0 || max < min {
                return Err(Failure::invalid_input(format!(
                    "\"{name}\" goes from {min} to {max} by {step}; `step` is above 0, and `max` not below `min`"
                )));
            }
            combinations *= ((max - min) / step + 1e-9).floor() + 1.0;
        }
        if combinations > MAX_COMBINATIONS {
            return Err(Failure::invalid_input(format!(
                "there are {combinations} combinations and at most {MAX_COMBINATIONS} are allowed"
            )));
        }
        let parameter = |(name, steps): (&String, &Steps)| OptimizationParameter {
            name: name.clone(),
            min: steps.min,
            max: steps.max,
            step: steps.step,
            min_step: None,
        };
        Ok(Self {
            name: name.to_owned(),
            target,
            parameters: grid.iter().map(parameter).collect(),
            node,
            nodes,
            combinations: count(combinations),
        })
    }

    pub(crate) fn estimate_request(&self, project: u32, compile: &str) -> EstimateRequest {
        EstimateRequest {
            project_id: project,
            name: self.name.clone(),
            target: self.target.statistic(),
            target_to: self.target.extremum(),
            target_value: None,
            strategy: Strategy::GridSearch,
            compile_id: Some(compile.to_owned()),
            parameters: self.parameters.clone(),
            constraints: None,
        }
    }

    pub(crate) fn request(&self, project: u32, asked: &Asked) -> OptimizationRequest {
        OptimizationRequest {
            project_id: project,
            name: self.name.clone(),
            target: self.target.statistic(),
            target_to: self.target.extremum(),
            target_value: None,
            strategy: Strategy::GridSearch,
            compile_id: asked.compile_id.clone(),
            parameters: self.parameters.clone(),
            constraints: None,
            estimated_cost: asked.estimate.cost,
            node_type: self.node.node_type(),
            parallel_nodes: self.nodes,
        }
    }

    /// The cost where each backtest takes `seconds`, in US dollars and up to the next cent.
    ///
    /// # Errors
    /// If QuantConnect does not say how long a backtest takes.
    pub(crate) fn estimate(
        &self,
        seconds: Option<f64>,
        balance: Option<f64>,
    ) -> Result<Estimate, Failure> {
        let seconds = seconds.filter(|it| it.is_finite() && *it >= 0.0);
        let seconds = seconds.ok_or_else(|| {
            Failure::failed(
                "QuantConnect does not say how long a backtest takes, so the cost is not known",
            )
        })?;
        let hours = seconds * f64::from(self.combinations) / HOUR;
        Ok(Estimate {
            backtests: self.combinations,
            seconds_per_backtest: seconds,
            cost: ((hours * self.node.price() * 100.0).ceil() / 100.0).max(0.01),
            balance,
        })
    }

    /// Names what is asked for together with the code that it is asked for: the same again is the same number.
    pub(crate) fn fingerprint(&self, files: &[ProjectFile]) -> String {
        let mut hasher = DefaultHasher::new();
        self.name.hash(&mut hasher);
        self.target.name().hash(&mut hasher);
        for parameter in &self.parameters {
            parameter.name.hash(&mut hasher);
            for number in [parameter.min, parameter.max, parameter.step] {
                number.to_bits().hash(&mut hasher);
            }
        }
        self.node.price().to_bits().hash(&mut hasher);
        self.nodes.hash(&mut hasher);
        for file in files {
            (&file.name, &file.content).hash(&mut hasher);
        }
        format!("{:016x}", hasher.finish())
    }
}

/// A whole number that a small float is.
fn count(value: f64) -> u32 {
    // It was bounded before, and a float has no checked conversion.
    format!("{value:.0}").parse().unwrap_or(u32::MAX)
}

/// What an optimisation should take.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Estimate {
    /// How many backtests it has.
    pub(crate) backtests: u32,
    /// How long QuantConnect says that one of them takes.
    pub(crate) seconds_per_backtest: f64,
    /// US dollars, by the prices of 2026. The host's own estimate, which approvals and budgets go by, may be higher.
    pub(crate) cost: f64,
    /// The balance of the organisation in QuantConnect Credit.
    pub(crate) balance: Option<f64>,
}

/// An optimisation that was asked for and not created yet, kept until a person has approved it: an approval is for the same
/// arguments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Asked {
    /// That of the search and the code.
    pub(crate) fingerprint: String,
    pub(crate) compile_id: String,
    pub(crate) estimate: Estimate,
}

/// How far an optimisation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// It goes on: invoke the action with its id to follow it.
    Running,
    /// All backtests have ended.
    Completed,
    /// It was stopped.
    Aborted,
    /// QuantConnect names a state that this version does not know.
    Unknown,
}

/// The state of an optimisation.
pub(crate) fn state(optimization: &Optimization) -> State {
    match &optimization.status {
        Some(OptimizationStatus::New | OptimizationStatus::Running) => State::Running,
        Some(OptimizationStatus::Completed) => State::Completed,
        Some(OptimizationStatus::Aborted) => State::Aborted,
        Some(OptimizationStatus::Other(_)) | None => State::Unknown,
    }
}

/// How much of an optimisation is done, from 0 to 1, with a sentence.
pub(crate) fn progress(optimization: &Optimization) -> (f64, String) {
    let number = |name: &str| {
        optimization
            .runtime_statistic(name)
            .filter(|it| it.is_finite())
    };
    let ended = number("Completed").unwrap_or_default() + number("Failed").unwrap_or_default();
    match number("Total") {
        Some(total) if total > 0.0 => (
            (ended / total).clamp(0.0, 1.0),
            format!("{ended} of {total} backtests of the optimisation ended"),
        ),
        _ => (0.0, format!("{ended} backtests of the optimisation ended")),
    }
}

/// What came of the backtests so far.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Results {
    /// The parameters of the best one; null while none has ended well.
    pub(crate) best: Option<BTreeMap<String, String>>,
    /// Those that ended well, best first, at most 500.
    pub(crate) ranking: Vec<Row>,
    /// Those that gave no result, at most 500.
    pub(crate) failures: Vec<Miss>,
    /// How many ended well.
    pub(crate) completed: usize,
    /// How many gave no result.
    pub(crate) failed: usize,
    /// How many were started and have not ended.
    pub(crate) unfinished: usize,
}

/// Ranks the backtests of an optimisation.
pub(crate) fn results(backtests: Vec<OptimizationBacktest>, target: &str) -> Results {
    let all = backtests.len();
    let entries: Vec<Result<Row, Miss>> = backtests
        .into_iter()
        .filter_map(|backtest| entry(backtest, target))
        .collect();
    let unfinished = all - entries.len();
    let (mut ranking, mut failures) = ranking::order_rows(entries, target);
    let (completed, failed) = (ranking.len(), failures.len());
    ranking.truncate(MAX_ROWS);
    failures.truncate(MAX_ROWS);
    Results {
        best: ranking.first().map(|row| row.parameters.clone()),
        ranking,
        failures,
        completed,
        failed,
        unfinished,
    }
}

/// A backtest as a row or a miss; `None` while it has not ended.
fn entry(backtest: OptimizationBacktest, target: &str) -> Option<Result<Row, Miss>> {
    let parameters = figures::parameters(&backtest.parameter_set);
    let has_failed = backtest.exit_code.is_some_and(|code| code != 0);
    let has_ended = backtest.progress.is_none_or(|progress| progress >= 1.0);
    if backtest.statistics.is_empty() && !has_failed && !has_ended {
        return None;
    }
    let value = if has_failed {
        Err("the algorithm failed".to_owned())
    } else {
        ranking::number(&backtest.statistics, target)
    };
    Some(match (value, backtest.id) {
        (Ok(value), Some(backtest_id)) => Ok(Row {
            rank: 0,
            parameters,
            value,
            figures: Figures::of_statistics(&backtest.statistics),
            backtest_id,
        }),
        (Ok(_), None) => Err(Miss {
            parameters,
            reason: "QuantConnect gives it no id".to_owned(),
            backtest_id: None,
        }),
        (Err(reason), backtest_id) => Err(Miss {
            parameters,
            reason,
            backtest_id,
        }),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use qchost_sdk::types::Statistic;

    use super::*;

    fn grid(json: &str) -> BTreeMap<String, Steps> {
        serde_json::from_str(json).unwrap()
    }

    fn search(json: &str) -> Result<Search, Failure> {
        Search::new("one", Target::default(), &grid(json), Node::Small, 2)
    }

    const TWO: &str = r#"{"fast": {"min": 10, "max": 30, "step": 10}, "slow": {"min": 0.1, "max": 0.3, "step": 0.1}}"#;

    #[test]
    fn the_cost_is_that_of_all_backtests() {
        let search = search(TWO).unwrap();
        let estimate = search.estimate(Some(3_600.0), Some(12.0)).unwrap();
        assert_eq!((estimate.backtests, estimate.cost), (9, 1.35));
        // Up to the next cent, and never nothing.
        assert_eq!(search.estimate(Some(0.0), None).unwrap().cost, 0.01);
        assert_eq!(search.estimate(Some(3_601.0), None).unwrap().cost, 1.36);
        for unknown in [None, Some(f64::NAN), Some(-1.0)] {
            let failure = search.estimate(unknown, None).unwrap_err().to_string();
            assert!(failure.contains("the cost is not known"), "{failure}");
        }
    }

    #[test]
    fn a_search_that_makes_no_sense_is_refused() {
        for (json, words) in [
            ("{}", "no parameter"),
            (r#"{"": {"min": 1, "max": 2, "step": 1}}"#, "empty name"),
            (
                r#"{"a": {"min": 2, "max": 1, "step": 1}}"#,
                "\"a\" goes from 2 to 1",
            ),
            (r#"{"a": {"min": 1, "max": 2, "step": 0}}"#, "by 0"),
            (
                r#"{"a": {"min": 1, "max": 20000, "step": 1}}"#,
                "20000 combinations",
            ),
        ] {
            let error = search(json).unwrap_err().to_string();
            assert!(error.contains(words), "{json}: {error}");
        }
        let nodes = |nodes| Search::new("one", Target::default(), &grid(TWO), Node::Large, nodes);
        assert!(nodes(6).is_ok());
        let failure = nodes(7).unwrap_err().to_string();
        assert!(failure.contains("from 1 to 6"), "{failure}");
    }

    #[test]
    fn a_request_repeats_what_was_asked() {
        let search = search(TWO).unwrap();
        let asked = Asked {
            fingerprint: search.fingerprint(&[]),
            compile_id: "c".into(),
            estimate: search.estimate(Some(60.0), None).unwrap(),
        };
        assert_eq!(search.request(7, &asked), search.request(7, &asked));
        let request = search.request(7, &asked);
        assert_eq!(request.estimated_cost, asked.estimate.cost);
        assert_eq!(
            (request.compile_id.as_str(), request.parallel_nodes),
            ("c", 2)
        );
        let kept = serde_json::to_string(&asked).unwrap();
        assert_eq!(serde_json::from_str::<Asked>(&kept).unwrap(), asked);
    }

    #[test]
    fn other_code_or_another_search_is_another_fingerprint() {
        let file = |content: &str| ProjectFile {
            id: None,
            project_id: None,
            name: "main.py".into(),
            content: Some(content.into()),
            modified: None,
            open: None,
            is_library: None,
        };
        let one = search(TWO).unwrap();
        let same = one.fingerprint(&[file("a")]);
        assert_eq!(one.clone().fingerprint(&[file("a")]), same);
        assert_ne!(one.fingerprint(&[file("b")]), same);
        let other = search(r#"{"fast": {"min": 10, "max": 30, "step": 10}}"#).unwrap();
        assert_ne!(other.fingerprint(&[file("a")]), same);
    }

    fn backtest(id: &str, fast: &str, sharpe: Option<f64>) -> OptimizationBacktest {
        OptimizationBacktest {
            id: Some(id.into()),
            name: None,
            progress: Some(1.0),
            exit_code: Some(0),
            parameter_set: vec![("fast".into(), fast.into())],
            statistics: sharpe
                .map(|value| Statistic {
                    name: "Sharpe Ratio".into(),
                    text: value.to_string(),
                    value: Some(value),
                })
                .into_iter()
                .collect(),
            equity: Vec::new(),
            start_date: None,
            end_date: None,
            out_of_sample_days: None,
            out_of_sample_max_end_date: None,
        }
    }

    #[test]
    fn backtests_are_ranked_and_those_that_run_are_counted() {
        let mut running = backtest("r", "4", None);
        running.progress = Some(0.5);
        let mut failed = backtest("f", "3", None);
        failed.exit_code = Some(1);
        let all = vec![
            backtest("a", "1", Some(0.1)),
            running,
            failed,
            backtest("b", "2", Some(0.7)),
            backtest("n", "5", None),
        ];
        let found = results(all, "Sharpe Ratio");
        assert_eq!(found.best.unwrap()["fast"], "2");
        let ranks: Vec<_> = found
            .ranking
            .iter()
            .map(|it| (it.rank, it.backtest_id.as_str()))
            .collect();
        assert_eq!(ranks, [(1, "b"), (2, "a")]);
        assert_eq!((found.completed, found.failed, found.unfinished), (2, 2, 1));
        assert!(
            found
                .failures
                .iter()
                .any(|it| it.reason == "the algorithm failed")
        );
        assert_eq!(results(Vec::new(), "Sharpe Ratio").best, None);
    }

    #[test]
    fn an_optimization_says_how_far_it_is() {
        let statistic = |name: &str, value: f64| Statistic {
            name: name.into(),
            text: value.to_string(),
            value: Some(value),
        };
        let mut optimization = Optimization {
            status: Some(OptimizationStatus::Running),
            runtime_statistics: vec![
                statistic("Completed", 2.0),
                statistic("Failed", 1.0),
                statistic("Total", 4.0),
            ],
            ..Optimization::default()
        };
        assert_eq!(state(&optimization), State::Running);
        let (done, message) = progress(&optimization);
        assert_eq!(
            (done, message.as_str()),
            (0.75, "3 of 4 backtests of the optimisation ended")
        );
        optimization.status = Some(OptimizationStatus::Other("paused".into()));
        assert_eq!(state(&optimization), State::Unknown);
        optimization.runtime_statistics.clear();
        assert_eq!(progress(&optimization).0, 0.0);
    }

    #[test]
    fn a_target_has_one_name_everywhere() {
        for target in [
            Target::SharpeRatio,
            Target::AnnualReturn,
            Target::ProbabilisticSharpeRatio,
            Target::Drawdown,
        ] {
            assert_eq!(serde_json::to_value(target).unwrap(), target.name());
            assert_eq!(Target::of(&target.statistic()), Some(target));
        }
        assert_eq!(Target::Drawdown.extremum(), Extremum::Minimum);
        assert_eq!(Target::SharpeRatio.extremum(), Extremum::Maximum);
    }

    proptest! {
        #[test]
        fn any_grid_is_counted_or_refused(min: f64, max: f64, step: f64) {
            let grid = BTreeMap::from([("a".to_owned(), Steps { min, max, step })]);
            if let Ok(search) = Search::new("one", Target::default(), &grid, Node::Small, 1) {
                prop_assert!((1..=10_000).contains(&search.combinations));
            }
        }

        #[test]
        fn what_ended_is_ranked_once(values in proptest::collection::vec(proptest::option::of(-2.0..2.0f64), 0..40)) {
            let all = values.iter().enumerate();
            let all = all.map(|(at, value)| backtest(&at.to_string(), &at.to_string(), *value)).collect();
            let found = results(all, "Sharpe Ratio");
            prop_assert_eq!(found.completed, values.iter().flatten().count());
            prop_assert_eq!(found.completed + found.failed + found.unfinished, values.len());
            prop_assert!(found.ranking.windows(2).all(|pair| pair[0].value >= pair[1].value));
        }
    }
}
