//! An optimization: a grid search over the parameters of a project.
//!
//! Every backtest is charged as six seconds of node time, in QuantConnect Credit; the price by
//! node type is the one that the `lean` command line shows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::backtest::Backtest;
use super::kept::Kept;
use super::{clock, limits};
use crate::engine::{Job, Report};

/// Node time that one backtest is charged, in seconds.
pub(crate) const SECONDS_PER_BACKTEST: u32 = 6;

/// A statistic that can be optimised or constrained, by its path in LEAN's result.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Target(&'static str);

const TARGETS: [&str; 4] = [
    "TotalPerformance.PortfolioStatistics.SharpeRatio",
    "TotalPerformance.PortfolioStatistics.CompoundingAnnualReturn",
    "TotalPerformance.PortfolioStatistics.ProbabilisticSharpeRatio",
    "TotalPerformance.PortfolioStatistics.Drawdown",
];

impl Target {
    /// The statistic with a path.
    pub(crate) fn named(path: &str) -> Option<Self> {
        TARGETS.into_iter().find(|known| *known == path).map(Self)
    }

    /// Its value in a report, where the path's last part begins with a small letter.
    pub(crate) fn of(self, report: &Report) -> Option<f64> {
        let mut name = self.0.rsplit('.').next()?.to_owned();
        name.get_mut(..1)?.make_ascii_lowercase();
        report.portfolio_statistic(&name)?.as_f64()
    }
}

// Derived, it could only be read from what lives as long as its text.
impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let path = String::deserialize(deserializer)?;
        Self::named(&path).ok_or_else(|| D::Error::custom(format!("there is no target {path}")))
    }
}

/// A condition on a result.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Constraint {
    pub(crate) target: Target,
    /// Such as `LessOrEqual`.
    pub(crate) operator: String,
    #[serde(rename = "targetValue")]
    pub(crate) value: f64,
}

impl Constraint {
    /// Whether the API documents an operator of this name.
    pub(crate) fn is_operator(name: &str) -> bool {
        compare(name, 0.0, 0.0).is_some()
    }

    pub(crate) fn holds(&self, report: &Report) -> bool {
        self.target
            .of(report)
            .and_then(|actual| compare(&self.operator, actual, self.value))
            .unwrap_or(false)
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

/// A node type for optimizations, as the `lean` command line has it.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(into = "String")]
pub(crate) struct NodeType {
    pub(crate) name: &'static str,
    /// The limit for one optimization.
    pub(crate) max_parallel: u32,
    /// In QuantConnect Credit for an hour of one node.
    price: f64,
}

impl NodeType {
    pub(crate) const SMALL: Self = Self::new("O2-8", 24, 15.0);
    const MEDIUM: Self = Self::new("O4-12", 12, 30.0);
    const LARGE: Self = Self::new("O8-16", 6, 60.0);

    const fn new(name: &'static str, max_parallel: u32, price: f64) -> Self {
        Self {
            name,
            max_parallel,
            price,
        }
    }

    /// The node type with a name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let mut all = [Self::SMALL, Self::MEDIUM, Self::LARGE].into_iter();
        all.find(|node| node.name == name)
    }

    /// What a number of backtests costs, in QuantConnect Credit.
    pub(crate) fn cost(self, backtests: u32) -> f64 {
        self.price * f64::from(backtests) * f64::from(SECONDS_PER_BACKTEST) / 3600.0
    }
}

impl From<NodeType> for String {
    fn from(node: NodeType) -> Self {
        node.name.to_owned()
    }
}

// By its name, like `Target`.
impl<'de> Deserialize<'de> for NodeType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::named(&name).ok_or_else(|| D::Error::custom(format!("there is no node type {name}")))
    }
}

/// One parameter of the grid.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Axis {
    pub(crate) name: String,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) step: f64,
    pub(crate) min_step: Option<f64>,
}

impl Axis {
    /// The values of the grid as text, `max` included where the steps meet it. Nothing if
    /// there are more than an optimization may have.
    pub(crate) fn values(&self) -> Option<Vec<String>> {
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

/// What an optimization is asked to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SearchPlan {
    pub(crate) target: Target,
    pub(crate) maximize: bool,
    pub(crate) target_value: Option<f64>,
    pub(crate) constraints: Vec<Constraint>,
    pub(crate) axes: Vec<Axis>,
    /// Every point of the grid: parameter names with their values.
    pub(crate) combinations: Vec<BTreeMap<String, String>>,
    pub(crate) node: NodeType,
    pub(crate) parallel: u32,
    pub(crate) estimated_cost: f64,
}

/// How far an optimization is, by the name in the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub(crate) enum Status {
    New,
    Running,
    Completed,
    Aborted,
}

/// One optimization.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Optimization {
    pub(crate) id: String,
    pub(crate) project_id: u32,
    pub(crate) name: String,
    pub(crate) plan: SearchPlan,
    /// A run of the sources without a point of the grid.
    pub(crate) job: Arc<Job>,
    /// How many parameters the sources read.
    pub(crate) detected_parameters: usize,
    pub(crate) created: Timestamp,
    pub(crate) snapshot: u64,
    pub(crate) status: Status,
    #[serde(with = "clock::optional")]
    pub(crate) started: Option<Instant>,
    #[serde(with = "clock::optional")]
    pub(crate) finished: Option<Instant>,
    /// Backtests that were started, in order.
    pub(crate) backtests: Vec<String>,
    /// Wall time of the backtests that have a result.
    pub(crate) worked: Duration,
}

impl Optimization {
    /// Whether it starts no further backtest.
    pub(crate) fn over(&self) -> bool {
        matches!(self.status, Status::Completed | Status::Aborted)
    }

    /// Its own among all backtests.
    pub(crate) fn children<'s>(
        &self,
        all: &'s [Kept<Backtest>],
    ) -> impl Iterator<Item = &'s Backtest> {
        all.iter()
            .map(Kept::value)
            .filter(|backtest| backtest.optimization.as_deref() == Some(&self.id))
    }

    /// The best result by the criterion, among those that meet the constraints.
    pub(crate) fn best<'s>(&self, all: &'s [Kept<Backtest>]) -> Option<&'s Report> {
        let value = |report: &Report| self.plan.target.of(report).unwrap_or(f64::NEG_INFINITY);
        self.children(all)
            .filter_map(Backtest::report)
            .filter(|report| self.plan.constraints.iter().all(|it| it.holds(report)))
            .max_by(|one, other| {
                let order = value(one).total_cmp(&value(other));
                if self.plan.maximize {
                    order
                } else {
                    order.reverse()
                }
            })
    }
}

#[cfg(test)]
mod tests {
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
}
