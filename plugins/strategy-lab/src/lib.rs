//! strategy-lab: writes a strategy into a project, compiles it, finds its best parameters, and judges what they are worth.
//!
//! One file an action, and one each for what the actions share: the project that they work in, what the compiler and
//! QuantConnect's checks say, the figures of a backtest, how combinations of parameters are chosen and ranked, and statistics.
//! Only the actions, `project`, `build`, `checks` and `page` talk to the host; the rest is plain data and tested as such.

use qchost_sdk::prelude::*;

mod archive_project;
mod backtest;
mod build;
mod check;
mod checks;
mod compare;
mod compile;
mod copy_project;
mod create_project;
mod diagnostics;
mod drawdowns;
mod figures;
mod logs;
mod method;
mod optimization;
mod optimize;
mod orders;
mod page;
mod project;
mod race;
mod ranking;
mod report;
mod robustness;
mod search;
mod sobol;
mod space;
mod stability;
mod strategies;
mod sweep;
mod trades;
mod walk_forward;
mod window;

/// Brings a trading strategy from source code to proved parameters: projects, checks, compiles, backtests, sweeps, walk-forward
/// analysis, optimisations, and what their results are worth.
#[agent(name = "strategy-lab", config = project::Settings)]
mod agent {
    use super::*;

    /// Run backtests with combinations of parameter values and rank them by a statistic.
    ///
    /// Every combination is tried, or with `method` some of them: by chance, evenly spread, or by successive halving.
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

    /// Put two to eight backtests side by side, of one project or of several.
    ///
    /// Gives statistics and parameters, equity on the days that all have, with returns and correlations, the deepest drawdowns with
    /// length and recovery, turnover, orders and closed trades by security, and the differences of the projects' files.
    #[action(read_only)]
    fn compare(input: compare::Compare) -> Result<compare::Comparison, Failure> {
        compare::run(input)
    }

    /// Write a report on a backtest: one HTML file with charts that needs nothing else, or Markdown.
    ///
    /// Shows statistics, equity with the benchmark, drawdowns and monthly returns and, if asked for, a heat map of a sweep and the windows
    /// of a walk-forward analysis. With `key` it goes to the object store, otherwise it is in the answer.
    #[action]
    fn report(input: report::Report) -> Result<report::Written, Failure> {
        report::run(input)
    }

    /// Create a project with a bundled strategy, or with source code.
    #[action]
    fn create_project(
        input: create_project::CreateProject,
    ) -> Result<create_project::Created, Failure> {
        create_project::run(input)
    }

    /// Copy the files of a project into a new one, read them back and compare them.
    #[action]
    fn copy_project(input: copy_project::CopyProject) -> Result<copy_project::Copied, Failure> {
        copy_project::run(input)
    }

    /// Put a project aside: it gets a name under `Archive/`, and nothing of it is deleted.
    #[action]
    fn archive_project(
        input: archive_project::ArchiveProject,
    ) -> Result<archive_project::Archived, Failure> {
        archive_project::run(input)
    }

    /// Read or search the log of a backtest, in pages.
    #[action(read_only)]
    fn logs(input: logs::Logs) -> Result<logs::Lines, Failure> {
        logs::run(input)
    }

    /// List the orders of a backtest, or those that match a filter, in pages.
    #[action(read_only)]
    fn orders(input: orders::Orders) -> Result<orders::Listed, Failure> {
        orders::run(input)
    }

    /// List the closed trades of a backtest, or those that match a filter, in pages.
    #[action(read_only)]
    fn trades(input: trades::Trades) -> Result<trades::Listed, Failure> {
        trades::run(input)
    }

    /// Check the syntax and the `initialize` of a project or of source code, before a backtest is spent on it.
    ///
    /// Explains an error, and gives the code as PEP 8 wants it, if asked to. Writes nothing.
    #[action(read_only)]
    fn check(input: check::Check) -> Result<check::Checked, Failure> {
        check::run(input)
    }

    /// Search QuantConnect's documentation, examples, forum and API signatures.
    #[action(read_only)]
    fn search(input: search::Search) -> Result<search::Found, Failure> {
        search::run(input)
    }

    /// Choose parameters in one period and prove them in the next, window by window through a history.
    ///
    /// The algorithm reads its first and its last day from parameters. Gives for each window the parameters, what they gave in
    /// sample and out of sample; over all windows the walk-forward efficiency and how the parameters drift.
    #[action]
    fn walk_forward(input: walk_forward::WalkForward) -> Result<walk_forward::Walked, Failure> {
        walk_forward::run(input)
    }

    /// Optimise parameters in QuantConnect's cloud, which costs money: estimate, create, follow and rank.
    ///
    /// A person may have to approve the cost: the action fails with the approval's id then, and goes on when it is invoked with
    /// the same input again. With the id of an optimisation, it is followed and ranked, and nothing is created.
    #[action]
    fn optimize(input: optimize::Optimize) -> Result<optimize::Optimized, Failure> {
        optimize::run(input)
    }
}
