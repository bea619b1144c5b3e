//! strategy-lab: writes a strategy into a project, compiles it, finds its best parameters, and judges what they are worth.
//!
//! One file an action, and one each for what the actions share: the project that they work in,
//! what the compiler says, the figures of a backtest, the ranking, and statistics. Only `project`, `build`
//! and the actions talk to the host; the rest is plain data and tested as such.

use qchost_sdk::prelude::*;

mod backtest;
mod build;
mod compile;
mod diagnostics;
mod figures;
mod project;
mod ranking;
mod robustness;
mod sweep;

/// Sweeps the parameters of a trading strategy: writes it into a project, compiles it, runs its backtests side by
/// side and ranks them.
#[agent(name = "strategy-lab", config = project::Settings)]
mod agent {
    use super::*;

    /// Run a backtest for every combination of parameter values and rank them by a statistic.
    ///
    /// The project is created if it is missing. With `source`, that code is written into it first; without, a new
    /// project gets the bundled moving-average strategy and an existing one keeps its code. Backtests that fail
    /// are listed with the reason; if all fail, so does the sweep.
    #[action]
    fn sweep(input: sweep::Sweep) -> Result<sweep::Ranking, Failure> {
        sweep::run(input)
    }

    /// Compile a project, or source code, and list what the compiler says with file, line and column.
    ///
    /// With `source`, that code is written into the project first; the project is created if it is missing.
    #[action]
    fn compile(input: compile::Compile) -> Result<compile::Verdict, Failure> {
        compile::run(input)
    }

    /// Run one backtest and summarise it.
    ///
    /// The project and its code are treated as in `sweep`.
    #[action]
    fn backtest(input: backtest::Backtest) -> Result<backtest::Summary, Failure> {
        backtest::run(input)
    }
    /// Judge how far the result of a backtest can be trusted, given what else was tried.
    ///
    /// Reads the equity of the completed backtests of a project, or of those that are named, and the closed trades of one. Gives
    /// the probabilistic and the deflated Sharpe ratio by the number of trials that the host counted, the probability of
    /// overfitting, how much the parameters matter, the trades in other orders and under higher costs, a walk-forward
    /// analysis, and warnings in sentences.
    #[action(read_only)]
    fn robustness(input: robustness::Robustness) -> Result<robustness::Report, Failure> {
        robustness::run(input)
    }
}
