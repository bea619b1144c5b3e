//! quantconnect: keeps projects and local files the same, runs backtests, and reads them.
//!
//! One file an action (`sync` is a folder of them), and one for what `run` and `status` both say of a backtest.

use qchost_sdk::prelude::*;

mod run;
mod status;
mod summary;
mod sync;

/// Synchronises local files with projects, runs backtests and reads their results.
#[agent(name = "quantconnect")]
mod agent {
    use super::*;

    /// Make a project and a granted folder, or a set of files, the same.
    ///
    /// Both sides are compared with what they held after the last sync. What one side created, changed, renamed or
    /// deleted is carried over to the other, as far as `direction` lets it; what both changed is a conflict: it is
    /// reported with a difference, and neither side is touched. Dot-files take part only if `include` names them, and
    /// what a `.gitignore` leaves out does not. A run that was cut off is completed by the next one.
    #[action(destructive, idempotent)]
    fn sync(input: sync::Sync) -> Result<sync::Report, Failure> {
        sync::run(input)
    }

    /// Compile a project, run a backtest of it, wait for its end and summarise it.
    ///
    /// If it does not compile or fails, the error has the compiler's or the algorithm's own words and QuantConnect's
    /// explanation. If the invocation's time is up before the backtest ends, the answer says how far it is; `status`
    /// reads it later.
    #[action]
    fn run(input: run::Run) -> Result<run::Outcome, Failure> {
        run::run(input)
    }

    /// Read a backtest: its state, progress, statistics, the end of its log, and its error with QuantConnect's
    /// explanation.
    ///
    /// Without `backtest`, it is the one of the project that is running; if several are, or none, the error names those
    /// that there are.
    #[action(read_only, idempotent)]
    fn status(input: status::Query) -> Result<status::Status, Failure> {
        status::run(input)
    }
}
