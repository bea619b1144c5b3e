//! What an optimization is asked to do: the grid, the target, the constraints and the nodes.
//!
//! Both encodings of the cloud's clients are read: JSON, and the form of the `lean` command
//! line, whose names differ (`key` for `name`, `target-value` for `targetValue`).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::SECONDS_PER_BACKTEST;
use crate::answer::Refusal;
use crate::arguments::{Arguments, number_of};
use crate::compile::Compile;
use crate::engine::{Job, Report};
use crate::limits;
use crate::project::Project;

/// The only strategy that the API documents.
pub(super) const STRATEGY: &str =
    "QuantConnect.Optimizer.Strategies.GridSearchOptimizationStrategy";

const TARGETS: [(&str, &str); 4] = [
    (
        "TotalPerformance.PortfolioStatistics.SharpeRatio",
        "sharpeRatio",
    ),
    (
        "TotalPerformance.PortfolioStatistics.CompoundingAnnualReturn",
        "compoundingAnnualReturn",
    ),
    (
        "TotalPerformance.PortfolioStatistics.ProbabilisticSharpeRatio",
        "probabilisticSharpeRatio",
    ),
    ("TotalPerformance.PortfolioStatistics.Drawdown", "drawdown"),
];

/// A statistic that can be optimised or constrained.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    path: &'static str,
    field: &'static str,
}

impl Target {
    fn read(path: Option<&str>, field: &str) -> Result<Self, Refusal> {
        TARGETS
            .into_iter()
            .find(|(known, _)| Some(*known) == path)
            .map(|(path, field)| Self { path, field })
            .ok_or_else(|| Refusal::invalid(field, "one of the documented target statistics"))
    }

    pub(super) fn path(self) -> &'static str {
        self.path
    }

    /// Its value in a report.
    pub(super) fn of(self, report: &Report) -> Option<f64> {
        let statistics = report.total_performance.get("portfolioStatistics")?;
        number_of(statistics.get(self.field)?)
    }
}

/// A condition on a result.
#[derive(Debug, Clone)]
pub(super) struct Constraint {
    target: Target,
    operator: String,
    value: f64,
}

impl Constraint {
    fn read(item: &Value) -> Result<Self, Refusal> {
        let invalid = |what: &str| Refusal::invalid("constraints", what);
        let text = |name: &str| item.get(name).and_then(Value::as_str);
        let operator = text("operator").unwrap_or_default();
        if compare(operator, 0.0, 0.0).is_none() {
            return Err(invalid("a documented operator for each constraint"));
        }
        let value = item.get("targetValue").or_else(|| item.get("target-value"));
        Ok(Self {
            target: Target::read(text("target"), "constraints")?,
            operator: operator.to_owned(),
            value: value
                .and_then(number_of)
                .ok_or_else(|| invalid("a targetValue for each constraint"))?,
        })
    }

    pub(super) fn holds(&self, report: &Report) -> bool {
        self.target
            .of(report)
            .and_then(|actual| compare(&self.operator, actual, self.value))
            .unwrap_or(false)
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "target": self.target.path,
            "operator": self.operator,
            "targetValue": self.value,
        })
    }
}

fn compare(operator: &str, actual: f64, value: f64) -> Option<bool> {
    let same = (actual - value).abs() < f64::EPSILON;
    Some(match operator {
        "LessOrEqual" => actual <= value,
        "Less" => actual < value,
        "GreaterOrEqual" => actual >= value,
        "Greater" => actual > value,
        "Equals" => same,
        "NotEqual" => !same,
        _ => return None,
    })
}

/// The node types for optimizations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NodeType {
    Small,
    Medium,
    Large,
}

impl NodeType {
    fn read(name: &str) -> Result<Self, Refusal> {
        [Self::Small, Self::Medium, Self::Large]
            .into_iter()
            .find(|node| node.name() == name)
            .ok_or_else(|| Refusal::invalid("nodeType", "'O2-8', 'O4-12' or 'O8-16'"))
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Small => "O2-8",
            Self::Medium => "O4-12",
            Self::Large => "O8-16",
        }
    }

    /// The most of them for one optimization, as the `lean` command line has it.
    fn most(self) -> u32 {
        match self {
            Self::Small => 24,
            Self::Medium => 12,
            Self::Large => 6,
        }
    }

    /// In QuantConnect Credit for an hour of one node, as the `lean` command line has it.
    fn price(self) -> f64 {
        match self {
            Self::Small => 15.0,
            Self::Medium => 30.0,
            Self::Large => 60.0,
        }
    }

    /// What so many backtests cost.
    pub(super) fn cost(self, backtests: u32) -> f64 {
        self.price() * f64::from(backtests) * f64::from(SECONDS_PER_BACKTEST) / 3600.0
    }
}

/// One parameter of the grid.
#[derive(Debug, Clone)]
struct Axis {
    name: String,
    min: f64,
    max: f64,
    step: f64,
    min_step: Option<f64>,
}

impl Axis {
    fn read(item: &Value) -> Result<Self, Refusal> {
        let invalid = |what: &str| Refusal::invalid("parameters", what);
        let name = item.get("name").or_else(|| item.get("key"));
        let name = name.and_then(Value::as_str).unwrap_or_default();
        if name.trim().is_empty() || name.chars().count() > limits::NAME_LENGTH {
            return Err(invalid("a name for each parameter"));
        }
        let number = |field: &str| {
            item.get(field)
                .and_then(number_of)
                .ok_or_else(|| invalid("numbers min, max and step for each parameter"))
        };
        let axis = Self {
            name: name.to_owned(),
            min: number("min")?,
            max: number("max")?,
            step: number("step")?,
            min_step: item.get("minStep").and_then(number_of),
        };
        if axis.step <= 0.0 || axis.max < axis.min {
            return Err(invalid("a step above 0 and a max not below min"));
        }
        Ok(axis)
    }

    /// The values of the grid as text, `max` included where the steps meet it. Nothing if
    /// there are more than an optimization may have.
    fn values(&self) -> Option<Vec<String>> {
        // Steps such as 0.1 do not add up exactly.
        let slack = self.step * 1e-9;
        let values: Vec<String> = (0..=limits::COMBINATIONS)
            .map(|index| self.min + self.step * f64::from(u32::try_from(index).unwrap_or(u32::MAX)))
            .take_while(|value| *value <= self.max + slack)
            .map(decimal)
            .collect();
        (values.len() <= limits::COMBINATIONS).then_some(values)
    }
}

/// A number without the noise of binary fractions and without trailing zeros.
fn decimal(value: f64) -> String {
    let text = format!("{value:.8}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}

/// All that is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(super) target: Target,
    pub(super) maximize: bool,
    pub(super) target_value: Option<f64>,
    pub(super) constraints: Vec<Constraint>,
    axes: Vec<Axis>,
    /// Every point of the grid: parameter names with their values.
    pub(super) combinations: Vec<BTreeMap<String, String>>,
    pub(super) node: NodeType,
    pub(super) parallel: u32,
    pub(super) estimated_cost: f64,
}

impl Plan {
    /// Reads the fields that an estimate and a creation share; `complete` asks for those of a
    /// creation as well.
    pub(super) fn read(arguments: &Arguments, complete: bool) -> Result<Self, Refusal> {
        arguments.filled_text("name")?;
        let target = Target::read(Some(arguments.text("target")?), "target")?;
        let maximize = match arguments.text("targetTo")? {
            "max" => true,
            "min" => false,
            _ => return Err(Refusal::invalid("targetTo", "'max' or 'min'")),
        };
        // The command line sends an empty text for no value.
        let target_value = match arguments.get("targetValue") {
            None => None,
            Some(Value::String(text)) if text.is_empty() => None,
            Some(_) => Some(arguments.number("targetValue")?),
        };
        if arguments.text("strategy")? != STRATEGY {
            return Err(Refusal::invalid("strategy", STRATEGY));
        }
        let axes: Vec<Axis> = arguments
            .list("parameters")?
            .iter()
            .map(Axis::read)
            .collect::<Result<_, _>>()?;
        let constraints = arguments
            .optional_list("constraints")?
            .unwrap_or_default()
            .iter()
            .map(Constraint::read)
            .collect::<Result<_, _>>()?;
        let (node, parallel, estimated_cost) = if complete {
            let node = NodeType::read(arguments.text("nodeType")?)?;
            let parallel = arguments.integer("parallelNodes")?;
            let parallel = u32::try_from(parallel)
                .ok()
                .filter(|count| (1..=node.most()).contains(count))
                .ok_or_else(|| {
                    let most = node.most();
                    Refusal::invalid("parallelNodes", &format!("a number from 1 to {most}"))
                })?;
            let cost = arguments.number("estimatedCost")?;
            if cost < 0.0 {
                return Err(Refusal::invalid("estimatedCost", "a number not below 0"));
            }
            (node, parallel, cost)
        } else {
            (NodeType::Small, 1, 0.0)
        };
        Ok(Self {
            target,
            maximize,
            target_value,
            constraints,
            combinations: grid(&axes)?,
            axes,
            node,
            parallel,
            estimated_cost,
        })
    }

    pub(super) fn axes_json(&self) -> Vec<Value> {
        self.axes
            .iter()
            .map(|axis| {
                json!({
                    "name": axis.name,
                    "min": axis.min,
                    "max": axis.max,
                    "step": axis.step,
                    "minStep": axis.min_step,
                })
            })
            .collect()
    }
}

fn grid(axes: &[Axis]) -> Result<Vec<BTreeMap<String, String>>, Refusal> {
    if axes.is_empty() {
        return Err(Refusal::invalid("parameters", "at least one parameter"));
    }
    let too_many = || {
        Refusal::because(format!(
            "The grid has more than {} combinations",
            limits::COMBINATIONS
        ))
    };
    let mut combinations = vec![BTreeMap::new()];
    for axis in axes {
        if combinations
            .iter()
            .any(|point| point.contains_key(&axis.name))
        {
            return Err(Refusal::invalid("parameters", "each parameter once"));
        }
        let values = axis.values().ok_or_else(too_many)?;
        if combinations.len().saturating_mul(values.len()) > limits::COMBINATIONS {
            return Err(too_many());
        }
        combinations = combinations
            .iter()
            .flat_map(|point| {
                values.iter().map(|value| {
                    let mut point = point.clone();
                    point.insert(axis.name.clone(), value.clone());
                    point
                })
            })
            .collect();
    }
    Ok(combinations)
}

/// The job of every backtest of an optimization, but for the grid's own parameters.
pub(super) fn base_job(compile: &Compile, project: &Project) -> Job {
    Job {
        language: compile.language,
        files: compile.files.clone(),
        parameters: project.parameters.iter().cloned().collect(),
    }
}

/// The statistics of a backtest in the order in which the API documents them.
pub(super) fn statistics(report: &Report) -> Vec<f64> {
    const ORDER: [&str; 21] = [
        "Alpha",
        "Annual Standard Deviation",
        "Annual Variance",
        "Average Loss",
        "Average Win",
        "Beta",
        "Compounding Annual Return",
        "Drawdown",
        "Estimated Strategy Capacity",
        "Expectancy",
        "Information Ratio",
        "Loss Rate",
        "Net Profit",
        "Probabilistic Sharpe Ratio",
        "Profit-Loss Ratio",
        "Sharpe Ratio",
        "Total Fees",
        "Total Orders",
        "Tracking Error",
        "Treynor Ratio",
        "Win Rate",
    ];
    ORDER
        .into_iter()
        .map(|name| {
            let text = report.statistics.get(name).and_then(Value::as_str);
            text.map_or(0.0, plain_number)
        })
        .collect()
}

/// The number in a statistic such as `$1,234.50` or `12.3%`; 0 if there is none.
fn plain_number(text: &str) -> f64 {
    let digits: String = text
        .chars()
        .filter(|character| character.is_ascii_digit() || "+-.eE".contains(*character))
        .collect();
    digits.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(min: f64, max: f64, step: f64) -> Option<Vec<String>> {
        let axis = Axis {
            name: "p".to_owned(),
            min,
            max,
            step,
            min_step: None,
        };
        axis.values()
    }

    #[test]
    fn the_grid_meets_its_end() {
        assert_eq!(values(10.0, 30.0, 10.0).unwrap(), ["10", "20", "30"]);
        assert_eq!(values(0.1, 0.3, 0.1).unwrap(), ["0.1", "0.2", "0.3"]);
        assert_eq!(values(1.0, 2.0, 3.0).unwrap(), ["1"]);
        assert_eq!(values(0.0, 1e9, 1.0), None);
    }

    #[test]
    fn statistics_lose_their_signs() {
        assert_eq!(plain_number("$1,234.50"), 1234.5);
        assert_eq!(plain_number("-12.3%"), -12.3);
        assert_eq!(plain_number("no number"), 0.0);
    }

    proptest! {
        #[test]
        fn any_axis_ends(min in any::<f64>(), max in any::<f64>(), step in any::<f64>()) {
            let item = json!({"name": "p", "min": min, "max": max, "step": step});
            if let Ok(axis) = Axis::read(&item) {
                let _ = axis.values();
            }
        }
    }
}
