//! The operations that the host calls by itself: to resolve a call, to check an account, to close positions, to find out
//! how a call ended.
//!
//! Invariant: each is a row of the table. A name without a row does not compile.

use crate::operation::{Effect, Operation};
use crate::table::{by_name, operation};

/// Tells whether an account answers: every server in front of the REST API has it, and it is free.
pub const READ_ACCOUNT: &Operation = operation("read_account");
/// Starts a backtest, for a batch.
pub const CREATE_BACKTEST: &Operation = operation("create_backtest");
/// The project of a backtest, and its state while a batch waits for it.
pub const READ_BACKTEST: &Operation = operation("read_backtest");
/// A chart of a backtest.
pub const READ_BACKTEST_CHART: &Operation = operation("read_backtest_chart");
/// Starts a compile job, for a batch.
pub const CREATE_COMPILE: &Operation = operation("create_compile");
/// The project of a compile job, and its state while a batch waits for it.
pub const READ_COMPILE: &Operation = operation("read_compile");
/// Writes a file that is not there.
pub const CREATE_FILE: &Operation = operation("create_file");
/// Replaces the text of a file that is there.
pub const UPDATE_FILE_CONTENTS: &Operation = operation("update_file_contents");
/// Keeps other environments from changing a project's files.
pub const LOCK_PROJECT: &Operation = operation("lock_project_with_collaborators");
/// The files of a project.
pub const READ_FILE: &Operation = operation("read_file");
/// The deployments of an account.
pub const LIST_LIVE_ALGORITHMS: &Operation = operation("list_live_algorithms");
/// A deployment of a project: its brokerage, its status and its files.
pub const READ_LIVE_ALGORITHM: &Operation = operation("read_live_algorithm");
/// The positions of a deployment.
pub const READ_LIVE_PORTFOLIO: &Operation = operation("read_live_portfolio");
/// Stops a deployment.
pub const STOP_LIVE_ALGORITHM: &Operation = operation("stop_live_algorithm");
/// Closes the positions of a deployment and stops it.
pub const LIQUIDATE_LIVE_ALGORITHM: &Operation = operation("liquidate_live_algorithm");
/// Whether a key of the Object Store is a folder.
pub const LIST_OBJECT_STORE_FILES: &Operation = operation("list_object_store_files");
/// Starts a download of objects.
pub const READ_OBJECT_STORE_FILE_JOB_ID: &Operation = operation("read_object_store_file_job_id");
/// The address of a download.
pub const READ_OBJECT_STORE_FILE_DOWNLOAD_URL: &Operation =
    operation("read_object_store_file_download_url");
/// How long an optimisation takes, from which its cost follows.
pub const ESTIMATE_OPTIMIZATION_TIME: &Operation = operation("estimate_optimization_time");
/// The backtests of a project, those of its optimisations included.
pub const LIST_BACKTESTS: &Operation = operation("list_backtests");
/// The optimisations of a project.
pub const LIST_OPTIMIZATIONS: &Operation = operation("list_optimizations");
/// The project of an optimisation, its state, and the combinations that were tried.
pub const READ_OPTIMIZATION: &Operation = operation("read_optimization");
/// The name of a project, its settings and its libraries.
pub const READ_PROJECT: &Operation = operation("read_project");
/// The names of all projects of an account.
pub const LIST_PROJECTS: &Operation = operation("list_projects");

/// The reads by which the host counts what was tried in a project.
pub const TRIAL_READS: [&Operation; 4] = [
    READ_FILE,
    LIST_BACKTESTS,
    LIST_OPTIMIZATIONS,
    READ_OPTIMIZATION,
];

/// The read whose answer shows whether a write with this effect happened; `None` if no read does.
#[must_use]
pub fn showing(effect: Effect) -> Option<&'static Operation> {
    match effect {
        Effect::Creates { list, .. } => by_name(list),
        Effect::Removes { read } => by_name(read),
        Effect::Deploys | Effect::EndsDeployment => Some(LIST_LIVE_ALGORITHMS),
        Effect::CreatesFile | Effect::ReplacesFile | Effect::Compiles => None,
    }
}
