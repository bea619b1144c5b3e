//! Looking a figure up by the name that QuantConnect gives it.

use crate::types::Statistic;

/// The number of the figure called `name`, such as `Sharpe Ratio`: a percentage as a fraction.
/// `None` if there is no such figure or it is not a number.
#[must_use]
pub fn find(statistics: &[Statistic], name: &str) -> Option<f64> {
    let statistic = statistics.iter().find(|it| it.name == name)?;
    statistic.value
}

impl crate::backtests::Backtest {
    /// The figure called `name`, such as `Sharpe Ratio` or `Net Profit`: a percentage as a
    /// fraction. Nothing until the backtest ends.
    #[must_use]
    pub fn statistic(&self, name: &str) -> Option<f64> {
        find(&self.statistics, name)
    }

    /// The running figure called `name`, such as `Equity`.
    #[must_use]
    pub fn runtime_statistic(&self, name: &str) -> Option<f64> {
        find(&self.runtime_statistics, name)
    }
}

impl crate::optimizations::OptimizationBacktest {
    /// The figure called `name`, such as `Sharpe Ratio`: a percentage as a fraction.
    #[must_use]
    pub fn statistic(&self, name: &str) -> Option<f64> {
        find(&self.statistics, name)
    }
}

impl crate::optimizations::Optimization {
    /// The running figure called `name`, such as `Completed`.
    #[must_use]
    pub fn runtime_statistic(&self, name: &str) -> Option<f64> {
        find(&self.runtime_statistics, name)
    }
}

impl crate::live::LiveAlgorithm {
    /// The running figure called `name`, such as `Equity`.
    #[must_use]
    pub fn runtime_statistic(&self, name: &str) -> Option<f64> {
        find(&self.runtime_statistics, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_found_by_its_exact_name() {
        let statistic = |name: &str, text: &str, value| Statistic {
            name: name.into(),
            text: text.into(),
            value,
        };
        let statistics = [
            statistic("Drawdown", "12.3%", Some(0.123)),
            statistic("Lowest Capacity Asset", "SPY", None),
        ];
        assert_eq!(find(&statistics, "Drawdown"), Some(0.123));
        assert_eq!(find(&statistics, "drawdown"), None);
        assert_eq!(find(&statistics, "Lowest Capacity Asset"), None);
        assert_eq!(find(&[], "Drawdown"), None);
    }
}
